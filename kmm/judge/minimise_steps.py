"""Smaller steps, fewer processes and fewer ranges: for scenarios with steps or actors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from kmm.scenario.checks import GAP
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import Process, Scenario, Vma
from kmm.scenario.step import STEP_OPS, Step, Takes

_NOTHING: Final = "."
_PLAIN: Final = "a"


def fewer_steps(s: Scenario) -> Iterator[Scenario]:
    """Without a run of steps, long runs first; then each step over fewer pages."""
    run = len(s.steps) // 2
    while run:
        for first in range(0, len(s.steps), run):
            yield from changed(s, steps=s.steps[:first] + s.steps[first + run :])
        run //= 2
    for number, step in enumerate(s.steps):
        for smaller in _smaller(step):
            yield from changed(s, steps=(*s.steps[:number], smaller, *s.steps[number + 1 :]))


def _smaller(step: Step) -> Iterator[Step]:
    length = step.length // 2
    while length:
        yield attrs.evolve(step, length=length)
        if step.page is not None:
            yield attrs.evolve(step, length=length, page=step.page + step.length - length)
        length //= 2
    for page in sorted({0, (step.page or 0) // 2, (step.page or 1) - 1}):
        if step.page is not None and page < step.page:
            yield attrs.evolve(step, page=page)


def fewer_actors(s: Scenario) -> Iterator[Scenario]:
    """Without one actor; then each over fewer pages."""
    for number, actor in enumerate(s.actors):
        others = s.actors[:number], s.actors[number + 1 :]
        yield from changed(s, actors=(*others[0], *others[1]))
        for smaller in _smaller(actor):
            yield from changed(s, actors=(*others[0], smaller, *others[1]))


def fewer_processes(s: Scenario) -> Iterator[Scenario]:
    """Without one process that no step needs, and with emptier ones."""
    for number in range(len(s.processes), 0, -1):
        steps, actors = (tuple([_renumbered(x, number + 1) for x in part if not _by(x, number + 1)]) for part in (s.steps, s.actors))
        yield from changed(s, processes=(*s.processes[: number - 1], *s.processes[number:]), steps=steps, actors=actors)
    for number, process in enumerate(s.processes):
        for emptier in _emptier(process):
            yield from changed(s, processes=(*s.processes[:number], emptier, *s.processes[number + 1 :]))


def _by(step: Step, process: int) -> bool:
    return Takes.PROCESS in STEP_OPS[step.op][0] and step.process == process


def _renumbered(step: Step, gone: int) -> Step:
    return attrs.evolve(step, process=step.process - 1) if step.process > gone else step


def _emptier(process: Process) -> Iterator[Process]:
    yield attrs.evolve(process, pmd="table")
    yield attrs.evolve(process, thp_disable="no")
    for number, vma in enumerate(process.vmas):
        others = process.vmas[:number], process.vmas[number + 1 :]
        yield attrs.evolve(process, vmas=(*others[0], *others[1]))
        for pages in _blanked(vma):
            yield attrs.evolve(process, vmas=(*others[0], attrs.evolve(vma, pages=pages), *others[1]))


def _blanked(vma: Vma) -> Iterator[str]:
    """The map with a block of pages gone or plain, large blocks first."""
    for letter in (_NOTHING, _PLAIN):
        block = len(vma.pages)
        while block:
            for start in range(0, len(vma.pages), block):
                blank = "".join(letter if c != _NOTHING else c for c in vma.pages[start : start + block])
                yield vma.pages[:start] + blank + vma.pages[start + block :]
            block //= 2


def fewer_ranges(s: Scenario) -> Iterator[Scenario]:
    """Without the last range: what VMAs and steps have there goes."""
    if s.geometry.ranges == 1:
        return
    geometry = attrs.evolve(s.geometry, ranges=s.geometry.ranges - 1)
    end = geometry.pages
    try:
        spaces = [attrs.evolve(p, vmas=_cut(p.vmas, end), pmd=_first_words(p.pmd, geometry.ranges)) for p in s.address_spaces]
        steps, actors = (
            tuple([attrs.evolve(x, length=min(x.length, end - (x.page or 0))) for x in part if (x.page or 0) < end])
            for part in (s.steps, s.actors)
        )
    except ScenarioError:
        return
    own, *others = spaces
    yield from changed(s, geometry=geometry, vmas=own.vmas, pmd=own.pmd, processes=tuple(others), steps=steps, actors=actors)


def _cut(vmas: tuple[Vma, ...], end: int) -> tuple[Vma, ...]:
    """What lies before a page."""
    kept = [(vma, vma.pages[: end - vma.first]) for vma in vmas if vma.first < end]
    return tuple([attrs.evolve(vma, pages=pages, start=None if len(pages) == end else vma.first) for vma, pages in kept])


def _first_words(pmd: str, count: int) -> str:
    words = pmd.split()
    return pmd if len(words) == 1 else " ".join(words[:count])


def changed(s: Scenario, **changes: object) -> Iterator[Scenario]:
    """``s`` with some fields changed, if such a scenario can exist; without letters that nobody uses any more."""
    try:
        new = attrs.evolve(s, **changes)  # type: ignore[arg-type]
        used = {letter for process in new.address_spaces for letter in new.pages_of(process)} - {GAP}
        yield attrs.evolve(new, letters=tuple((letter, page) for letter, page in new.letters if letter in used))
    except ScenarioError:
        return


def smaller_systems(s: Scenario) -> Iterator[Scenario]:
    """Every scenario with steps or actors that is one reduction smaller."""
    if s.actors:
        yield from fewer_actors(s)
    if s.steps or s.actors:
        yield from fewer_ranges(s)
        yield from fewer_processes(s)
        yield from fewer_steps(s)
