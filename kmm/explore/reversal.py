"""Turning a race round: the steps that lead to a trace in which the later of two racing steps comes first."""

from __future__ import annotations

from kmm.explore.place import READ, SHARE, WRITE, Footprint, Place, dependent
from kmm.explore.trace import Race, Trace
from kmm.explore.wakeup import Sequence, Step


class Reversal:
    """One race turned round.

    :param start: the first event that comes after the later step now; those before it stay
    :param moved: that event and the others that come after
    """

    __slots__ = ("moved", "race", "start")

    def __init__(self, race: Race, start: int, moved: int) -> None:
        self.race = race
        self.start = start
        self.moved = moved


class Reversals:
    """The races of a finished execution, turned round."""

    __slots__ = ("after", "every", "made", "touched", "trace")

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.every = (1 << len(trace.before)) - 1
        self.after: dict[int, int] = {}
        """For an event: it, and what happens after it."""
        self.made: dict[str, int] = {}
        """Events of each task."""
        self.touched: dict[str, list[int]] = {}
        """For each place: events that READ, WRITE and SHARE it."""
        bit = 1
        for who, footprint in zip(trace.who, trace.prints, strict=True):
            self.made[who] = self.made.get(who, 0) | bit
            for place, kind in footprint:
                kinds = self.touched.get(place)
                if kinds is None:
                    kinds = self.touched[place] = [0, 0, 0]
                kinds[kind] |= bit
            bit <<= 1

    def of(self, race: Race) -> Reversal | None:
        """Turn a race round.

        A step that takes a lock cannot be made while somebody has it: whoever took the lock and would not have given it up again by then
        comes after the step as well. ``None`` when one of those has to come before it.
        """
        start = race.early
        moved = self._after(start)
        if race.lock is None:
            return Reversal(race, start, moved)
        place, exclusive = race.lock
        holders = _holders(place, exclusive, moved)
        if race.tries:
            race.footprint = place.prints[READ if holders else WRITE if exclusive else SHARE]
            return Reversal(race, start, moved)
        while holders:
            for event in holders:
                if race.pre >> event & 1:
                    return None
                moved |= self._after(event)
                start = min(start, event)
            holders = _holders(place, exclusive, moved)
        return Reversal(race, start, moved)

    def may_start_with(self, reversal: Reversal, who: str, footprint: Footprint) -> bool:
        """As :meth:`kmm.explore.wakeup.Sequence.may_start_with` of the reversal's sequence."""
        race, stays = reversal.race, self._stays(reversal)
        mine = self.made.get(who, 0) & stays
        if mine:
            return not self.trace.before[(mine & -mine).bit_length() - 1] & stays
        if who == race.who:
            return not (race.pre | self._dependent(race.footprint)) & stays
        return not self._dependent(footprint) & stays and not dependent(footprint, race.footprint)

    def sequence(self, reversal: Reversal) -> Sequence:
        """The steps from the reversal's start on, the later step of the race the last."""
        before, prints, who = self.trace.before, self.trace.prints, self.trace.who
        race, moved = reversal.race, reversal.moved
        steps: list[Step] = [(1 << j, who[j], prints[j], before[j]) for j in range(reversal.start, len(before)) if not moved >> j & 1]
        mask = race.pre
        for bit, _, footprint, earlier in steps:
            if not mask & bit and dependent(footprint, race.footprint):
                mask |= earlier | bit
        return Sequence([*steps, (1 << len(before), race.who, race.footprint, mask)])

    def _stays(self, reversal: Reversal) -> int:
        return self.every >> reversal.start << reversal.start & ~reversal.moved

    def _dependent(self, footprint: Footprint) -> int:
        """Events that depend on a step with this footprint."""
        mask = 0
        for place, kind in footprint:
            kinds = self.touched.get(place)
            if kinds is not None:
                mask |= kinds[WRITE]
                if kind != READ:
                    mask |= kinds[READ]
                if kind != SHARE:
                    mask |= kinds[SHARE]
        return mask

    def _after(self, event: int) -> int:
        found = self.after.get(event)
        if found is None:
            before = self.trace.before
            found = bit = 1 << event
            for later in range(event + 1, len(before)):
                if before[later] & bit:
                    found |= 1 << later
            self.after[event] = found
        return found


def _holders(place: Place, exclusive: bool, moved: int) -> list[int]:
    """Events that took the lock, and have not given it up when only what is not ``moved`` has happened."""
    held = []
    for take, was_exclusive in place.takes:
        if (exclusive or was_exclusive) and not moved >> take & 1:
            drop = place.drops.get(take)
            if drop is None or moved >> drop & 1:
                held.append(take)
    return held
