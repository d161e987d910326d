"""Events and injected failures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st

from kmm.scenario.checks import MIN_MTHP_ORDER
from kmm.scenario.model import EVENT_OPS, GLOBAL_MODES, ORDER_MODES, POINTS, Event, Failure, Geometry
from kmm.scenario.strategies.draw import drawn, member, need, pages_in, pick
from kmm.scenario.strategies.settings import LIMITS

OPS_ON_HUGE: Final = ("sysfs", "exit", "prctl")


def events(geometry: Geometry, *, ops: Sequence[str] = EVENT_OPS, at: Sequence[int] | None = None) -> st.SearchStrategy[Event]:
    """Events.

    :param ops: the operations to draw from
    :param at: pages that may be pinned or zapped; ``None``: any
    """
    good = not isinstance(ops, str) and len(ops) > 0 and all(op in EVENT_OPS for op in ops)
    need(good, f"ops = {ops!r} are not events", "give one or more of " + ", ".join(EVENT_OPS))
    pages = pages_in(geometry, at)
    return drawn(lambda draw: draw_event(draw, geometry, tuple(ops), pages))


def draw_event(draw: st.DrawFn, geometry: Geometry, ops: tuple[str, ...], at: Sequence[int]) -> Event:
    op, before, nth = pick(draw, ops), pick(draw, POINTS), pick(draw, (1, 1, 1, 2, 3))
    if op == "sysfs":
        name, value = _draw_setting(draw, geometry)
        return Event(op=op, before=before, nth=nth, name=name, value=value)
    value = pick(draw, ("", "except_advised")) if op == "prctl" else ""
    return Event(op=op, before=before, nth=nth, value=value, page=member(draw, at) if op in ("pin", "zap") else None)


def _draw_setting(draw: st.DrawFn, geometry: Geometry) -> tuple[str, str]:
    """Name and value of a sysfs write."""
    orders = tuple(f"hugepages-{order}" for order in range(MIN_MTHP_ORDER, geometry.pmd_order + 1))
    name = pick(draw, ("enabled", *orders, *LIMITS))
    if name in LIMITS:
        return name, str(pick(draw, (0, 1, geometry.ptes // 2, geometry.ptes - 1)))
    return name, pick(draw, GLOBAL_MODES[::-1] if name == "enabled" else ORDER_MODES[::-1])


def failures(geometry: Geometry, *, at: Sequence[int] | None = None) -> st.SearchStrategy[Failure]:
    """Injected failures.

    :param at: pages that may fail; ``None``: any
    """
    pages = pages_in(geometry, at)
    return drawn(lambda draw: draw_failure(draw, pages, pages, pages))


def draw_failure(draw: st.DrawFn, present: Sequence[int], swapped: Sequence[int], migrating: Sequence[int]) -> Failure:
    by_page = {"poison": present, "swapin_error": swapped, "swapin_retry": swapped, "migration_again": migrating}
    kind = pick(draw, ("alloc", "charge", *(kind for kind, pages in by_page.items() if pages)))
    if kind in by_page:
        return Failure(kind=kind, page=member(draw, by_page[kind]))
    return Failure(kind=kind, nth=pick(draw, (1, 1, 1, 2, 3)))
