"""Scenarios with steps: several ranges, several processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
from hypothesis import strategies as st

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.model import Driver, DriverKind, Geometry, Process, Scenario, Tunables, Vma
from kmm.scenario.step import ADVICE, STEP_OPS, VALUES, Step, Takes
from kmm.scenario.strategies.draw import drawn, need, need_geometry, pick
from kmm.scenario.strategies.pages import draw_map, letters_for
from kmm.scenario.strategies.settings import draw_config

_TABLES: Final = (Geometry(ptes=8, lru_batch=1), Geometry(ptes=8), Geometry(ptes=16, lru_batch=3))
STEPS: Final = Driver(kind=DriverKind.STEPS)
_OPS: Final = (*(op for op in STEP_OPS if op != "read"), *("khugepaged",) * 6, *("store",) * 2, "load", *("madvise",) * 2, "fork")
_SETTINGS: Final = (
    ("enabled", "never"),
    ("enabled", "always"),
    ("enabled", "madvise"),
    ("khugepaged/max_ptes_none", "0"),
    ("khugepaged/max_ptes_none", "3"),
    ("khugepaged/max_ptes_shared", "0"),
    ("khugepaged/pages_to_scan", "1"),
    ("khugepaged/pages_to_scan", "0"),
    ("khugepaged/max_ptes_swap", "nonsense"),
)
_LIMITS: Final = (("memory.max", "0"), ("memory.max", "65536"), ("memory.max", "max"), ("memory.max", "much"))
_VMA_FLAGS: Final = (*(("read", "write"),) * 4, ("hugepage", "read", "write"), ("nohugepage", "read", "write"), ("read",))
_MMAP_FLAGS: Final = ("", "", "hugepage read write", "read")
_ACCESS: Final = ("read", "read write", "none")


def systems(geometry: Geometry | None = None) -> st.SearchStrategy[Scenario]:
    """Scenarios with one to eight steps. A step that cannot happen is among them now and then.

    :param geometry: of one range; how many there are is drawn; ``None``: 8 or 16 PTEs
    """
    if geometry is not None:
        need_geometry(geometry)
        need(geometry.ranges == 1, f"ranges = {geometry.ranges}", "leave it out: how many ranges there are is drawn")

    def build(draw: st.DrawFn) -> Scenario:
        table = (
            pick(draw, (Geometry(ptes=8, lru_batch=1), Geometry(ptes=8), Geometry(ptes=16, lru_batch=3))) if geometry is None else geometry
        )
        of = attrs.evolve(table, ranges=pick(draw, (1, 2, 2, 3)))
        processes = tuple(Process(vmas=_vmas(draw, table, of)) for _ in range(pick(draw, (0, 0, 1, 1, 2))))
        return Scenario(
            geometry=of,
            config=draw_config(draw),
            tunables=_tunables(draw, of),
            vmas=_vmas(draw, table, of),
            processes=processes,
            driver=STEPS,
            steps=tuple(_step(draw, of, len(processes) + 1) for _ in range(pick(draw, range(1, 9)))),
        )

    return drawn(build)


def _tunables(draw: st.DrawFn, of: Geometry) -> Tunables:
    usual = Tunables.default(of)
    top = of.pmd_order
    orders = pick(draw, ((top,), (2,), (2, top), tuple(range(2, top + 1)), (top - 1,)))
    limits = pick(draw, (of.ptes - 1, of.ptes - 1, 0, of.ptes // 2 - 1))
    return attrs.evolve(usual.with_orders(of, *orders), max_ptes_none=limits)


def _vmas(draw: st.DrawFn, table: Geometry, of: Geometry) -> tuple[Vma, ...]:
    flags = pick(draw, _VMA_FLAGS)
    alphabet = letters_for(table, None, flags)
    pages = "".join(draw_map(draw, table, alphabet, range(table.ptes)) for _ in range(of.ranges))
    whole = Vma(pages=pages, flags=flags)
    cut = pick(draw, (0, 0, 0, of.pages // 2, of.pages // 2 + 1))
    if not cut or any(ALPHABET[c].order for c in pages):
        return (whole,)
    tail = tuple(sorted({*flags, "dontdump"}))
    return attrs.evolve(whole, pages=pages[:cut], start=0), attrs.evolve(whole, pages=pages[cut:], start=cut, flags=tail)


def _step(draw: st.DrawFn, of: Geometry, processes: int) -> Step:
    op = pick(draw, _OPS)
    takes = STEP_OPS[op][0]
    name, value = _said(draw, op)
    first, length = _pages(draw, of) if Takes.PAGE in takes else (None, 1)
    to = pick(draw, range(0, of.pages - length + 1, max(1, of.ptes // 2))) if Takes.TO in takes else None
    process = pick(draw, range(1, processes + 1)) if Takes.PROCESS in takes else 1
    return Step(op=op, process=process, page=first, length=length, to=to, name=name, value=value)


def _said(draw: st.DrawFn, op: str) -> tuple[str, str]:
    if op in ("sysfs", "cgroup"):
        return pick(draw, _SETTINGS if op == "sysfs" else _LIMITS)
    values: dict[str, Sequence[str]] = {
        **VALUES,
        "madvise": (*ADVICE, "collapse", "dontneed"),
        "mprotect": _ACCESS,
        "mmap": _MMAP_FLAGS,
    }
    return "", pick(draw, values[op]) if op in values else ""


def _pages(draw: st.DrawFn, of: Geometry) -> tuple[int, int]:
    """The first page and how many."""
    length = min(pick(draw, (1, 1, 2, 4, of.ptes // 2, of.ptes, of.ptes, of.pages)), of.pages)
    size = of.ptes // 2 if length >= of.ptes // 2 else 1
    first = pick(draw, range(0, min(of.pages - length + 1, 99 * size), size))
    return first, length
