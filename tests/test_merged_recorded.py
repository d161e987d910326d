"""``merged`` does what khugepaged of 7.2.13 was seen to do with sizes below 2 MiB enabled."""

from __future__ import annotations

from itertools import groupby

import attrs
import pytest

from kmm.judge.observe import observe
from kmm.scenario.model import Driver, DriverKind
from kmm.scenario.run import Run
from refactors import merged
from tests.helpers import folio_of, go, is_huge, make, mapped, reports

MERGED = merged.VARIANT
ALL = tuple(range(2, 10))


def happened(r: Run) -> list[str]:
    """The trace events, as the recordings write them."""
    out = []
    for name, *fields in (event for event in observe(r).trace if isinstance(event, tuple)):
        match name, fields:
            case "mm_collapse_huge_page_isolate", [_, _, _, status, order]:
                out.append(f"isolate:{status}@o{order}")
            case "mm_collapse_huge_page", [_, _, status, order]:
                out.append(f"chp:{status}@o{order}")
            case "mm_collapse_huge_page_swapin", [_, swapped_in, _, ret, _]:
                out.append(f"swapin(in={swapped_in},ret={ret})")
            case "mm_khugepaged_scan_pmd", [_, page, _, none, status, unmapped]:
                at = f"@{str(page).removeprefix('page ')}" if str(page).startswith("page") else ""
                out.append(f"scan:{status}{at}" + (f" none={none}" if none else "") + (f" unm={unmapped}" if unmapped else ""))
    return out


def after(r: Run) -> str:
    """The runs of the table: new folios by their order, what was there before as ``old``."""
    if is_huge(r):
        return "huge"
    kinds = [what if what in (".", "swap", "zero") else "old" if what.startswith("page") else what for what in mapped(r)]
    runs = [(kind, len(list(same))) for kind, same in groupby(kinds)]
    return " ".join(f"o{folio_of(r, int(kind.rpartition(':')[2])).order}" if kind.startswith("new") else f"{n}*{kind}" for kind, n in runs)


def done(order: int, blocks: int = 1) -> list[str]:
    """The events of so many successes."""
    return [f"isolate:succeeded@o{order}", f"chp:succeeded@o{order}"] * blocks


def refused(status: str, order: int) -> list[str]:
    """The events of an attempt that isolate refused."""
    return [f"isolate:{status}@o{order}", f"chp:{status}@o{order}"]


def pages(runs: str) -> str:
    """A map from runs like ``300a 212.``."""
    return "".join(run[-1] * int(run[:-1]) for run in runs.split())


SIZES = (4, 9)
ARMED = ("read", "uffd_wp", "write")
FINISHED = "pte_mapped_hugepage"
SWAPPED = "swapin(in=0,ret=1)"
HUGE = ["scan:page_pmd_mapped"]


@attrs.frozen(kw_only=True)
class Recorded:
    """One row of the recordings: three passes by khugepaged over one table.

    :param before: the map in runs
    :param orders: sizes that are enabled
    :param first: events of the first pass
    :param later: events of each later one; ``None``: those of the first again
    :param after: the map in runs
    """

    name: str
    before: str
    none: int
    orders: tuple[int, ...]
    flags: tuple[str, ...] = ("read", "write")
    first: list[str]
    later: list[str] | None = None
    after: str


def blocks(order: int, n: int) -> str:
    """So many new folios."""
    return " ".join([f"o{order}"] * n)


def finished(*orders: int) -> list[str]:
    """The events of a pass over blocks that were collapsed before."""
    return [event for order in orders for event in refused(FINISHED, order)]


RECORDED = (
    Recorded(name="m_pmd_full", before="512a", none=511, orders=(9,), first=[*done(9), "scan:succeeded@511"], later=HUGE, after="huge"),
    Recorded(
        name="m_pmd_1", before="1a 511.", none=511, orders=(9,), first=[*done(9), "scan:succeeded@0 none=511"], later=HUGE, after="huge"
    ),
    Recorded(name="m64_full", before="512a", none=511, orders=SIZES, first=[*done(9), "scan:succeeded@511"], later=HUGE, after="huge"),
    Recorded(
        name="m64_none0_first16",
        before="16a 496.",
        none=0,
        orders=SIZES,
        first=[*done(4), "scan:succeeded@15 none=496"],
        later=[*finished(4), "scan:failed none=496"],
        after="o4 496*.",
    ),
    Recorded(
        name="m64_none0_15of16",
        before="15a 17. 16a 464.",
        none=0,
        orders=SIZES,
        first=[*done(4), "scan:succeeded@47 none=481"],
        later=[*finished(4), "scan:failed none=481"],
        after="15*old 17*. o4 464*.",
    ),
    Recorded(
        name="m64_none0_511",
        before="9a 1. 502a",
        none=0,
        orders=SIZES,
        first=[*done(4, 31), "scan:succeeded@511 none=1"],
        later=[*finished(*[4] * 31), "scan:failed none=1"],
        after=f"9*old 1*. 6*old {blocks(4, 31)}",
    ),
    Recorded(
        name="m64_none0_zero",
        before="9a 1z 502a",
        none=0,
        orders=SIZES,
        first=[*done(4, 31), "scan:succeeded@511 none=1"],
        later=[*finished(*[4] * 31), "scan:failed none=1"],
        after=f"9*old 1*zero 6*old {blocks(4, 31)}",
    ),
    Recorded(
        name="m64_none0_swap",
        before="3a 1v 508a",
        none=0,
        orders=SIZES,
        first=["swapin(in=1,ret=1)", *done(9), "scan:succeeded@511 unm=1"],
        later=HUGE,
        after="huge",
    ),
    Recorded(
        name="m64_none0_swap_hole",
        before="3a 1v 507a 1.",
        none=0,
        orders=SIZES,
        first=[*[SWAPPED, *done(4)] * 30, "scan:succeeded@510 none=1 unm=1"],
        later=[*[SWAPPED, *finished(4)] * 30, "scan:failed@510 none=1 unm=1"],
        after=f"3*old 1*swap 12*old {blocks(4, 30)} 15*old 1*.",
    ),
    Recorded(
        name="m64_none0_swap_65",
        before="65w 447a",
        none=0,
        orders=SIZES,
        first=["scan:exceed_swap_pte unm=65"],
        after="65*swap 447*old",
    ),
    Recorded(
        name="m64_none0_shared",
        before="40a 1s 470a 1.",
        none=0,
        orders=SIZES,
        first=[*done(4, 2), *refused("exceed_shared_pte", 4), *done(4, 28), "scan:succeeded@510 none=1"],
        later=[*finished(4, 4), *refused("exceed_shared_pte", 4), *finished(*[4] * 28), "scan:exceed_shared_pte@510 none=1"],
        after=f"o4 o4 16*old {blocks(4, 28)} 15*old 1*.",
    ),
    Recorded(
        name="m64_none0_pin",
        before="20a 1p 490a 1.",
        none=0,
        orders=SIZES,
        first=["scan:not_suitable_page_count@20"],
        after="511*old 1*.",
    ),
    Recorded(
        name="m64_none0_uffdwp",
        before="20a 1u 490a 1.",
        none=0,
        orders=SIZES,
        flags=ARMED,
        first=["scan:pte_uffd_wp@19"],
        after="511*old 1*.",
    ),
    Recorded(
        name="m64_none0_lazyfree", before="20a 1F 490a 1.", none=0, orders=SIZES, first=["scan:page_lazyfree@20"], after="511*old 1*."
    ),
    Recorded(
        name="mall_none0_first300",
        before="300a 212.",
        none=0,
        orders=ALL,
        first=[*done(8), *done(5), *done(3), *done(2), "scan:succeeded@299 none=212"],
        later=[*finished(8, 5, 3, 2), "scan:failed none=212"],
        after="o8 o5 o3 o2 212*.",
    ),
    Recorded(
        name="mall_none0_alternate4",
        before="4a 4. 4a 4. 16a 8. 4a 20. 64a 384.",
        none=0,
        orders=ALL,
        first=[*done(2), *done(2), *done(4), *done(2), *done(6), "scan:succeeded@127 none=420"],
        later=[*finished(2, 2, 4, 2, 6), "scan:failed none=420"],
        after="o2 4*. o2 4*. o4 8*. o2 20*. o6 384*.",
    ),
    Recorded(
        name="mall_none511_3",
        before="3a 509.",
        none=511,
        orders=ALL,
        first=[*done(9), "scan:succeeded@2 none=509"],
        later=HUGE,
        after="huge",
    ),
    Recorded(
        name="mall_none511_pin",
        before="300a 1p 211a",
        none=511,
        orders=ALL,
        first=["scan:not_suitable_page_count@300"],
        after="512*old",
    ),
    Recorded(
        name="mall_none511_uffdwp",
        before="300a 1u 211a",
        none=511,
        orders=ALL,
        flags=ARMED,
        first=["scan:pte_uffd_wp@299"],
        after="512*old",
    ),
    Recorded(
        name="mall_none511_shared_300",
        before="300s 212a",
        none=511,
        orders=ALL,
        first=["scan:exceed_shared_pte@256"],
        after="512*old",
    ),
    Recorded(
        name="mall_none255_full", before="512a", none=255, orders=ALL, first=[*done(9), "scan:succeeded@511"], later=HUGE, after="huge"
    ),
    Recorded(
        name="mall_none255_400",
        before="200a 312.",
        none=255,
        orders=ALL,
        first=[*done(7), *done(6), *done(3), "scan:succeeded@199 none=312"],
        later=[*finished(7, 6, 3), "scan:failed none=312"],
        after="o7 o6 o3 312*.",
    ),
)


@pytest.mark.parametrize("recorded", RECORDED, ids=[each.name for each in RECORDED])
def test_three_passes(recorded: Recorded) -> None:
    s = make(
        pages(recorded.before),
        Driver(kind=DriverKind.KHUGEPAGED, passes=3),
        none=recorded.none,
        orders=recorded.orders,
        flags=recorded.flags,
    )
    r = go(s, MERGED)
    later = recorded.first if recorded.later is None else recorded.later
    assert happened(r) == [*recorded.first, *later, *later]
    assert after(r) == recorded.after
    assert reports(r) == []
