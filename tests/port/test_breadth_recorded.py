"""What real kernels did (oracle, sections 9 to 11), as far as one table can say it; where v12 must differ, the reason stands beside it."""

from __future__ import annotations

from typing import Final

import attrs
import pytest

from kmm.mm.folio import Folio
from kmm.mm.khugepaged.types import SCAN_STATUS, ScanResult
from kmm.mm.variant import Variant
from kmm.scenario.build import build
from kmm.scenario.model import Driver, Failure, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import Kind, PageState
from kmm.scenario.run import Run, run
from refactors import reviewed, v12
from tests.helpers import KHUGEPAGED, MADVISE, is_huge, reports, table

RW: Final = ("read", "write")
WP: Final = ("read", "uffd_wp", "write")
MISSING: Final = ("read", "uffd_missing", "write")

_A: Final = PageState(kind=Kind.PRESENT, young=True, dirty=True, write=True, exclusive=True, soft_dirty=True)
_SHARED: Final = attrs.evolve(_A, write=False, exclusive=False, mapped_by=1)
LETTERS: Final = {
    "A": attrs.evolve(_SHARED, order=9),
    "B": attrs.evolve(_SHARED, order=4),
    "C": attrs.evolve(_A, order=4, pins=1),
    "E": PageState(kind=Kind.PRESENT, young=True, soft_dirty=True, ksm=True),
    "G": attrs.evolve(_A, young=False, dirty=False, lazyfree=True),
}
"""A and B: shared pages of large folios; C: a pinned large folio; E: KSM, in this address space only; G: as MADV_FREE leaves a page."""


ADVISED: Final = attrs.evolve(Tunables.default(Geometry()), enabled="madvise")


def scenario(driver: Driver, pages: str, flags: tuple[str, ...], tunables: Tunables = ADVISED) -> Scenario:
    """512 entries of one VMA."""
    letters = tuple((letter, LETTERS[letter]) for letter in sorted(set(pages) & set(LETTERS)))
    return Scenario(tunables=tunables, vmas=(Vma(pages=pages, flags=flags),), letters=letters, driver=driver)


def advised(pages: str, flags: tuple[str, ...] = RW) -> Scenario:
    """MADV_COLLAPSE."""
    return scenario(MADVISE, pages, flags)


def daemon(
    pages: str, flags: tuple[str, ...] = ("hugepage", "read", "write"), *, none: int = 511, swap: int = 64, shared: int = 256
) -> Scenario:
    """khugepaged with the PMD order only."""
    limits = attrs.evolve(ADVISED, max_ptes_none=none, max_ptes_swap=swap, max_ptes_shared=shared)
    return scenario(KHUGEPAGED, pages, flags, limits)


def sizes(orders: tuple[int, ...], pages: str, none: int, flags: tuple[str, ...] = RW) -> Scenario:
    """khugepaged with several orders."""
    return scenario(KHUGEPAGED, pages, flags, attrs.evolve(ADVISED, max_ptes_none=none).with_orders(Geometry(), *orders))


def areas(s: Scenario, *vmas: Vma) -> Scenario:
    """The scenario with other VMAs."""
    return attrs.evolve(s, vmas=vmas)


@attrs.frozen
class Row:
    """One recorded case.

    :param ident: its name in the oracle
    :param errno: of MADV_COLLAPSE; empty: success, or khugepaged
    :param events: in the oracle's notation, without later passes
    :param rss: change of RssAnon, kB
    """

    ident: str
    scenario: Scenario
    errno: str
    events: str
    rss: int = 0


FULL: Final = "isolate:succeeded; chp:succeeded; scan:succeeded@511"
MAPPED: Final = "scan:page_pmd_mapped"
LOCKED: Final = "isolate:page_locked; chp:page_locked; scan:page_locked@511"
GUARD: Final = "swapin(in=0,ret=0); chp:failed; scan:failed@511 unm=1"
RETRY: Final = "swapin(in=0,ret=16); chp:page_locked; scan:page_locked@511 unm=1"


def succeeded(at: str, rest: str = "") -> str:
    return f"isolate:succeeded; chp:succeeded; scan:succeeded{at}{rest}"


def swapped(pages: int, at: str = "@511", rest: str = "") -> str:
    return f"swapin(in={pages},ret=1); {succeeded(at, rest)} unm={pages}"


A: Final = "a" * 512
HOLES: Final = "." * 512
ONE_GUARD: Final = "aaaaag" + "a" * 506
PARTS: Final = (Vma(pages="a" * 100, start=0), Vma(pages="a" * 312, start=200))
HUGE: Final = attrs.evolve(advised(HOLES), pmd="huge")

MADVISED: Final = (
    Row("all_present", advised(A), "", FULL),
    Row("one_present_first", advised("a" + "." * 511), "", succeeded("@0", " none=511"), 2044),
    Row("one_present_last", advised("." * 511 + "a"), "", succeeded("@511", " none=511"), 2044),
    Row("never_touched", areas(attrs.evolve(advised(HOLES), pmd="none"), Vma(pages=HOLES, anon_vma=False)), "EINVAL", ""),
    Row("untouched_pmd_anonvma", attrs.evolve(advised(HOLES), pmd="none"), "EINVAL", "scan:pmd_none"),
    Row("all_none_kept_table", advised(HOLES), "", succeeded("", " none=512"), 2048),
    Row("all_zero_no_anonvma", areas(advised("z" * 512), Vma(pages="z" * 512, anon_vma=False)), "EINVAL", ""),
    Row("all_zero_anonvma", advised("z" * 512), "", succeeded("", " none=512"), 2048),
    Row("mix_zero_none_one", advised("a" + "z" * 255 + "." * 256), "", succeeded("@0", " none=511"), 2044),
    Row("alternate", advised("a." * 256), "", succeeded("@510", " none=256"), 1024),
    Row("shared_all", advised("s" * 512), "", FULL),
    Row("shared_one", advised("a" * 7 + "s" + "a" * 504), "", FULL),
    Row("shared_257", advised("s" * 257 + "a" * 255), "", FULL),
    Row("fork_exited", advised("n" * 512), "", FULL),
    Row("pin_vmsplice_first", advised("p" + "a" * 511), "EAGAIN", "scan:not_suitable_page_count@0"),
    Row("pin_vmsplice_last", advised("a" * 511 + "p"), "EAGAIN", "scan:not_suitable_page_count@511"),
    Row("pin_iouring", advised("a" * 100 + "p" + "a" * 411), "EAGAIN", "scan:not_suitable_page_count@100"),
    Row("uffdwp_first", advised("u" + "a" * 511, WP), "EINVAL", "scan:pte_uffd_wp"),
    Row("uffdwp_last", advised("a" * 511 + "u", WP), "EINVAL", "scan:pte_uffd_wp@510"),
    Row("uffd_armed_full", advised(A, WP), "", FULL),
    Row("uffd_armed_one_none", advised("a" * 9 + "." + "a" * 502, WP), "EBUSY", "scan:exceed_none_pte@8 none=1"),
    Row("uffd_armed_one_zero", advised("a" * 9 + "z" + "a" * 502, WP), "EBUSY", "scan:exceed_none_pte@8 none=1"),
    Row("uffd_missing_one_none", advised("a" * 9 + "." + "a" * 502, MISSING), "EBUSY", "scan:exceed_none_pte@8 none=1"),
    Row("uffdwp_marker", advised("a" * 9 + "U" + "a" * 502, WP), "EINVAL", "scan:pte_uffd_wp@8 unm=1"),
    Row("mlock_all", advised("l" * 512, ("locked", "read", "write")), "", FULL),
    Row(
        "mlock_onfault",
        advised("l" * 256 + "." * 256, ("locked", "lockonfault", "read", "write")),
        "",
        succeeded("@255", " none=256"),
        1024,
    ),
    Row(
        "mlock_part",
        areas(advised(A), PARTS[0], Vma(pages="l" * 100, start=100, flags=("locked", "read", "write")), PARTS[1]),
        "EINVAL",
        "",
    ),
    Row("pte_thp_whole", advised("9" * 512), "", succeeded("@0")),
    Row("pte_thp_hole", advised("99999." + "9" * 506), "", succeeded("@0", " none=1"), 4),
    Row("pte_thp_half", advised("9" * 256 + "a" * 256), "", FULL),
    Row("pte_thp_shared", advised("A" * 10 + "9" * 502), "", succeeded("@0")),
    Row("pmd_mapped", HUGE, "", MAPPED),
    Row("huge_zero", attrs.evolve(HUGE, pmd="huge_zero"), "", MAPPED),
    Row("nohugepage", advised(A, ("nohugepage", "read", "write")), "EINVAL", ""),
    Row("hugepage", advised(A, ("hugepage", "read", "write")), "", FULL),
    Row("prctl_disable", attrs.evolve(advised(A), thp_disable="yes"), "EINVAL", ""),
    Row("prctl_except_advised", attrs.evolve(advised(A), thp_disable="except_advised"), "", FULL),
    Row(
        "prctl_except_advised_huge",
        attrs.evolve(advised(A, ("hugepage", "read", "write")), thp_disable="except_advised"),
        "",
        FULL,
    ),
    Row("vma_readonly", advised("r" * 512, ("read",)), "", FULL),
    Row("vma_protnone", advised("r" * 512, ()), "", FULL),
    Row("ptes_readonly_vma_rw", advised("r" * 512), "", FULL),
    Row("prot_split", areas(advised(A), PARTS[0], Vma(pages="r" * 100, start=100, flags=("read",)), PARTS[1]), "EINVAL", ""),
    Row("vma_short_head", areas(advised(A), Vma(pages="a" * 511, start=1)), "EINVAL", ""),
    Row("vma_short_tail", areas(advised(A), Vma(pages="a" * 511, start=0)), "EINVAL", ""),
    Row("vma_1_5_pmd", areas(advised(A), Vma(pages=A, after=256)), "", FULL),
    Row("growsdown", advised(A, ("growsdown", "read", "write")), "", FULL),
    Row("droppable", advised("F" * 512, ("droppable", "read", "write")), "", FULL),
    Row("lazyfree_all", advised("G" * 512), "", FULL),
    Row("lazyfree_one", advised("aaaG" + "a" * 508), "", FULL),
    Row("lazyfree_redirtied", advised("GGGL" + "G" * 508), "", FULL),
    Row("cold", advised("o" * 512), "", FULL),
    Row("guard", advised(ONE_GUARD), "EINVAL", GUARD),
    Row("dontfork_dontdump", advised(A, ("dontcopy", "dontdump", "read", "write")), "", FULL),
    Row("wx", advised(A, ("exec", "read", "write")), "", FULL),
    Row("zram_swap_1", advised("aaaw" + "a" * 508), "", swapped(1), 4),
    Row("zram_swap_64", advised("w" * 64 + "a" * 448), "", swapped(64), 256),
    Row("zram_swap_65", advised("w" * 65 + "a" * 447), "", swapped(65), 260),
    Row("zram_swap_512", advised("w" * 512), "", swapped(512, ""), 2048),
    Row("zram_swapcache", advised("v" * 32 + "a" * 480), "", swapped(32), 128),
    Row("zram_readback", advised("h" * 32 + "a" * 480), "", FULL),
    Row("zram_swap_shared", advised("y" * 32 + "a" * 480), "", swapped(32), 128),
    Row("zram_swap_uffdwp", advised("aaaq" + "a" * 508, WP), "EINVAL", "scan:pte_uffd_wp@2 unm=1"),
    Row("zram_swap_none", advised("a" + "w" * 10 + "." * 501), "", swapped(10, "@0", " none=501"), 2044),
    Row("zram_swap_pin", advised("w" * 10 + "a" * 490 + "p" + "a" * 11), "EAGAIN", "scan:not_suitable_page_count@500 unm=10"),
    Row("ksm_two", advised("EE" + "a" * 510, ("mergeable", "read", "write")), "EAGAIN", LOCKED),
    Row("ksm_200", advised("E" * 200 + "a" * 312, ("mergeable", "read", "write")), "EAGAIN", LOCKED),
    Row("ksm_one_in_pmd", advised("aaaaaK" + "a" * 506, ("mergeable", "read", "write")), "", FULL),
    Row("ksm_unmerged", advised(A, ("mergeable", "read", "write")), "", FULL),
    Row("mthp64_all", advised("4" * 512), "", succeeded("@496")),
    Row("mthp64_hole", advised("44444." + "4" * 506), "", succeeded("@496", " none=1"), 4),
    Row("mthp64_one", advised("." * 16 + "4" * 16 + "." * 480), "", succeeded("@16", " none=496"), 1984),
    Row("mthp64_shared", advised("4" * 20 + "B" + "4" * 491), "", succeeded("@496")),
    Row("mthp64_pin", advised("4" * 16 + "C" * 16 + "4" * 480), "EAGAIN", "scan:not_suitable_page_count@16"),
    Row("thp_never", attrs.evolve(advised(A), tunables=attrs.evolve(Tunables.default(Geometry()), enabled="never")), "", FULL),
    Row("memcg_limit", attrs.evolve(advised(A), memcg_room=511), "EBUSY", "chp:ccgroup_charge_failed; scan:ccgroup_charge_failed@511"),
    Row(
        "fileio_swap_1",
        attrs.evolve(advised("w" + "a" * 511), failures=(Failure(kind="swapin_retry", page=0),)),
        "EAGAIN",
        RETRY,
    ),
)
"""Section 9. A read that needs the disk is the injected failure ``swapin_retry``."""

DAEMON: Final = (
    Row("kh_default_full", daemon(A), "", FULL),
    Row("kh_default_1", daemon("a" + "." * 511), "", succeeded("@0", " none=511"), 2044),
    Row("kh_none0_511", daemon("a" * 9 + "." + "a" * 502, none=0), "", "scan:exceed_none_pte@8 none=1"),
    Row("kh_none0_zero", daemon("a" * 9 + "z" + "a" * 502, none=0), "", "scan:exceed_none_pte@8 none=1"),
    Row("kh_none255_255", daemon("a" * 257 + "." * 255, none=255), "", succeeded("@256", " none=255"), 1020),
    Row("kh_none255_256", daemon("a" * 256 + "." * 256, none=255), "", "scan:exceed_none_pte@255 none=256"),
    Row("kh_all_zero", daemon("z" * 512), "", "scan:exceed_none_pte none=512"),
    Row("kh_no_flag", daemon(A, RW), "", ""),
    Row("kh_uffdwp", daemon("u" + "a" * 511, ("hugepage", *WP)), "", "scan:pte_uffd_wp"),
    Row("kh_pin", daemon("a" * 511 + "p"), "", "scan:not_suitable_page_count@511"),
    Row("kh_readonly", daemon("r" * 512, ("hugepage", "read")), "", FULL),
    Row("kh_shared_256", daemon("s" * 256 + "a" * 256, shared=256), "", FULL),
    Row("kh_shared_257", daemon("s" * 257 + "a" * 255, shared=256), "", "scan:exceed_shared_pte@256"),
    Row("kh_shared0_1", daemon("s" + "a" * 511, shared=0), "", "scan:exceed_shared_pte@0"),
    Row("kh_unreferenced", daemon("o" * 512), "", "scan:lack_referenced_page@511"),
    Row("kh_one_referenced", daemon("o" * 5 + "a" + "o" * 506), "", FULL),
    Row("kh_lazyfree", daemon("G" * 512), "", "scan:lack_referenced_page@511"),
    Row("kh_lazyfree_one", daemon("aaaG" + "a" * 508), "", FULL),
    Row("kh_mlock", daemon("l" * 512, ("hugepage", "locked", "read", "write")), "", FULL),
    Row("kh_pte_thp", daemon("9" * 512), "", succeeded("@0")),
    Row("kh_pte_thp_hole", daemon("99999." + "9" * 506), "", succeeded("@0", " none=1"), 4),
    Row("kh_guard", daemon(ONE_GUARD), "", GUARD),
    Row("kh_prctl", attrs.evolve(daemon(A), thp_disable="yes"), "", ""),
    Row("kh_swap_64", daemon("w" * 64 + "a" * 448, swap=64), "", swapped(64), 256),
    Row("kh_swap_65", daemon("w" * 65 + "a" * 447, swap=64), "", "scan:exceed_swap_pte unm=65"),
    Row("kh_swap0_1", daemon("aaaw" + "a" * 508, swap=0), "", "scan:exceed_swap_pte@2 unm=1"),
    Row("kh_swap_young255", daemon("w" * 10 + "a" * 255 + "o" * 247), "", "scan:lack_referenced_page@511 unm=10"),
    Row("kh_swap_young256", daemon("w" * 10 + "a" * 256 + "o" * 246), "", swapped(10), 40),
    Row("kh_never", attrs.evolve(daemon(A), tunables=attrs.evolve(daemon(A).tunables, enabled="never")), "", ""),
    Row("kh_always_noflag", attrs.evolve(daemon(A, RW), tunables=Tunables.default(Geometry())), "", FULL),
)
"""Section 10."""


def attempts(order: int, count: int, before: str = "") -> list[str]:
    """So many successful attempts in a row."""
    return [f"{before}isolate:succeeded@o{order}; chp:succeeded@o{order}"] * count


def walked(*orders: int) -> list[str]:
    """One successful attempt at each order."""
    return [each for order in orders for each in attempts(order, 1)]


def listed(found: list[str], scan: str) -> str:
    return "; ".join([*found, scan])


NO_SWAP: Final = "swapin(in=0,ret=1); "
SOME: Final = (4, 9)
EVERY: Final = tuple(range(2, 10))
REFUSED: Final = "isolate:exceed_shared_pte@o4; chp:exceed_shared_pte@o4"
MTHP: Final = (
    Row("m_pmd_full", sizes((9,), A, 511), "", listed(walked(9), "scan:succeeded@511")),
    Row("m_pmd_1", sizes((9,), "a" + "." * 511, 511), "", listed(walked(9), "scan:succeeded@0 none=511"), 2044),
    Row("m64_full", sizes(SOME, A, 511), "", listed(walked(9), "scan:succeeded@511")),
    Row("m64_none0_first16", sizes(SOME, "a" * 16 + "." * 496, 0), "", listed(walked(4), "scan:succeeded@15 none=496")),
    Row(
        "m64_none0_15of16",
        sizes(SOME, "a" * 15 + "." * 17 + "a" * 16 + "." * 464, 0),
        "",
        listed(walked(4), "scan:succeeded@47 none=481"),
    ),
    Row("m64_none0_511", sizes(SOME, "a" * 9 + "." + "a" * 502, 0), "", listed(attempts(4, 31), "scan:succeeded@511 none=1")),
    Row("m64_none0_zero", sizes(SOME, "a" * 9 + "z" + "a" * 502, 0), "", listed(attempts(4, 31), "scan:succeeded@511 none=1")),
    Row(
        "m64_none0_swap",
        sizes(SOME, "aaaw" + "a" * 508, 0),
        "",
        "swapin(in=1,ret=1); " + listed(walked(9), "scan:succeeded@511 unm=1"),
        4,
    ),
    Row(
        "m64_none0_swap_hole",
        sizes(SOME, "aaaw" + "a" * 507 + ".", 0),
        "",
        listed(attempts(4, 30, NO_SWAP), "scan:succeeded@510 none=1 unm=1"),
    ),
    Row("m64_none0_swap_65", sizes(SOME, "w" * 65 + "a" * 447, 0), "", "scan:exceed_swap_pte unm=65"),
    Row(
        "m64_none0_shared",
        sizes(SOME, "a" * 40 + "s" + "a" * 470 + ".", 0),
        "",
        listed([*attempts(4, 2), REFUSED, *attempts(4, 28)], "scan:succeeded@510 none=1"),
    ),
    Row("m64_none0_pin", sizes(SOME, "a" * 20 + "p" + "a" * 490 + ".", 0), "", "scan:not_suitable_page_count@20"),
    Row("m64_none0_uffdwp", sizes(SOME, "a" * 20 + "u" + "a" * 490 + ".", 0, WP), "", "scan:pte_uffd_wp@19"),
    Row("mall_none0_first300", sizes(EVERY, "a" * 300 + "." * 212, 0), "", listed(walked(8, 5, 3, 2), "scan:succeeded@299 none=212")),
    Row("mall_none511_3", sizes(EVERY, "aaa" + "." * 509, 511), "", listed(walked(9), "scan:succeeded@2 none=509"), 2036),
    Row("mall_none511_pin", sizes(EVERY, "a" * 300 + "p" + "a" * 211, 511), "", "scan:not_suitable_page_count@300"),
    Row("mall_none511_uffdwp", sizes(EVERY, "a" * 300 + "u" + "a" * 211, 511, WP), "", "scan:pte_uffd_wp@299"),
    Row("mall_none511_shared_300", sizes(EVERY, "s" * 300 + "a" * 212, 511), "", "scan:exceed_shared_pte@256"),
    Row("mall_none255_full", sizes(EVERY, A, 255), "", listed(walked(9), "scan:succeeded@511")),
    Row("mall_none255_400", sizes(EVERY, "a" * 200 + "." * 312, 255), "", listed(walked(7, 6, 3), "scan:succeeded@199 none=312")),
)
"""Section 11."""


@attrs.frozen
class Differs:
    """What v12 does instead of a recorded row, and why."""

    errno: str
    events: str
    rss: int
    why: str


def failed(row_events: str) -> str:
    """The scan event when nothing was collapsed."""
    head, _, scan = row_events.rpartition("scan:")
    _, at, rest = scan.partition("@")
    return f"{head}scan:failed{at}{rest}"


_S25: Final = Differs("EBUSY", "scan:exceed_none_pte none=512", 0, "S-25: MADV_COLLAPSE has a limit of 511 holes")
_KSM: Final = Differs("EINVAL", failed(LOCKED), 0, "S-15: the result of the attempt is lost")
V12: Final = {
    "all_none_kept_table": _S25,
    "all_zero_anonvma": _S25,
    "zram_swap_512": Differs("EINVAL", "scan:failed unm=512", 0, "S-26: no bit is set, so nothing is attempted"),
    "ksm_two": _KSM,
    "ksm_200": _KSM,
    "memcg_limit": Differs("EINVAL", "chp:ccgroup_charge_failed; scan:failed@511", 0, "S-15"),
    "fileio_swap_1": Differs("EINVAL", failed(RETRY), 0, "S-15"),
    "m64_none0_swap": Differs(
        "", listed(attempts(4, 31, NO_SWAP), "scan:succeeded@511 unm=1"), 0, "S-14: swap entries do not count as occupied"
    ),
    "mall_none255_400": Differs(
        "", listed(walked(8), "scan:succeeded@199 none=312"), 224, "reference 2.4: 255 counts below PMD order; 7.2 takes it as 0"
    ),
}

ROWS: Final = (*MADVISED, *DAEMON, *MTHP)


def events(r: Run, *, with_orders: bool = False) -> str:
    """The trace events of a run in the oracle's notation; ``@n`` is the page whose folio the scan looked up last."""
    return "; ".join(_event(name, fields, with_orders) for name, fields in r.world.system.machine.trace_events)


def _event(name: str, fields: tuple[object, ...], with_orders: bool) -> str:
    if name == "mm_collapse_huge_page_swapin":
        return f"swapin(in={fields[1]},ret={fields[3]})"
    status = next(SCAN_STATUS[field] for field in fields if isinstance(field, ScanResult))
    order = f"@o{fields[-1]}" if with_orders else ""
    if name == "mm_collapse_huge_page_isolate":
        return f"isolate:{status}{order}"
    if name == "mm_collapse_huge_page":
        return f"chp:{status}{order}"
    folio, none, unmapped = fields[1], fields[3], fields[5]
    at = "@" + folio.label.removeprefix("page ") if isinstance(folio, Folio) else ""
    return f"scan:{status}{at}" + (f" none={none}" if none else "") + (f" unm={unmapped}" if unmapped else "")


def rss_kb(r: Run) -> int:
    """How RssAnon changed, kB."""
    before = build(r.scenario, v12.VARIANT).mm._rss_stat[0]
    return (r.world.mm._rss_stat[0] - before) * r.scenario.geometry.page_size // 1024


@pytest.mark.parametrize("variant", [v12.VARIANT, reviewed.VARIANT], ids=lambda variant: variant.name)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.ident)
def test_row(row: Row, variant: Variant) -> None:
    expected = V12.get(row.ident, Differs(row.errno, row.events, row.rss, ""))
    r = run(row.scenario, variant)
    assert events(r, with_orders=row in MTHP) == expected.events, expected.why
    assert (r.errno, rss_kb(r)) == (expected.errno, expected.rss), expected.why
    assert reports(r) == []


@pytest.mark.parametrize("row", [row for row in ROWS if row not in MTHP], ids=lambda row: row.ident)
def test_a_table_is_collapsed_or_as_before(row: Row) -> None:
    """Of these rows, those that refuse change no entry, and VmPTE never changes."""
    r = run(row.scenario, v12.VARIANT)
    before = build(row.scenario, v12.VARIANT)
    assert r.world.mm._pgtables_bytes == before.mm._pgtables_bytes
    if "chp:succeeded" in V12.get(row.ident, Differs("", row.events, 0, "")).events:
        assert is_huge(r)
    elif row.scenario.pmd == "table":
        assert table(r.world)._entries == table(before)._entries


def test_every_row_stands_once_and_every_difference_is_one() -> None:
    rows = {row.ident: row for row in ROWS}
    assert len(rows) == len(ROWS)
    for ident, differs in V12.items():
        assert (differs.errno, differs.events) != (rows[ident].errno, rows[ident].events)
