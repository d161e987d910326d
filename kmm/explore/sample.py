"""Some schedules, drawn at random: for programs that have too many traces."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Final

import attrs

from kmm.explore.place import WRITE
from kmm.explore.proc import Proc
from kmm.explore.run import Run, Strategy
from kmm.explore.trace import Trace

PCT_DEPTH: Final = 3
"""Ordered steps that a bug needs, as PCT assumes."""


@attrs.frozen
class Profile:
    """What one execution of the program looked like.

    :param steps: how many
    :param at: for each place, how many of them each task made there
    """

    steps: int
    at: dict[str, Counter[str]]

    @classmethod
    def of(cls, trace: Trace) -> Profile:
        """Of this trace."""
        at: dict[str, Counter[str]] = {}
        for who, footprint in zip(trace.who, trace.prints, strict=True):
            for place, _ in footprint:
                at.setdefault(place, Counter())[who] += 1
        return cls(len(trace.who), at)


class RandomWalk:
    """Each task that can go on is as likely as any other.

    :param rng: only ``random()`` is called, which is the same on every Python
    """

    def __init__(self, rng: random.Random, profile: Profile) -> None:
        self.rng = rng

    def choose(self, run: Run) -> Proc | None:
        """Any."""
        enabled = run.enabled()
        return enabled[int(self.rng.random() * len(enabled))] if enabled else None


class Pct:
    """Probabilistic concurrency testing: random priorities, lowered at a few random steps (Burckhardt et al., ASPLOS 2010)."""

    def __init__(self, rng: random.Random, profile: Profile) -> None:
        self.rng = rng
        self.changes = sorted(int(rng.random() * max(profile.steps, 1)) for _ in range(PCT_DEPTH - 1))
        self.priority: dict[str, float] = {}
        self.lowest = 0.0

    def choose(self, run: Run) -> Proc | None:
        """The one of highest priority."""
        enabled = run.enabled()
        if not enabled:
            return None
        best = self._best(enabled)
        while self.changes and len(run.trace.before) >= self.changes[0]:
            self.changes.pop(0)
            self.lowest -= 1
            self.priority[best.name] = self.lowest
            best = self._best(enabled)
        return best

    def _best(self, enabled: list[Proc]) -> Proc:
        for proc in enabled:
            if proc.name not in self.priority:
                self.priority[proc.name] = self.rng.random()
        return max(enabled, key=lambda proc: (self.priority[proc.name], -proc.number))


class Pos:
    """Partial order sampling: every pending step has a random priority, drawn again when a step that depends on it is made.

    After Yuan, Yang and Gu (CAV 2018).
    """

    def __init__(self, rng: random.Random, profile: Profile) -> None:
        self.rng = rng
        self.priority: dict[str, float] = {}

    def choose(self, run: Run) -> Proc | None:
        """The one of highest priority."""
        enabled = run.enabled()
        if not enabled:
            return None
        for proc in enabled:
            if proc.name not in self.priority:
                self.priority[proc.name] = self.rng.random()
        best = max(enabled, key=lambda proc: (self.priority[proc.name], -proc.number))
        for proc in enabled:
            if proc is best or (proc.place is not None and proc.place is best.place and WRITE in (proc.kind, best.kind)):
                self.priority.pop(proc.name, None)
        return best


class Surw:
    """Selectively uniform random walk: at one place, picked at random, every order of the tasks' steps is about as likely as any other.

    Each task counts for as many steps there as it made in the profile. After Zhao et al. (ASPLOS 2025).
    """

    def __init__(self, rng: random.Random, profile: Profile) -> None:
        self.rng = rng
        places = sorted(place for place, counts in profile.at.items() if len(counts) > 1)
        self.place = places[int(rng.random() * len(places))] if places else ""
        self.left: Counter[str] = Counter(profile.at.get(self.place, {}))
        self.next = ""

    def choose(self, run: Run) -> Proc | None:
        """Any whose next step is elsewhere, or the one whose turn it is at the place."""
        enabled = run.enabled()
        if not enabled:
            return None
        waiting = [proc for proc in enabled if proc.place is not None and proc.place.name == self.place]
        if waiting and self.next not in [proc.name for proc in waiting]:
            self.next = self._draw([proc for proc in run.procs.values() if not proc.done and self.left[proc.name] > 0] or waiting).name
        free = [proc for proc in enabled if proc not in waiting or proc.name == self.next]
        if not free:
            self.next = self._draw(waiting).name
            free = [proc for proc in waiting if proc.name == self.next]
        chosen = free[int(self.rng.random() * len(free))]
        if chosen in waiting:
            self.left[chosen.name] -= 1
            self.next = ""
        return chosen

    def _draw(self, among: list[Proc]) -> Proc:
        """One task, as likely as it has steps left."""
        weights = [max(self.left[proc.name], 1) for proc in among]
        at = self.rng.random() * sum(weights)
        for proc, weight in zip(among, weights, strict=True):
            at -= weight
            if at < 0:
                return proc
        return among[-1]


SAMPLERS: Final[dict[str, Callable[[random.Random, Profile], Strategy]]] = {"random": RandomWalk, "pct": Pct, "pos": Pos, "surw": Surw}


def sampler(name: str, seed: int, number: int, profile: Profile) -> Strategy:
    """Who goes on in execution ``number``."""
    return SAMPLERS[name](random.Random(f"{seed}/{number}"), profile)
