"""Whole scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hypothesis import strategies as st

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.canvas import count_pages, pages_of
from kmm.scenario.checks import PMD_STATES, THP_DISABLE
from kmm.scenario.model import EVENT_OPS, ONE_TABLE, DriverKind, Geometry, Scenario
from kmm.scenario.page import Kind, PageState
from kmm.scenario.strategies.disturbances import OPS_ON_HUGE, draw_event, draw_failure
from kmm.scenario.strategies.draw import draw_some, drawn, need, need_kinds, pick
from kmm.scenario.strategies.memory import draw_bare_vma, draw_layout, draw_vma, need_vma
from kmm.scenario.strategies.settings import draw_config, draw_driver, draw_tunables

GEOMETRIES: Final = (
    Geometry(ptes=8, lru_batch=1),
    Geometry(ptes=8, lru_batch=3),
    Geometry(ptes=16, lru_batch=1),
    Geometry(ptes=16, lru_batch=3),
    Geometry(page_size=65536, ptes=16, lru_batch=3),
    Geometry(),
)


def scenarios(
    geometry: Geometry | None = None,
    *,
    flags: Sequence[str] | None = None,
    letters: Mapping[str, PageState] | None = None,
    kinds: Sequence[DriverKind] = ONE_TABLE,
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
    need(not clash, f"letters has {clash} of the default alphabet", "choose other letters")
    need_kinds(kinds)
    alphabet = {**ALPHABET, **extra}
    for each in GEOMETRIES if geometry is None else (geometry,):
        need_vma(each, flags, alphabet)

    def build(draw: st.DrawFn) -> Scenario:
        of = pick(draw, GEOMETRIES) if geometry is None else geometry
        driver = draw_driver(draw, of, tuple(kinds))
        inside = range(of.ptes) if driver.order is None else range(driver.offset, driver.offset + (1 << driver.order))
        pmd = pick(draw, (*("table",) * 40, *PMD_STATES))
        vma = draw_vma(draw, of, flags, alphabet, inside) if pmd == "table" else draw_bare_vma(draw, of, flags, pmd)
        vmas = draw_layout(draw, vma, alphabet) if pmd == "table" else (vma,)
        pages = "".join(each.pages for each in vmas)
        present = tuple(page for page in pages_of(vma.pages, alphabet, (Kind.PRESENT,)) if page in inside)
        swapped = tuple(page for page in pages_of(vma.pages, alphabet, (Kind.SWAP,)) if page in inside)
        migrating = tuple(page for page in pages_of(vma.pages, alphabet, (Kind.MIGRATION,)) if page in inside)
        ops = OPS_ON_HUGE if pmd in ("huge", "huge_zero", "migration") else EVENT_OPS
        return Scenario(
            geometry=of,
            config=draw_config(draw),
            tunables=draw_tunables(draw, of, count_pages(vma.pages, alphabet, of, driver)),
            vmas=vmas,
            letters=tuple((letter, extra[letter]) for letter in sorted(set(pages) & set(extra))),
            pmd=pmd,
            deposited=0 if pmd == "absent" else pick(draw, (0, 0, 0, 0, 0, 1, 2)),
            thp_disable=pick(draw, (*("no",) * 30, *THP_DISABLE)),
            memcg_room=pick(draw, (*(None,) * 30, 0, of.ptes // 4, of.ptes - 1, of.ptes, of.ptes + 1)),
            driver=driver,
            events=draw_some(draw, lambda: draw_event(draw, of, ops, inside)) if with_events else (),
            failures=draw_some(draw, lambda: draw_failure(draw, present, swapped, migrating)) if with_failures else (),
        )

    return drawn(build)
