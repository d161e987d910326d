"""Hypothesis strategies for scenarios; what they draw is valid by construction.

Only booleans and ``sampled_from`` over short sequences are drawn from. Hypothesis collects constants of 100 and more from local
source and uses them wherever an integer, or an index, may take them: a longer sequence would make the inputs depend on the text of
the candidate.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar, cast

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir, storage_directory
from hypothesis.errors import InvalidArgument

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.canvas import Canvas, common_letters, count_pages, fitting_letters, pages_of
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import (
    EVENT_OPS,
    GLOBAL_MODES,
    MIN_MTHP_ORDER,
    ORDER_MODES,
    PMD_STATES,
    POINTS,
    VMA_FLAGS,
    Config,
    Driver,
    DriverKind,
    Event,
    Failure,
    Geometry,
    Scenario,
    Tunables,
    Vma,
)
from kmm.scenario.page import Kind, Lru, PageState
from kmm.scenario.toml import canonical_bytes

T = TypeVar("T")

GEOMETRIES: Final = (
    Geometry(ptes=8, lru_batch=1),
    Geometry(ptes=8, lru_batch=3),
    Geometry(ptes=16, lru_batch=1),
    Geometry(ptes=16, lru_batch=3),
    Geometry(),
)
_FLAGS: Final[tuple[tuple[str, ...], ...]] = (
    *(("read", "write"),) * 8,
    *(("hugepage", "read", "write"),) * 3,
    *(("read", "uffd_wp", "write"),) * 3,
    ("nohugepage", "read", "write"),
    ("read", "uffd_missing", "write"),
    ("exec", "read", "write"),
    ("hugepage", "read", "uffd_missing", "uffd_wp", "write"),
    *(("read",),) * 2,
    ("read", "uffd_wp"),
    (),
)
_OPS_ON_HUGE: Final = ("sysfs", "exit", "prctl")
_LIMITS: Final = ("max_ptes_none", "max_ptes_swap", "max_ptes_shared")
_TOP_PICKS: Final = 99
_DIGIT: Final = 64
_BATCH: Final = 100
_IDLE_BATCHES: Final = 5


@functools.lru_cache(1024)
def _sampled(values: Sequence[object]) -> st.SearchStrategy[object]:
    if not 1 <= len(values) <= _TOP_PICKS:
        raise InvalidArgument(f"{len(values)} values to pick from; give 1 to {_TOP_PICKS}")
    return st.sampled_from(values)


def _pick(draw: st.DrawFn, values: Sequence[T]) -> T:
    """One of at most 99 values, a tuple or a range; a value that is repeated comes more often."""
    return cast(T, draw(_sampled(values)))


def _member(draw: st.DrawFn, values: Sequence[T]) -> T:
    """One of any number of values."""
    while len(values) > _DIGIT:
        size = -(-len(values) // _DIGIT)
        start = size * _pick(draw, range(-(-len(values) // size)))
        values = values[start : start + size]
    return _pick(draw, values)


@st.composite
def _drawn(draw: st.DrawFn, build: Callable[[st.DrawFn], T]) -> T:
    return build(draw)


def _need(good: bool, problem: str, remedy: str) -> None:
    if not good:
        raise InvalidArgument(f"{problem}; {remedy}")


def _need_geometry(geometry: Geometry) -> None:
    _need(isinstance(geometry, Geometry), f"geometry is {geometry!r}", "give a kmm.scenario.model.Geometry")


def _pages(geometry: Geometry, at: Sequence[int] | None) -> Sequence[int]:
    """The pages that may be named: ``at``, or all."""
    _need_geometry(geometry)
    if at is None:
        return range(geometry.ptes)
    good = len(at) > 0 and all(0 <= page < geometry.ptes for page in at)
    _need(good, "at must name pages of the table", f"give one or more of 0 to {geometry.ptes - 1}")
    return tuple(at)


def _alphabet(geometry: Geometry, letters: Mapping[str, PageState] | None, flags: Sequence[str]) -> dict[str, PageState]:
    """The letters to draw from: those given, or the default alphabet, as far as they fit."""
    _need_geometry(geometry)
    fitting = fitting_letters(ALPHABET if letters is None else letters, geometry, flags)
    good = any(page.index is None for page in fitting.values())
    _need(good, "no letter fits the geometry and the flags", "give a letter without index, or None for the default alphabet")
    return fitting


def page_states() -> st.SearchStrategy[PageState]:
    """Any page state that can exist, of folio orders up to 3."""
    return _drawn(_draw_page_state)


def _draw_page_state(draw: st.DrawFn) -> PageState:
    kind = _pick(draw, (Kind.PRESENT, Kind.SWAP, Kind.PRESENT, Kind.ZERO, Kind.NONE))
    if kind in (Kind.NONE, Kind.ZERO):
        return PageState(kind=kind, young=kind is Kind.ZERO and draw(st.booleans()))
    mapped_by = _pick(draw, (0, 0, 1, 2, 3))
    exclusive = mapped_by == 0 and draw(st.booleans())
    uffd_wp, soft_dirty, swapcache = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    if kind is Kind.SWAP:
        return PageState(
            kind=kind, mapped_by=mapped_by, exclusive=exclusive, uffd_wp=uffd_wp, soft_dirty=soft_dirty, swapcache=swapcache
        )
    order = 0 if swapcache else _pick(draw, (0, 0, 2, 3))
    return PageState(
        kind=kind,
        young=draw(st.booleans()),
        dirty=draw(st.booleans()),
        write=exclusive and not uffd_wp and draw(st.booleans()),
        exclusive=exclusive,
        uffd_wp=uffd_wp,
        soft_dirty=soft_dirty,
        swapcache=swapcache,
        order=order,
        index=_pick(draw, (None, *range(1 << order))) if order else None,
        mapped_by=mapped_by,
        pins=_pick(draw, (0, 0, 0, 1, 8)),
        locked=_pick(draw, (False, False, True)),
        lru=_pick(draw, (Lru.LIST, Lru.LIST, Lru.OFF) if order else (Lru.LIST, Lru.LIST, Lru.OFF, Lru.BATCH)),
        referenced=draw(st.booleans()),
        node=_pick(draw, (0, 0, 1, 3)),
    )


def page_maps(
    geometry: Geometry, letters: Mapping[str, PageState] | None = None, *, at: Sequence[int] | None = None
) -> st.SearchStrategy[str]:
    """Maps of runs with a few deviating pages.

    :param letters: letters to draw from; ``None``: the default alphabet
    :param at: where pages deviate; ``None``: anywhere
    """
    alphabet, pages = _alphabet(geometry, letters, VMA_FLAGS), _pages(geometry, at)
    return _drawn(lambda draw: _draw_map(draw, geometry, alphabet, pages))


def _draw_map(draw: st.DrawFn, geometry: Geometry, letters: Mapping[str, PageState], at: Sequence[int]) -> str:
    nr = geometry.ptes
    canvas = Canvas(nr, letters)
    common = common_letters(letters)
    everything = range(nr)
    canvas.paint(_member(draw, tuple(c for c in common if letters[c].index is None)), 0, nr)
    for _ in range(_pick(draw, (0, 1, 1, 2, 2, 3, 4))):
        letter = _member(draw, common)
        canvas.paint(letter, _member(draw, everything), nr >> _pick(draw, range(1, geometry.pmd_order + 1)))
    for _ in range(_pick(draw, (0, 0, 1, 1, 2, 3))):
        canvas.paint(_member(draw, tuple(letters)), _member(draw, at), 1)
    return canvas.text()


def vmas(
    geometry: Geometry, *, flags: Sequence[str] | None = None, letters: Mapping[str, PageState] | None = None
) -> st.SearchStrategy[Vma]:
    """VMAs with maps that fit their flags.

    :param flags: the VMA's flags; ``None``: any
    :param letters: letters to draw from; ``None``: the default alphabet
    """
    _need_vma(geometry, flags, letters)
    return _drawn(lambda draw: _draw_vma(draw, geometry, flags, letters, range(geometry.ptes)))


def _need_vma(geometry: Geometry, flags: Sequence[str] | None, letters: Mapping[str, PageState] | None) -> None:
    if flags is not None:
        known = not isinstance(flags, str) and all(flag in VMA_FLAGS for flag in flags)
        _need(known, f"flags = {flags!r} are not VMA flags", "give some of " + ", ".join(VMA_FLAGS))
        _need(not {"hugepage", "nohugepage"} <= set(flags), "a VMA cannot be both hugepage and nohugepage", "drop one")
    for each in _FLAGS if flags is None else (flags,):
        _alphabet(geometry, letters, each)


def _draw_vma(
    draw: st.DrawFn, geometry: Geometry, flags: Sequence[str] | None, letters: Mapping[str, PageState] | None, at: Sequence[int]
) -> Vma:
    chosen = _pick(draw, _FLAGS) if flags is None else tuple(sorted(set(flags)))
    alphabet = _alphabet(geometry, letters, chosen)
    pages = _draw_map(draw, geometry, alphabet, at)
    needed = pages_of(pages, alphabet, Kind.PRESENT) or pages_of(pages, alphabet, Kind.SWAP)
    return Vma(pages=pages, flags=chosen, anon_vma=bool(needed) or draw(st.booleans()))


def tunables(geometry: Geometry, *, near: Mapping[str, Sequence[int]] | None = None) -> st.SearchStrategy[Tunables]:
    """Sysfs values.

    :param near: page counts, by name of the limit; the limit is then often set to one of them, or to one less
    """
    _need_geometry(geometry)
    counts = dict(near or {})
    for name in counts:
        _need(name in _LIMITS, f'"{name}" is not a limit', "use " + ", ".join(_LIMITS))
    return _drawn(lambda draw: _draw_tunables(draw, geometry, counts))


def _draw_tunables(draw: st.DrawFn, geometry: Geometry, near: Mapping[str, Sequence[int]]) -> Tunables:
    usual = Tunables.default(geometry)
    top = geometry.ptes - 1
    limits: dict[str, int] = {}
    for name in _LIMITS:
        default: int = getattr(usual, name)
        counts = [min(top, max(0, value)) for n in near.get(name, ()) for value in (n - 1, n)]
        limits[name] = _member(draw, (default, default, 0, top, *counts))
    return Tunables(
        **limits,
        enabled=_pick(draw, (*("always",) * 5, *GLOBAL_MODES)),
        hugepages=_draw_orders(draw, usual.hugepages),
        defrag=_pick(draw, (True, True, True, False)),
        shrink_underused=_pick(draw, (True, True, True, False)),
    )


def _draw_orders(draw: st.DrawFn, usual: tuple[str, ...]) -> tuple[str, ...]:
    """The per-order switches."""
    how = _pick(draw, ("usual", "all", "all", "one", "mixed"))
    if how == "usual":
        return usual
    if how == "all":
        return ("always",) * len(usual)
    if how == "one":
        on = _pick(draw, range(len(usual)))
        return tuple("always" if order == on else "never" for order in range(len(usual)))
    return tuple(_pick(draw, ("always", *ORDER_MODES)) for _ in usual)


def configs() -> st.SearchStrategy[Config]:
    """Kernel configurations."""
    return _drawn(_draw_config)


def _draw_config(draw: st.DrawFn) -> Config:
    return Config(
        debug_vm=_pick(draw, (True, True, True, False)),
        split_ptlocks=_pick(draw, (True, True, True, False)),
        tlb=_pick(draw, ("broadcast", "broadcast", "ipi")),
        arch=_pick(draw, ("x86", "x86", "x86", "walking")),
    )


def drivers(geometry: Geometry, *, kinds: Sequence[DriverKind] = tuple(DriverKind)) -> st.SearchStrategy[Driver]:
    """Drivers; direct attempts are aligned.

    :param kinds: the kinds to draw from; one that is repeated comes more often
    """
    _need_geometry(geometry)
    _need_kinds(kinds)
    return _drawn(lambda draw: _draw_driver(draw, geometry, tuple(kinds)))


def _need_kinds(kinds: Sequence[DriverKind]) -> None:
    good = len(kinds) > 0 and all(isinstance(kind, DriverKind) for kind in kinds)
    _need(good, f"kinds = {kinds!r} are not kinds of driver", "give one or more DriverKind")


def _draw_driver(draw: st.DrawFn, geometry: Geometry, kinds: tuple[DriverKind, ...]) -> Driver:
    kind = _pick(draw, kinds)
    if kind is not DriverKind.DIRECT:
        return Driver(kind=kind)
    order = _pick(draw, range(MIN_MTHP_ORDER, geometry.pmd_order + 1))
    return Driver(
        kind=kind,
        order=order,
        offset=_member(draw, range(geometry.ptes >> order)) << order,
        is_khugepaged=draw(st.booleans()),
        mmap_locked=draw(st.booleans()),
        referenced=_pick(draw, (None, None, None, 0, 1, geometry.ptes // 2 - 1, geometry.ptes // 2)),
        unmapped=_pick(draw, (None, None, None, 0, 1)),
    )


def events(geometry: Geometry, *, ops: Sequence[str] = EVENT_OPS, at: Sequence[int] | None = None) -> st.SearchStrategy[Event]:
    """Events.

    :param ops: the operations to draw from
    :param at: pages that may be pinned or zapped; ``None``: any
    """
    good = not isinstance(ops, str) and len(ops) > 0 and all(op in EVENT_OPS for op in ops)
    _need(good, f"ops = {ops!r} are not events", "give one or more of " + ", ".join(EVENT_OPS))
    pages = _pages(geometry, at)
    return _drawn(lambda draw: _draw_event(draw, geometry, tuple(ops), pages))


def _draw_event(draw: st.DrawFn, geometry: Geometry, ops: tuple[str, ...], at: Sequence[int]) -> Event:
    op, before, nth = _pick(draw, ops), _pick(draw, POINTS), _pick(draw, (1, 1, 1, 2, 3))
    if op == "sysfs":
        name, value = _draw_setting(draw, geometry)
        return Event(op=op, before=before, nth=nth, name=name, value=value)
    return Event(op=op, before=before, nth=nth, page=_member(draw, at) if op in ("pin", "zap") else None)


def _draw_setting(draw: st.DrawFn, geometry: Geometry) -> tuple[str, str]:
    """Name and value of a sysfs write."""
    orders = tuple(f"hugepages-{order}" for order in range(MIN_MTHP_ORDER, geometry.pmd_order + 1))
    name = _pick(draw, ("enabled", *orders, *_LIMITS))
    if name in _LIMITS:
        return name, str(_pick(draw, (0, 1, geometry.ptes // 2, geometry.ptes - 1)))
    return name, _pick(draw, GLOBAL_MODES[::-1] if name == "enabled" else ORDER_MODES[::-1])


def failures(geometry: Geometry, *, at: Sequence[int] | None = None) -> st.SearchStrategy[Failure]:
    """Injected failures.

    :param at: pages that may fail; ``None``: any
    """
    pages = _pages(geometry, at)
    return _drawn(lambda draw: _draw_failure(draw, pages, pages))


def _draw_failure(draw: st.DrawFn, present: Sequence[int], swapped: Sequence[int]) -> Failure:
    by_page = {"poison": present, "swapin_error": swapped, "swapin_retry": swapped}
    kind = _pick(draw, ("alloc", "charge", *(kind for kind, pages in by_page.items() if pages)))
    if kind in by_page:
        return Failure(kind=kind, page=_member(draw, by_page[kind]))
    return Failure(kind=kind, nth=_pick(draw, (1, 1, 1, 2, 3)))


def scenarios(
    geometry: Geometry | None = None,
    *,
    flags: Sequence[str] | None = None,
    letters: Mapping[str, PageState] | None = None,
    kinds: Sequence[DriverKind] = tuple(DriverKind),
    with_events: bool = True,
    with_failures: bool = True,
) -> st.SearchStrategy[Scenario]:
    """Scenarios within the contract.

    :param geometry: ``None``: one of :data:`GEOMETRIES`
    :param flags: the VMA's flags; ``None``: any
    :param letters: letters beyond the default alphabet
    :param kinds: kinds of driver; one that is repeated comes more often
    :param with_events: some scenarios have events
    :param with_failures: some scenarios have failures
    """
    extra = dict(letters or {})
    clash = sorted(set(extra) & set(ALPHABET))
    _need(not clash, f"letters has {clash} of the default alphabet", "choose other letters")
    _need_kinds(kinds)
    alphabet = {**ALPHABET, **extra}
    for each in GEOMETRIES if geometry is None else (geometry,):
        _need_vma(each, flags, alphabet)

    def build(draw: st.DrawFn) -> Scenario:
        of = _pick(draw, GEOMETRIES) if geometry is None else geometry
        driver = _draw_driver(draw, of, tuple(kinds))
        inside = range(of.ptes) if driver.order is None else range(driver.offset, driver.offset + (1 << driver.order))
        pmd = _pick(draw, (*("table",) * 40, *PMD_STATES))
        vma = _draw_vma(draw, of, flags, alphabet, inside) if pmd == "table" else _draw_bare_vma(draw, of, flags, pmd)
        present = tuple(page for page in pages_of(vma.pages, alphabet, Kind.PRESENT) if page in inside)
        swapped = tuple(page for page in pages_of(vma.pages, alphabet, Kind.SWAP) if page in inside)
        ops = _OPS_ON_HUGE if pmd == "huge" else EVENT_OPS
        return Scenario(
            geometry=of,
            config=_draw_config(draw),
            tunables=_draw_tunables(draw, of, count_pages(vma.pages, alphabet, of, driver)),
            vmas=(vma,),
            letters=tuple((letter, extra[letter]) for letter in sorted(set(vma.pages) & set(extra))),
            pmd=pmd,
            driver=driver,
            events=_draw_some(draw, lambda: _draw_event(draw, of, ops, inside)) if with_events else (),
            failures=_draw_some(draw, lambda: _draw_failure(draw, present, swapped)) if with_failures else (),
        )

    return _drawn(build)


def _draw_bare_vma(draw: st.DrawFn, geometry: Geometry, flags: Sequence[str] | None, pmd: str) -> Vma:
    """A VMA whose PMD entry is no table."""
    chosen = _pick(draw, _FLAGS) if flags is None else tuple(sorted(set(flags)))
    return Vma(pages="." * geometry.ptes, flags=chosen, anon_vma=pmd == "huge" or draw(st.booleans()))


def _draw_some(draw: st.DrawFn, item: Callable[[], T]) -> tuple[T, ...]:
    """None mostly, else one or two."""
    return tuple(item() for _ in range(_pick(draw, (0, 0, 0, 0, 1, 1, 2))))


def generate(geometry: Geometry, count: int, seed: int) -> list[Scenario]:
    """Distinct scenarios, the same for the same arguments in every process.

    :param count: how many
    :param seed: any integer
    :raises ScenarioError: there are not that many
    """
    _need_geometry(geometry)
    _need(isinstance(count, int), f"count is {count!r}", "give a whole number")
    _need(count >= 0, f"count = {count} is negative", "give 0 or more")
    _need(isinstance(seed, int), f"seed is {seed!r}", "give a whole number")
    found: dict[bytes, Scenario] = {}
    batch = idle = 0
    with _private_storage():
        while len(found) < count and idle < _IDLE_BATCHES:
            before = len(found)
            for each in _batch(scenarios(geometry), f"{seed}:{batch}"):
                found.setdefault(canonical_bytes(each), each)
            batch += 1
            idle = idle + 1 if len(found) == before else 0
    if len(found) < count:
        raise ScenarioError(f"only {len(found)} distinct scenarios were found", "ask for fewer")
    return list(found.values())[:count]


def _batch(strategy: st.SearchStrategy[Scenario], name: str) -> list[Scenario]:
    """What Hypothesis draws in one run with this seed."""
    drawn: list[Scenario] = []

    @seed(name)
    @settings(
        database=None,
        deadline=None,
        derandomize=False,
        max_examples=_BATCH,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(scenario: Scenario) -> None:
        drawn.append(scenario)

    collect()
    return drawn


@contextlib.contextmanager
def _private_storage() -> Iterator[None]:
    """Keep Hypothesis from leaving files in the current directory."""
    before = storage_directory().path
    with tempfile.TemporaryDirectory(prefix="kmm-") as directory:
        set_hypothesis_home_dir(directory)
        try:
            yield
        finally:
            set_hypothesis_home_dir(before)
