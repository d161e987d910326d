"""Tunables, configurations and drivers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hypothesis import strategies as st

from kmm.scenario.checks import MIN_MTHP_ORDER
from kmm.scenario.model import GLOBAL_MODES, ONE_TABLE, ORDER_MODES, Config, Driver, DriverKind, Geometry, Tunables
from kmm.scenario.strategies.draw import drawn, member, need, need_geometry, need_kinds, pick

LIMITS: Final = ("max_ptes_none", "max_ptes_swap", "max_ptes_shared")


def tunables(geometry: Geometry, *, near: Mapping[str, Sequence[int]] | None = None) -> st.SearchStrategy[Tunables]:
    """Sysfs values.

    :param near: page counts, by name of the limit; the limit is then often set to one of them, or to one less
    """
    need_geometry(geometry)
    counts = dict(near or {})
    for name in counts:
        need(name in LIMITS, f'"{name}" is not a limit', "use " + ", ".join(LIMITS))
    return drawn(lambda draw: draw_tunables(draw, geometry, counts))


def draw_tunables(draw: st.DrawFn, geometry: Geometry, near: Mapping[str, Sequence[int]]) -> Tunables:
    usual = Tunables.default(geometry)
    top = geometry.ptes - 1
    limits: dict[str, int] = {}
    for name in LIMITS:
        default: int = getattr(usual, name)
        counts = [min(top, max(0, value)) for n in near.get(name, ()) for value in (n - 1, n)]
        limits[name] = member(draw, (default, default, 0, top, *counts))
    return Tunables(
        max_ptes_none=limits["max_ptes_none"],
        max_ptes_swap=limits["max_ptes_swap"],
        max_ptes_shared=limits["max_ptes_shared"],
        enabled=pick(draw, (*("always",) * 5, *GLOBAL_MODES)),
        hugepages=_draw_orders(draw, usual.hugepages),
        defrag=pick(draw, (True, True, True, False)),
        shrink_underused=pick(draw, (True, True, True, False)),
        node_reclaim=pick(draw, (False, False, False, True)),
    )


def _draw_orders(draw: st.DrawFn, usual: tuple[str, ...]) -> tuple[str, ...]:
    """The per-order switches."""
    how = pick(draw, ("usual", "all", "all", "one", "mixed"))
    if how == "usual":
        return usual
    if how == "all":
        return ("always",) * len(usual)
    if how == "one":
        on = pick(draw, range(len(usual)))
        return tuple("always" if order == on else "never" for order in range(len(usual)))
    return tuple(pick(draw, ("always", *ORDER_MODES)) for _ in usual)


def configs() -> st.SearchStrategy[Config]:
    """Kernel configurations."""
    return drawn(draw_config)


def draw_config(draw: st.DrawFn) -> Config:
    return Config(
        debug_vm=pick(draw, (True, True, True, False)),
        split_ptlocks=pick(draw, (True, True, True, False)),
        tlb=pick(draw, ("broadcast", "broadcast", "ipi")),
        arch=pick(draw, ("x86", "x86", "x86", "walking")),
        highpte=pick(draw, (False, False, False, True)),
        pt_reclaim=pick(draw, (True, True, True, False)),
        sparsemem_vmemmap=pick(draw, (True, True, True, True, True, False)),
    )


def drivers(geometry: Geometry, *, kinds: Sequence[DriverKind] = ONE_TABLE) -> st.SearchStrategy[Driver]:
    """Drivers; direct attempts are aligned.

    :param kinds: the kinds to draw from; one that is repeated comes more often
    """
    need_geometry(geometry)
    need_kinds(kinds)
    return drawn(lambda draw: draw_driver(draw, geometry, tuple(kinds)))


def draw_driver(draw: st.DrawFn, geometry: Geometry, kinds: tuple[DriverKind, ...]) -> Driver:
    kind = pick(draw, kinds)
    if kind is not DriverKind.DIRECT:
        return Driver(kind=kind, passes=pick(draw, (1, 1, 1, 1, 1, 1, 1, 1, 2, 3)))
    order = pick(draw, range(MIN_MTHP_ORDER, geometry.pmd_order + 1))
    return Driver(
        kind=kind,
        order=order,
        offset=member(draw, range(geometry.ptes >> order)) << order,
        is_khugepaged=draw(st.booleans()),
        mmap_locked=draw(st.booleans()),
        referenced=pick(draw, (None, None, None, 0, 1, geometry.ptes // 2 - 1, geometry.ptes // 2)),
        unmapped=pick(draw, (None, None, None, 0, 1)),
    )
