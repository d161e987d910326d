"""Make a scenario that shows a difference as small as it can be and still show one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from kmm.judge.minimise_steps import smaller_systems
from kmm.judge.recut import recuts
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.checks import GAP
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import Config, Driver, DriverKind, Geometry, Scenario, Tunables, Vma

_NOTHING: Final = "."
_PLAIN: Final = "a"
_KINDS: Final = (DriverKind.KHUGEPAGED, DriverKind.MADVISE, DriverKind.DIRECT, DriverKind.STEPS)


def minimise(s: Scenario, differs: Callable[[Scenario], bool]) -> Scenario:
    """A smallest scenario that ``differs``, found from ``s`` by steps that each make it smaller.

    Nothing can be left out of it: without any one of its page states, events or failures, or with any one setting at its
    default, the difference is gone. Name and remark are dropped. Deterministic.

    :param differs: shows the difference; asked about valid scenarios only
    :raises ValueError: ``s`` itself does not differ
    """
    search = _Search(attrs.evolve(s, name="", remark="", assumed=()), differs)
    if not differs(search.best):
        raise ValueError("the scenario shows no difference")
    while search.sweep():
        pass
    return search.best


class _Search:
    """The smallest scenario so far, and those that did not do."""

    def __init__(self, s: Scenario, differs: Callable[[Scenario], bool]) -> None:
        self.best = s
        self.differs = differs
        self.rejected: set[Scenario] = set()

    def sweep(self) -> bool:
        """Try every kind of step once; false when none made it smaller."""
        before = self.best
        if not self.best.steps and not self.best.actors:
            self.first_of(recuts)
        for steps in (smaller_systems, _without, _driver, _settings):
            while self.first_of(steps):
                pass
        for letter in (_NOTHING, _PLAIN):
            self.blank(letter)
        while self.first_of(_letters):
            pass
        return self.best != before

    def first_of(self, steps: Callable[[Scenario], Iterator[Scenario]]) -> bool:
        """Take the first step that does."""
        return any(self.take(each) for each in steps(self.best))

    def take(self, s: Scenario) -> bool:
        """Go on from ``s`` if it is smaller and differs."""
        if size(s) >= size(self.best) or s in self.rejected:
            return False
        if not self.differs(s):
            self.rejected.add(s)
            return False
        self.best = s
        return True

    def blank(self, letter: str) -> None:
        """Put ``letter`` in place of blocks of pages, large blocks first."""
        block = self.best.geometry.pages
        while block:
            for start in range(0, self.best.geometry.pages, block):
                pages = self.best.pages
                end = start + block
                blank = "".join(letter if c not in (_NOTHING, GAP) else c for c in pages[start:end])
                for each in _with_map(self.best, pages[:start] + blank + pages[end:]):
                    self.take(each)
            block //= 2


def size(s: Scenario) -> tuple[int, ...]:
    """How large a scenario is; what weighs most stands first."""
    pages = s.pages.replace(GAP, "")
    empty = pages.count(_NOTHING)
    nth = sum(event.nth for event in s.events) + sum(failure.nth for failure in s.failures)
    others = "".join([vma.pages for process in s.processes for vma in process.vmas])
    return (
        s.geometry.ptes,
        s.geometry.ranges,
        len(s.processes) + len(s.steps) + len(s.actors),
        sum(step.length for step in (*s.steps, *s.actors)),
        sum(step.page or 0 for step in (*s.steps, *s.actors)),
        len(others) - others.count(_NOTHING) + sum(len(process.vmas) for process in s.processes),
        len(others) - others.count(_PLAIN),
        sum((process.pmd != "table") + (process.thp_disable != "no") for process in s.processes),
        len(s.events) + len(s.failures),
        len(pages) - empty,
        len(pages) - empty - pages.count(_PLAIN),
        len(set(pages)),
        len(s.letters),
        s.contract != "checked",
        (s.pmd != "table") + bool(s.deposited) + (s.thp_disable != "no") + (s.memcg_room is not None),
        len(s.vmas) + sum((vma.start is not None) + bool(vma.before) + bool(vma.after) for vma in s.vmas),
        _KINDS.index(s.driver.kind),
        nth + s.driver.passes,
        _set(s.driver, Driver(kind=s.driver.kind, order=s.driver.order)) + sum(len(_odd_flags(vma)) + (not vma.anon_vma) for vma in s.vmas),
        _set(s.geometry, Geometry(ptes=s.geometry.ptes, ranges=s.geometry.ranges)) + _set(s.config, Config()),
        _set(s.tunables, Tunables.default(s.geometry)) + _odd_orders(s.tunables, s.geometry),
    )


def _set(part: attrs.AttrsInstance, default: attrs.AttrsInstance) -> int:
    """How many fields are not at their default."""
    return sum(getattr(part, field.name) != getattr(default, field.name) for field in attrs.fields(type(part)))


def _odd_flags(vma: Vma) -> list[str]:
    """VMA flags that are there and usually not, or not there and usually are."""
    return sorted(set(vma.flags) ^ set(_USUAL_FLAGS))


_USUAL_FLAGS: Final = ("read", "write")


def _odd_orders(t: Tunables, geometry: Geometry) -> int:
    return sum(mode != usual for mode, usual in zip(t.hugepages, Tunables.default(geometry).hugepages, strict=True))


def _changed(s: Scenario, **changes: object) -> Iterator[Scenario]:
    """``s`` with some fields changed, if such a scenario can exist."""
    try:
        yield attrs.evolve(s, **changes)  # type: ignore[arg-type]
    except ScenarioError:
        return


def _with_map(s: Scenario, pages: str) -> Iterator[Scenario]:
    others = {letter for process in s.processes for letter in s.pages_of(process)}
    used = tuple((letter, page) for letter, page in s.letters if letter in pages or letter in others)
    vmas = tuple([attrs.evolve(vma, pages=pages[vma.first : vma.end]) for vma in s.vmas])
    yield from _changed(s, vmas=vmas, letters=used)


def _without(s: Scenario) -> Iterator[Scenario]:
    """Without events and failures: all, one, or at an earlier time."""
    yield from _changed(s, events=(), failures=())
    for name in ("events", "failures"):
        parts = getattr(s, name)
        for i, part in enumerate(parts):
            yield from _changed(s, **{name: parts[:i] + parts[i + 1 :]})
            for nth in range(1, min(part.nth, 8)):
                yield from _changed(s, **{name: (*parts[:i], attrs.evolve(part, nth=nth), *parts[i + 1 :])})


def _driver(s: Scenario) -> Iterator[Scenario]:
    """A scan in place of a direct attempt, khugepaged in place of MADV_COLLAPSE, the defaults of an attempt."""
    d = s.driver
    for kind in _KINDS[: _KINDS.index(d.kind)]:
        if s.steps and (kind is DriverKind.DIRECT or s.actors):
            continue
        driver = Driver(kind=kind)
        if s.steps:
            yield from _changed(s, driver=driver, steps=())
            continue
        if d.order is not None:
            yield from _changed(s, driver=driver, tunables=s.tunables.with_orders(s.geometry, d.order), contract="checked")
        yield from _changed(s, driver=driver, contract="checked")
    yield from _changed(s, contract="checked")
    for passes in range(1, d.passes):
        yield from _changed(s, driver=attrs.evolve(d, passes=passes))
    if d.order is not None:
        yield from _changed(s, driver=Driver(kind=d.kind, order=d.order))
        yield from _reset(s, "driver", Driver(kind=d.kind, order=d.order))


def _settings(s: Scenario) -> Iterator[Scenario]:
    """Tunables, configuration, geometry and VMA at their defaults: whole, then one by one."""
    tunables = Tunables.default(s.geometry)
    yield from _changed(s, tunables=tunables)
    yield from _reset(s, "tunables", tunables)
    for i, mode in enumerate(tunables.hugepages):
        modes = s.tunables.hugepages
        yield from _changed(s, tunables=attrs.evolve(s.tunables, hugepages=(*modes[:i], mode, *modes[i + 1 :])))
    yield from _reset(s, "config", Config())
    yield from _reset(s, "geometry", Geometry(ptes=s.geometry.ptes, ranges=s.geometry.ranges))
    for name, usual in (("pmd", "table"), ("deposited", 0), ("thp_disable", "no"), ("memcg_room", None)):
        yield from _changed(s, **{name: usual})
    yield from _vmas(s)


def _vmas(s: Scenario) -> Iterator[Scenario]:
    """One VMA over the whole table, one VMA less, and each VMA as usual."""
    for vma in s.vmas:
        yield from _changed(s, vmas=(Vma(pages=s.pages.replace(GAP, _NOTHING), flags=vma.flags, anon_vma=vma.anon_vma),))
    for number, vma in enumerate(s.vmas):
        before, after = s.vmas[:number], s.vmas[number + 1 :]
        gone = "".join(other.pages for other in (*before, *after))
        yield from _changed(s, vmas=(*before, *after), letters=tuple((c, page) for c, page in s.letters if c in gone))
        for usual in _usual(vma):
            yield from _changed(s, vmas=(*before, usual, *after))


def _usual(vma: Vma) -> Iterator[Vma]:
    """The VMA with one flag less that it usually has not, or one more that it has, or with another field as usual."""
    for flag in _odd_flags(vma):
        with contextlib.suppress(ScenarioError):
            yield attrs.evolve(vma, flags=tuple(sorted(set(vma.flags) ^ {flag})))
    yield attrs.evolve(vma, anon_vma=True)
    yield attrs.evolve(vma, before=0)
    yield attrs.evolve(vma, after=0)


def _reset(s: Scenario, name: str, default: attrs.AttrsInstance) -> Iterator[Scenario]:
    """One field of a part after the other at its default."""
    part = getattr(s, name)
    for field in attrs.fields(type(part)):
        value = getattr(default, field.name)
        if getattr(part, field.name) != value:
            yield from _changed(s, **{name: attrs.evolve(part, **{field.name: value})})


def _letters(s: Scenario) -> Iterator[Scenario]:
    """One letter less: each in place of another; a letter of the default alphabet in place of one that is spelled out."""
    pages = s.pages
    present = sorted(set(pages) - {_NOTHING, _PLAIN, GAP})
    for letter in present:
        for other in (*(c for c in present if c != letter), *(ALPHABET if letter not in ALPHABET else ())):
            yield from _with_map(s, pages.replace(letter, other))
