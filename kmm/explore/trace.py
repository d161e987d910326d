"""The steps of one execution, which happens before which, and the races between them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kmm.explore.place import READ, SHARE, WRITE, Footprint, Place

if TYPE_CHECKING:
    from kmm.explore.proc import Proc

NO_MASK: Final = 0


class Race:
    """Two dependent steps with nothing between them that orders them: the later one could also come first.

    :param early: event
    :param late: event; the length of the trace for a step on which a task is stuck
    :param who: the later step's task
    :param footprint: what the later step touches, or would touch if it came first
    :param pre: set of events (bit n: event n) that come before the later step even then
    :param lock: the lock that the later step takes, or tries to take, and whether exclusively
    :param tries: it only tries
    """

    __slots__ = ("early", "footprint", "late", "lock", "pre", "tries", "who")

    def __init__(
        self, early: int, late: int, who: str, footprint: Footprint, pre: int, lock: tuple[Place, bool] | None = None, tries: bool = False
    ) -> None:
        self.early = early
        self.late = late
        self.who = who
        self.footprint = footprint
        self.pre = pre
        self.lock = lock
        self.tries = tries


class Trace:
    """What happened so far in one execution.

    Sets of events are integers: bit n is event n.

    """

    __slots__ = ("before", "prints", "races", "who")

    def __init__(self) -> None:
        self.who: list[str] = []
        self.prints: list[Footprint] = []
        self.before: list[int] = []
        """For each event the set of those that happen before it."""
        self.races: list[Race] = []

    def touch(self, proc: Proc, place: Place, kind: int) -> int:
        """Log a step that touches one place, and its object's being there; the value is its event."""
        i = len(self.before)
        life = place.life
        last = place.last
        if kind == READ:
            found = [last, *place.shares] if place.shares else [last]
            place.reads.append(i)
        elif kind == WRITE:
            found = [last, *place.reads]
            if place.shares:
                found = sorted([*found, *place.shares])
                place.shares = []
            place.last = i
            place.reads = []
        else:
            found = sorted([*place.reads, last])
            place.shares.append(i)
        if life is not None:
            life.reads.append(i)
            if life.last >= 0:
                found = sorted([*found, life.last])
        mask = pre = proc.mask
        footprint = place.living[kind]
        for e in reversed(found):
            if e >= 0 and not mask >> e & 1:
                self.races.append(Race(e, i, proc.name, footprint, pre))
                mask |= self.before[e] | 1 << e
        self.who.append(proc.name)
        self.prints.append(footprint)
        self.before.append(mask)
        proc.mask = mask | 1 << i
        proc.made += 1
        return i

    def touch_all(self, proc: Proc, places: list[tuple[Place, int]], after: int = NO_MASK, family: int = NO_MASK) -> int:
        """Log a step that touches several places, or none.

        :param after: events that made the step possible: it comes after them and cannot be moved before
        :param family: events of the same task's store buffer; the step waits for them if it is not a load
        """
        mask = proc.mask | after
        pre = mask
        footprint = tuple((place.name, kind) for place, kind in places)
        found = sorted({e for place, kind in places for e in _conflicts(place, kind)}, reverse=True)
        for e in found:
            if not mask >> e & 1:
                self.races.append(Race(e, len(self.before), proc.name, self._if_first(footprint, e, family), pre))
                mask |= self.before[e] | 1 << e
        for place, kind in places:
            _note(place, kind, len(self.before))
        return self._log(proc, footprint, mask)

    def attempt(self, proc: Proc, place: Place, kind: int, exclusive: bool, after: int) -> int:
        """Log that ``proc`` tried to take a lock: ``kind`` says whether it got it (WRITE, SHARE) or not (READ)."""
        known = len(self.races)
        i = self.touch_all(proc, [(place, kind)], after)
        for race in self.races[known:]:
            race.lock, race.tries = (place, exclusive), True
        if kind != READ:
            place.takes.append((i, exclusive))
        return i

    def drop(self, proc: Proc, place: Place, kind: int, take: int, after: int) -> int:
        """Log that ``proc`` gave up the lock that was taken in event ``take``."""
        i = self.touch_all(proc, [(place, kind)], after)
        place.drops[take] = i
        return i

    def take(self, proc: Proc, place: Place, exclusive: bool) -> int:
        """Log that ``proc`` waited for a lock and has it."""
        i = len(self.before)
        kind = WRITE if exclusive else SHARE
        self.lock_races(proc, place, exclusive)
        mask = proc.mask
        for e in _conflicts(place, kind):
            mask |= self.before[e] | 1 << e
        _note(place, kind, i)
        place.takes.append((i, exclusive))
        return self._log(proc, place.prints[kind], mask)

    def lock_races(self, proc: Proc, place: Place, exclusive: bool) -> None:
        """The earlier takers of a lock that the waiting ``proc`` could have come before."""
        footprint = place.prints[WRITE if exclusive else SHARE]
        for e, was_exclusive in reversed(place.takes):
            if (exclusive or was_exclusive) and not proc.mask >> e & 1:
                self.races.append(Race(e, len(self.before), proc.name, footprint, proc.mask, (place, exclusive)))
            if was_exclusive:
                break

    def waited(self, proc: Proc, place: Place, condition: Callable[[object], bool], kind: int, after: int) -> int:
        """Log a step that was possible only when ``condition`` held of the place's value."""
        i = len(self.before)
        pre = proc.mask | after
        mask = pre
        self.wait_races(proc, place, condition, kind, after)
        for e in reversed(place.reads if kind == WRITE else []):
            if not mask >> e & 1:
                self.races.append(Race(e, i, proc.name, place.prints[kind], pre))
                mask |= self.before[e] | 1 << e
        for e in _conflicts(place, kind):
            mask |= self.before[e] | 1 << e
        _note(place, kind, i)
        return self._log(proc, place.prints[kind], mask)

    def wait_races(self, proc: Proc, place: Place, condition: Callable[[object], bool], kind: int, after: int) -> None:
        """The last store before which the waiting ``proc`` could have gone on, too."""
        pre = proc.mask | after
        for e, value in reversed(place.history):
            if pre >> e & 1:
                return
            if condition(value):
                self.races.append(Race(e, len(self.before), proc.name, place.prints[kind], pre))
                return

    def canonical(self) -> bytes:
        """Equal for traces that differ in the order of independent steps only."""
        made: dict[str, int] = {}
        at: dict[str, list[tuple[int, list[tuple[str, int]]]]] = {}
        for who, footprint in zip(self.who, self.prints, strict=True):
            made[who] = number = made.get(who, 0) + 1
            for place, kind in footprint:
                groups = at.setdefault(place, [])
                if not groups or groups[-1][0] != kind or kind == WRITE:
                    groups.append((kind, []))
                groups[-1][1].append((who, number))
        for groups in at.values():
            for _, group in groups:
                group.sort()
        return hashlib.blake2b(repr((sorted(made.items()), sorted(at.items()))).encode(), digest_size=16).digest()

    def _if_first(self, footprint: Footprint, e: int, family: int) -> Footprint:
        """What a step touches if it comes before ``e``: a load before the store buffer is written back is served by the buffer."""
        if not family >> e & 1:
            return footprint
        return footprint[1:]

    def _log(self, proc: Proc, footprint: Footprint, mask: int) -> int:
        i = len(self.before)
        self.who.append(proc.name)
        self.prints.append(footprint)
        self.before.append(mask)
        proc.mask = mask | 1 << i
        proc.made += 1
        return i


def _conflicts(place: Place, kind: int) -> list[int]:
    found = [] if place.last < 0 else [place.last]
    if kind != READ:
        found += place.reads
    if kind != SHARE:
        found += place.shares
    return found


def _note(place: Place, kind: int, event: int) -> None:
    if kind == READ:
        place.reads.append(event)
    elif kind == SHARE:
        place.shares.append(event)
    else:
        place.last, place.reads, place.shares = event, [], []
