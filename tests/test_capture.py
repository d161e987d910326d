"""Capture: what the files of /proc say becomes the right letters, and what cannot be said is counted."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from kmm.live.capture import Capture, as_captured_drivers, capture
from kmm.live.errors import CaptureError
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.model import Driver, DriverKind, Scenario, Vma
from tests import fake_proc as f
from tests.fake_proc import BASE, PID, RANGE, FakeProc

SEEN = f.PRESENT | f.SOFT_DIRTY | f.ONCE
ARMED = "rd wr mr mw me ac sd uw"
ALWAYS = {
    "config", "deposited", "dirty", "exclusive", "node", "pins", "prot_none", "secondary_young", "thp_disable", "write", "young"
}  # fmt: skip


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


@pytest.fixture
def seen(proc: FakeProc) -> FakeProc:
    proc.privileged()
    return proc


def read(proc: FakeProc, *, names: bool = False) -> Capture:
    return capture(PID, names=names, root=proc.root, page_size=4096)


def only(proc: FakeProc) -> Scenario:
    found = read(proc)
    assert found.skipped == ()
    (scenario,) = found.scenarios
    return scenario


@pytest.mark.parametrize(
    ("letter", "word", "flags", "mapcount"),
    [
        ("a", SEEN, f.PLAIN, 1),
        ("s", f.PRESENT | f.SOFT_DIRTY, f.PLAIN, 2),
        ("t", f.PRESENT | f.SOFT_DIRTY, f.PLAIN, 3),
        ("z", f.PRESENT, f.ZERO_PAGE, 0),
        ("x", SEEN, f.PLAIN & ~f.LRU, 1),
        ("k", SEEN, f.PLAIN | f.LOCKED, 1),
        ("h", SEEN, f.PLAIN | f.SWAPCACHE, 1),
        ("u", SEEN | f.UFFD_WP, f.PLAIN, 1),
        ("w", f.SWAP | 3 << 5, None, 0),
        ("q", f.SWAP | 3 << 5 | f.UFFD_WP, None, 0),
    ],
)
def test_default_letters(seen: FakeProc, letter: str, word: int, flags: int | None, mapcount: int) -> None:
    seen.vma(BASE, BASE + RANGE, flags=ARMED, kb={"Swap": 4})
    seen.page(BASE + 4096, word, pfn=7 if flags is not None else 0, flags=flags, mapcount=mapcount)
    scenario = only(seen)
    assert scenario.vmas[0].pages == "." + letter + "." * 510
    assert scenario.letters == ()


def test_a_read_only_vma_has_read_only_pages(seen: FakeProc) -> None:
    seen.vma(BASE, BASE + RANGE, perms="r--p", flags="rd mr mw me ac sd")
    seen.page(BASE, SEEN, pfn=7, flags=f.PLAIN)
    assert only(seen).vmas[0].pages == "r" + "." * 511


def test_other_states_get_letters_of_their_own_by_first_use(seen: FakeProc) -> None:
    seen.vma(BASE, BASE + RANGE)
    seen.page(BASE + 3 * 4096, SEEN, pfn=9, flags=f.PLAIN | f.REFERENCED)
    seen.page(BASE + 4 * 4096, f.PRESENT | f.ONCE, pfn=20, flags=f.PLAIN)
    seen.page(BASE + 5 * 4096, SEEN, pfn=5, flags=f.PLAIN | f.REFERENCED)
    scenario = only(seen)
    assert scenario.vmas[0].pages == "...ABA" + "." * 506
    assert scenario.letters == (
        ("A", attrs.evolve(ALPHABET["a"], referenced=True)),
        ("B", attrs.evolve(ALPHABET["a"], soft_dirty=False)),
    )


def test_large_folios_whole_and_partial(seen: FakeProc) -> None:
    seen.vma(BASE, BASE + RANGE)
    seen.folio(BASE, 4, pfn=1024)
    seen.folio(BASE + 16 * 4096, 2, pfn=1040, mapcount=2)
    seen.folio(BASE + 32 * 4096, 4, pfn=2048, pages=range(5, 8))
    scenario = only(seen)
    assert scenario.vmas[0].pages == "4" * 16 + "SSSS" + "." * 12 + "....." + "444" + "." * 472
    assert scenario.letters == ()


def test_a_folio_of_pmd_size_that_ptes_map(seen: FakeProc) -> None:
    seen.vma(BASE, BASE + RANGE)
    seen.folio(BASE, 9, pfn=1024)
    assert only(seen).vmas[0].pages == "9" * 512


@pytest.mark.parametrize(
    ("reason", "word", "flags", "mapcount"),
    [
        ("changed while it was read", SEEN, f.PLAIN | f.KSM, 2),
        ("mlocked by another address space", SEEN, f.PLAIN | f.UNEVICTABLE | f.MLOCKED, 1),
        ("poisoned page", SEEN, f.PLAIN | f.HWPOISON, 1),
        ("page that is not anonymous", SEEN, f.LRU, 1),
        ("page mapped by more than four address spaces", SEEN, f.PLAIN, 5),
        ("changed while it was read", SEEN, f.PLAIN, 0),
        ("changed while it was read", SEEN | f.UFFD_WP, f.PLAIN, 1),
        ("migration, device or poison entry", f.SWAP | 30, None, 0),
        ("migration, device or poison entry", f.SWAP | 24, None, 0),
    ],
)
def test_pages_that_scenarios_cannot_say(seen: FakeProc, reason: str, word: int, flags: int | None, mapcount: int) -> None:
    seen.vma(BASE, BASE + RANGE, kb={"Swap": 4})
    seen.page(BASE + 4096, word, pfn=7 if flags is not None else 0, flags=flags, mapcount=mapcount)
    assert read(seen) == Capture(scenarios=(), skipped=((reason, 1),))


def test_a_misaligned_folio_is_left_out(seen: FakeProc) -> None:
    seen.vma(BASE, BASE + RANGE)
    seen.folio(BASE + 8 * 4096, 4, pfn=1024)
    assert read(seen).skipped == (("misaligned large folio", 1),)


def test_pieces_of_two_folios_in_one_place_are_left_out(seen: FakeProc) -> None:
    seen.vma(BASE, BASE + RANGE)
    seen.folio(BASE, 4, pfn=1024, pages=range(8))
    seen.folio(BASE, 4, pfn=2048, pages=range(8, 16))
    assert read(seen).skipped == (("pieces of two large folios in one place", 1),)


def test_a_large_folio_whose_entries_differ(seen: FakeProc) -> None:
    seen.vma(BASE, BASE + RANGE)
    seen.folio(BASE, 2, pfn=1024)
    seen.page(BASE + 4096, f.PRESENT | f.ONCE, pfn=1025)
    scenario = only(seen)
    assert scenario.pages[:4] == "2A22"
    assert scenario.letters == (("A", attrs.evolve(ALPHABET["2"], soft_dirty=False)),)


def test_a_range_that_a_pmd_maps(seen: FakeProc) -> None:
    seen.vma(BASE, BASE + 2 * RANGE, kb={"AnonHugePages": 2048})
    seen.folio(BASE, 9, pfn=1024)
    seen.page(BASE + RANGE, SEEN, pfn=7, flags=f.PLAIN)
    found = read(seen)
    assert found.skipped == ()
    assert [(s.pmd, s.pages[:2]) for s in found.scenarios] == [("huge", ".."), ("table", "a.")]


def test_the_huge_zero_page(seen: FakeProc) -> None:
    seen.vma(BASE, BASE + RANGE)
    for i in range(512):
        seen.page(BASE + i * 4096, f.PRESENT, pfn=1024 + i, flags=f.ZERO_PAGE | f.THP)
    assert (only(seen).pmd, set(only(seen).pages)) == ("huge_zero", {"."})


def test_a_vma_that_begins_and_ends_inside(seen: FakeProc) -> None:
    seen.vma(BASE + 3 * 4096, BASE + RANGE + 5 * 4096)
    for page in (3, 511, 512, 516):
        seen.page(BASE + page * 4096, SEEN, pfn=7 + page, flags=f.PLAIN)
    first, second = read(seen).scenarios
    assert first.vmas == (Vma(pages="a" + "." * 507 + "a", start=3, after=5),)
    assert second.vmas == (Vma(pages="a...a", start=0, before=509),)
    assert read(seen).skipped == ()


def test_several_vmas_and_a_hole(seen: FakeProc) -> None:
    seen.vma(BASE - 2 * RANGE, BASE + 100 * 4096)
    seen.vma(BASE + 100 * 4096, BASE + 200 * 4096, perms="r--p", flags="rd mr mw me ac sd")
    seen.vma(BASE + 300 * 4096, BASE + RANGE, flags="rd wr mr mw me dd sd")
    seen.page(BASE + 99 * 4096, SEEN, pfn=7, flags=f.PLAIN)
    seen.page(BASE + 100 * 4096, SEEN, pfn=8, flags=f.PLAIN)
    (scenario,) = read(seen).scenarios
    assert scenario.vmas == (
        Vma(pages="." * 99 + "a", start=0, before=512),
        Vma(pages="r" + "." * 99, start=100, flags=("read",)),
        Vma(pages="." * 212, start=300, flags=("dontdump", "read", "write")),
    )
    assert read(seen).skipped == (("untouched", 2),)


def test_a_range_with_a_part_of_a_file_is_left_out(seen: FakeProc) -> None:
    seen.vma(BASE, BASE + 4096, inode=9, name="/usr/bin/thing")
    seen.vma(BASE + 4096, BASE + RANGE)
    seen.page(BASE + 4096, SEEN, pfn=7, flags=f.PLAIN)
    assert read(seen) == Capture(scenarios=(), skipped=(("file VMA", 1),))


@pytest.mark.parametrize(
    ("letter", "vma_flags", "word", "flags"),
    [
        ("F", "rd wr sd", SEEN, f.ANON | f.LRU),
        ("F", "rd wr sd dp", SEEN, f.ANON | f.LRU),
        ("l", "rd wr sd lo", SEEN, f.PLAIN | f.UNEVICTABLE | f.MLOCKED),
        ("a", "rd wr sd lo", SEEN, f.PLAIN),
        ("g", "rd wr sd", f.GUARD, None),
        ("g", "rd wr sd", f.GUARD | f.SWAP | 31 | 4 << 5, None),
        ("P", "rd wr sd", f.SWAP | 31 | 2 << 5, None),
        ("U", ARMED, f.SWAP | f.UFFD_WP | 31 | 1 << 5, None),
    ],
)
def test_letters_that_need_more_than_the_page(seen: FakeProc, letter: str, vma_flags: str, word: int, flags: int | None) -> None:
    seen.vma(BASE, BASE + RANGE, flags=vma_flags)
    seen.page(BASE + 4096, word, pfn=7 if flags is not None else 0, flags=flags)
    assert only(seen).pages == "." + letter + "." * 510


def test_pages_merged_by_ksm(seen: FakeProc) -> None:
    """Each folio has a letter of its own; one that is mapped more often than the range maps it is shared."""
    seen.vma(BASE, BASE + RANGE, flags="rd wr mg sd")
    for page, pfn, mapcount in ((0, 7, 2), (1, 7, 2), (2, 8, 1), (3, 9, 5), (4, 9, 5)):
        seen.page(BASE + page * 4096, f.PRESENT | f.SOFT_DIRTY, pfn=pfn, flags=f.PLAIN | f.KSM, mapcount=mapcount)
    scenario = only(seen)
    assert scenario.pages[:6] == "AABCC."
    private = attrs.evolve(ALPHABET["K"], mapped_by=0)
    assert scenario.letters == (("A", private), ("B", private), ("C", ALPHABET["K"]))
    assert "mapped_by" in scenario.assumed


def test_every_flag_of_a_vma(seen: FakeProc) -> None:
    seen.vma(BASE, BASE + RANGE, flags="rd wr ex lo gd dc dd de io mg nh um uw sd")
    seen.page(BASE, SEEN, pfn=7, flags=f.PLAIN)
    assert only(seen).vmas[0].flags == (
        "dontcopy", "dontdump", "dontexpand", "exec", "growsdown", "io", "locked", "mergeable", "nohugepage", "read", "uffd_missing",
        "uffd_wp", "write",
    )  # fmt: skip
    assert "lockonfault" in only(seen).assumed


@pytest.mark.parametrize(("line", "expected", "sure"), [("THP_enabled:\t0\n", "yes", True), ("THP_enabled:\t1\n", "no", False)])
def test_the_process_switch(proc: FakeProc, line: str, expected: str, sure: bool) -> None:
    proc.status(f"Name:\tx\n{line}Threads:\t1\n")
    proc.vma(BASE, BASE + RANGE)
    proc.page(BASE, SEEN)
    assert (only(proc).thp_disable, "thp_disable" not in only(proc).assumed) == (expected, sure)


@pytest.mark.parametrize(
    ("groups", "room"),
    [
        ({"/a/b": ("max", 4096)}, None),
        ({"/a/b": (str(100 * 4096), 60 * 4096)}, 40),
        ({"/a/b": (str(100 * 4096), 60 * 4096), "/a": (str(80 * 4096), 70 * 4096)}, 10),
        ({"/a/b": ("4096", 8192)}, 0),
        ({"/a/b": (str(1 << 40), 0)}, None),
    ],
)
def test_the_room_in_the_cgroup(proc: FakeProc, groups: dict[str, tuple[str, int]], room: int | None) -> None:
    for path, (limit, usage) in groups.items():
        proc.cgroup(path, limit=limit, usage=usage)
    proc.vma(BASE, BASE + RANGE)
    proc.page(BASE, SEEN)
    assert only(proc).memcg_room == room
    assert "memcg_room" not in only(proc).assumed


def test_node_reclaim(proc: FakeProc) -> None:
    proc.setting("enabled", "[always] madvise never")
    proc.sysctl("zone_reclaim_mode", "1")
    proc.vma(BASE, BASE + RANGE)
    proc.page(BASE, SEEN)
    assert only(proc).tunables.node_reclaim


def test_ranges_are_counted_by_reason(proc: FakeProc) -> None:
    proc.vma(BASE - RANGE, BASE - RANGE + 4096)
    proc.vma(BASE - RANGE + 8192, BASE)
    proc.vma(BASE, BASE + 3 * RANGE + 4096)
    proc.vma(BASE + 8 * RANGE, BASE + 10 * RANGE, inode=9, name="/usr/bin/thing")
    proc.vma(BASE + 10 * RANGE, BASE + 10 * RANGE + 4096, inode=9, name="/usr/bin/thing")
    proc.vma(BASE + 12 * RANGE, BASE + 13 * RANGE, perms="rw-s", inode=9, name="/dev/zero (deleted)", flags="rd wr sh")
    proc.vma(BASE + 14 * RANGE, BASE + 15 * RANGE, flags="rd wr lo")
    proc.vma(BASE + 16 * RANGE, BASE + 17 * RANGE, flags="rd wr io pf")
    proc.vma(BASE + 18 * RANGE, BASE + 19 * RANGE, flags="rd wr ht")
    proc.vma(BASE + 20 * RANGE, BASE + 20 * RANGE + 4096, name="[vdso]", flags="rd ex de")
    proc.vma(BASE + 22 * RANGE, BASE + 22 * RANGE + (257 << 30))
    assert dict(read(proc).skipped) == {
        "VMA above 256 GiB": (257 << 30) // RANGE,
        "file VMA": 3,
        "hugetlb": 1,
        "shared mapping": 1,
        "special mapping": 2,
        "untouched": 6,
    }


def test_a_vma_that_vanishes_is_counted(proc: FakeProc) -> None:
    proc.vma(BASE, BASE + RANGE, vanishes=True)
    proc.vma(BASE + 2 * RANGE, BASE + 3 * RANGE)
    proc.page(BASE, SEEN)
    proc.page(BASE + 2 * RANGE, SEEN)
    found = read(proc)
    assert found.skipped == (("changed while it was read", 1),)
    assert [s.name for s in found.scenarios] == ["range 1"]


def test_without_privilege(proc: FakeProc) -> None:
    proc.vma(BASE, BASE + RANGE)
    proc.page(BASE, SEEN)
    proc.page(BASE + 4096, f.PRESENT)
    scenario = only(proc)
    assert scenario.vmas[0].pages == "az" + "." * 510
    hidden = {"ksm", "lazyfree", "locked", "lru", "mapped_by", "mlocked", "order", "referenced", "swapcache"}
    assert scenario.assumed == tuple(sorted(hidden | ALWAYS | {"memcg_room", "tunables"}))


def test_without_privilege_a_zero_page_and_a_shared_page_look_the_same(proc: FakeProc) -> None:
    proc.vma(BASE, BASE + RANGE, kb={"Shared_Dirty": 4})
    proc.page(BASE, f.PRESENT | f.SOFT_DIRTY)
    scenario = only(proc)
    assert scenario.vmas[0].pages == "s" + "." * 511
    assert "kind" in scenario.assumed


@pytest.mark.parametrize(("word", "huge"), [(SEEN, 2048), (f.PRESENT, 0)])
def test_without_privilege_a_full_range_may_be_mapped_by_a_pmd(proc: FakeProc, word: int, huge: int) -> None:
    proc.vma(BASE, BASE + RANGE, kb={"AnonHugePages": huge})
    for i in range(512):
        proc.page(BASE + i * 4096, word)
    assert read(proc).skipped == (("perhaps mapped by a PMD (privilege tells)", 1),)


def test_with_privilege_less_is_assumed(seen: FakeProc) -> None:
    seen.setting("enabled", "[always] madvise never")
    for name, value in (("max_ptes_none", "1"), ("max_ptes_shared", "2"), ("max_ptes_swap", "3"), ("defrag", "1")):
        seen.setting(f"khugepaged/{name}", value)
    seen.setting("shrink_underused", "0")
    seen.vma(BASE, BASE + RANGE)
    seen.page(BASE, SEEN, pfn=7, flags=f.PLAIN)
    seen.cgroup("/", limit="max", usage=0)
    seen.sysctl("zone_reclaim_mode", "0")
    assert only(seen).assumed == tuple(sorted(ALWAYS))


def test_a_kernel_without_the_soft_dirty_bit(proc: FakeProc) -> None:
    proc.vma(BASE, BASE + RANGE, flags="rd wr")
    proc.page(BASE, f.PRESENT | f.ONCE)
    scenario = only(proc)
    assert scenario.vmas[0].pages[0] == "a"
    assert "soft_dirty" in scenario.assumed


def test_settings_are_captured(proc: FakeProc) -> None:
    proc.setting("enabled", "always [madvise] never")
    proc.setting("hpage_pmd_size", "2097152")
    proc.setting("khugepaged/max_ptes_none", "511")
    proc.setting("khugepaged/max_ptes_swap", "9999")
    proc.setting("khugepaged/max_ptes_shared", "0")
    proc.setting("khugepaged/defrag", "0")
    proc.setting("hugepages-64kB/enabled", "[always] inherit madvise never")
    proc.setting("hugepages-2048kB/enabled", "always inherit [madvise] never")
    proc.vma(BASE, BASE + RANGE, flags="rd wr ex hg um")
    proc.page(BASE, SEEN)
    scenario = only(proc)
    tunables = scenario.tunables
    assert (tunables.enabled, tunables.defrag, tunables.shrink_underused) == ("madvise", False, True)
    assert (tunables.max_ptes_none, tunables.max_ptes_swap, tunables.max_ptes_shared) == (511, 511, 0)
    assert tunables.hugepages == ("never", "never", "always", "never", "never", "never", "never", "madvise")
    assert "shrink_underused" in scenario.assumed
    assert scenario.vmas[0].flags == ("exec", "hugepage", "read", "uffd_missing", "write")
    assert scenario.driver == Driver(kind=DriverKind.KHUGEPAGED)


def test_names_only_when_asked(proc: FakeProc) -> None:
    proc.vma(BASE, BASE + RANGE, name="[heap]")
    proc.vma(BASE + 2 * RANGE, BASE + 3 * RANGE)
    proc.page(BASE, SEEN)
    proc.page(BASE + 2 * RANGE, SEEN)
    assert [s.name for s in read(proc).scenarios] == ["range 1", "range 2"]
    assert [s.name for s in read(proc, names=True).scenarios] == ["[heap] 0x10000000", "anonymous 0x10400000"]


def test_the_forms_that_are_judged(proc: FakeProc) -> None:
    proc.setting("enabled", "always madvise [never]")
    proc.vma(BASE, BASE + RANGE)
    proc.page(BASE, SEEN)
    captured, every, pmd_only, madvise = as_captured_drivers(only(proc))
    assert captured == only(proc)
    assert (every.tunables.enabled, every.tunables.hugepages) == ("always", ("always",) * 8)
    assert (pmd_only.tunables.enabled, pmd_only.tunables.hugepages) == ("always", ("never",) * 7 + ("always",))
    assert madvise.driver.kind is DriverKind.MADVISE
    assert madvise.tunables == captured.tunables
    assert {s.vmas for s in (captured, every, pmd_only, madvise)} == {captured.vmas}


def test_no_such_process(proc: FakeProc) -> None:
    with pytest.raises(CaptureError, match="there is no process 43; give the pid of a running process"):
        capture(43, root=proc.root, page_size=4096)


def test_no_proc(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="is not mounted"):
        capture(PID, root=tmp_path, page_size=4096)


def test_a_process_without_memory(proc: FakeProc) -> None:
    with pytest.raises(CaptureError, match="has no memory"):
        read(proc)


def test_a_process_of_somebody_else(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(CaptureError, match="process 42 may not be read; run as its user, or as root"):
        read(proc)


def test_another_page_size(proc: FakeProc) -> None:
    with pytest.raises(CaptureError, match="pages have 65536 bytes; capture on a kernel with pages of 4096 bytes"):
        capture(PID, root=proc.root, page_size=65536)


def test_another_pmd_size(proc: FakeProc) -> None:
    proc.setting("hpage_pmd_size", "33554432")
    with pytest.raises(CaptureError, match="PMD maps 33554432 bytes"):
        read(proc)
