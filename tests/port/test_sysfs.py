"""The files under ``transparent_hugepage/``: their texts, what they accept, what they refuse (reference, section 7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmm.kernel import current
from kmm.mm.khugepaged.enter import wake_up_khugepaged
from kmm.mm.kstrtox import UINT_MAX, ULONG_MAX, kstrtobool, kstrtouint, kstrtoul, memparse, strstrip, sysfs_streq
from kmm.mm.sysfs import SysfsError, sysfs_files, sysfs_files_of, sysfs_read, sysfs_write
from kmm.mm.vmstat import count_mthp_stat
from kmm.scenario.build import World, build
from kmm.scenario.model import Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from refactors import v12
from tests.helpers import make, running

DEFAULTS: Final = {
    "defrag": "always defer defer+madvise [madvise] never\n",
    "enabled": "[always] madvise never\n",
    "hpage_pmd_size": "2097152\n",
    "shrink_underused": "1\n",
    "use_zero_page": "1\n",
    "khugepaged/alloc_sleep_millisecs": "60000\n",
    "khugepaged/defrag": "1\n",
    "khugepaged/full_scans": "0\n",
    "khugepaged/max_ptes_none": "511\n",
    "khugepaged/max_ptes_shared": "256\n",
    "khugepaged/max_ptes_swap": "64\n",
    "khugepaged/pages_collapsed": "0\n",
    "khugepaged/pages_to_scan": "4096\n",
    "khugepaged/scan_sleep_millisecs": "10000\n",
    **{f"hugepages-{kilobytes}kB/enabled": "always inherit madvise [never]\n" for kilobytes in (16, 32, 64, 128, 256, 512, 1024)},
    "hugepages-2048kB/enabled": "always [inherit] madvise never\n",
}
STATS: Final = (
    *("anon_fault_alloc", "anon_fault_fallback", "anon_fault_fallback_charge", "collapse_alloc", "collapse_alloc_failed"),
    *("collapse_exceed_none_pte", "collapse_exceed_shared_pte", "collapse_exceed_swap_pte", "nr_anon", "nr_anon_partially_mapped"),
    *("split", "split_deferred", "split_failed", "swpin", "swpin_fallback", "swpin_fallback_charge", "swpout", "swpout_fallback"),
    "zswpout",
)
WORDS: Final = {
    "enabled": ("always", "madvise", "never"),
    "defrag": ("always", "defer", "defer+madvise", "madvise", "never"),
    "hugepages-64kB/enabled": ("always", "inherit", "madvise", "never"),
}
NUMBERS: Final = {
    "use_zero_page": (0, 1),
    "khugepaged/defrag": (0, 1),
    "khugepaged/max_ptes_none": (0, 511),
    "khugepaged/max_ptes_shared": (0, 511),
    "khugepaged/max_ptes_swap": (0, 511),
    "khugepaged/pages_to_scan": (1, UINT_MAX),
    "khugepaged/scan_sleep_millisecs": (0, UINT_MAX),
    "khugepaged/alloc_sleep_millisecs": (0, UINT_MAX),
}
READ_ONLY: Final = ("hpage_pmd_size", "khugepaged/full_scans", "khugepaged/pages_collapsed", "hugepages-64kB/stats/swpout")


@contextmanager
def machine(geometry: Geometry | None = None) -> Iterator[World]:
    """A machine that has just booted."""
    geometry = Geometry() if geometry is None else geometry
    vma = Vma(pages="." * geometry.ptes, flags=("read", "write"))
    driver = Driver(kind=DriverKind.KHUGEPAGED)
    world = build(Scenario(geometry=geometry, tunables=Tunables.default(geometry), vmas=(vma,), driver=driver), v12.VARIANT)
    with world.system.running(world.task):
        yield world


def khugepaged_runs(world: World) -> bool:
    """There is such a thread."""
    return world.system.khugepaged_thread._running


def everything() -> dict[str, str]:
    """The text of every file."""
    return {path: sysfs_read(path) for path in sysfs_files()}


def test_a_machine_that_booted_shows_the_defaults() -> None:
    with machine():
        found = everything()
    stats = {path: text for path, text in found.items() if "/stats/" in path}
    assert {path: text for path, text in found.items() if path not in stats} == DEFAULTS
    assert set(stats) == {f"hugepages-{16 << n}kB/stats/{name}" for n in range(8) for name in STATS}
    assert set(stats.values()) == {"0\n"}


@pytest.mark.parametrize(
    ("geometry", "sizes", "pmd_size"),
    [
        (Geometry(ptes=8), (16, 32), 32 << 10),
        (Geometry(ptes=2048, page_size=16384), tuple(64 << n for n in range(10)), 32 << 20),
        (Geometry(ptes=8192, page_size=65536), tuple(256 << n for n in range(12)), 512 << 20),
    ],
)
def test_sizes_follow_the_page_size(geometry: Geometry, sizes: tuple[int, ...], pmd_size: int) -> None:
    with machine(geometry):
        enabled = [path for path in sysfs_files() if path.endswith("kB/enabled")]
        assert enabled == [f"hugepages-{size}kB/enabled" for size in sizes]
        assert [sysfs_read(path) for path in enabled[:-1]] == ["always inherit madvise [never]\n"] * (len(sizes) - 1)
        assert sysfs_read(enabled[-1]) == "always [inherit] madvise never\n"
        assert sysfs_read("hpage_pmd_size") == f"{pmd_size}\n"
        assert sysfs_read("khugepaged/max_ptes_none") == f"{geometry.ptes - 1}\n"
        assert sysfs_files() == sysfs_files_of(geometry.page_size, geometry.pmd_order)


@pytest.mark.parametrize(
    ("text", "errno", "value"),
    [
        ("0", "", 0),
        ("511", "", 511),
        ("511\n", "", 511),
        ("+511\n", "", 511),
        ("000511", "", 511),
        ("0" * 5000 + "7", "", 7),
        (str(ULONG_MAX), "", ULONG_MAX),
        (str(ULONG_MAX + 1), "ERANGE", 0),
        ("9" * 5000, "ERANGE", 0),
        ("99999999999999999999x", "ERANGE", 0),
        ("", "EINVAL", 0),
        ("+", "EINVAL", 0),
        ("\n", "EINVAL", 0),
        ("++1", "EINVAL", 0),
        ("-1", "EINVAL", 0),
        (" 1", "EINVAL", 0),
        ("1 ", "EINVAL", 0),
        ("1\n\n", "EINVAL", 0),
        ("1 \n", "EINVAL", 0),
        ("\n1", "EINVAL", 0),
        ("0x10", "EINVAL", 0),
        ("1K", "EINVAL", 0),
        ("1.0", "EINVAL", 0),
        ("1_0", "EINVAL", 0),
        ("\N{ARABIC-INDIC DIGIT ONE}", "EINVAL", 0),
        ("\N{SUPERSCRIPT TWO}", "EINVAL", 0),
    ],
)
def test_kstrtoul(text: str, errno: str, value: int) -> None:
    assert kstrtoul(text) == (errno, value)


@pytest.mark.parametrize(
    ("text", "errno", "value"),
    [(str(UINT_MAX), "", UINT_MAX), (str(UINT_MAX + 1), "ERANGE", 0), (str(ULONG_MAX + 1), "ERANGE", 0), ("x", "EINVAL", 0)],
)
def test_kstrtouint(text: str, errno: str, value: int) -> None:
    assert kstrtouint(text) == (errno, value)


@pytest.mark.parametrize("text", ["1", "y", "Y", "yes\n", "t", "True", "e", "Enabled", "on", "oN", "On\n", "10", "yellow"])
def test_kstrtobool_true(text: str) -> None:
    assert kstrtobool(text) == ("", True)


@pytest.mark.parametrize("text", ["0", "n", "N", "no\n", "f", "False", "d", "Disabled", "off", "oF", "of", "01", "nothing"])
def test_kstrtobool_false(text: str) -> None:
    assert kstrtobool(text) == ("", False)


@pytest.mark.parametrize("text", ["", "\n", "o", "ox", "2", "-1", " 1", "always"])
def test_kstrtobool_refuses(text: str) -> None:
    assert kstrtobool(text)[0] == "EINVAL"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("never", "never", True),
        ("never\n", "never", True),
        ("never", "never\n", True),
        ("never\n\n", "never", False),
        ("never ", "never", False),
        (" never", "never", False),
        ("Never", "never", False),
        ("nev", "never", False),
        ("\n", "", True),
    ],
)
def test_sysfs_streq(one: str, other: str, same: bool) -> None:
    assert sysfs_streq(one, other) == same


@pytest.mark.parametrize(
    ("text", "value", "behind"),
    [
        ("4096", 4096, ""),
        ("1k", 1 << 10, ""),
        ("2M", 2 << 20, ""),
        ("1gx", 1 << 30, "x"),
        ("0x10", 16, ""),
        ("0X1F", 31, ""),
        ("0x", 0, "x"),
        ("010", 8, ""),
        ("08", 0, "8"),
        ("0", 0, ""),
        ("", 0, ""),
        ("K", 0, ""),
        ("-1", 0, "-1"),
        ("+1", 0, "+1"),
        ("1 M", 1, " M"),
        ("16E", 0, ""),
        (str(ULONG_MAX + 5), 4, ""),
    ],
)
def test_memparse(text: str, value: int, behind: str) -> None:
    assert memparse(text) == (value, behind)


def test_strstrip() -> None:
    assert strstrip(" \tmax\n\n") == "max"


@pytest.mark.parametrize(("path", "word"), [(path, word) for path, words in WORDS.items() for word in words])
@pytest.mark.parametrize("newline", ["", "\n"])
def test_words_are_accepted_and_read_back(path: str, word: str, newline: str) -> None:
    with machine():
        assert sysfs_write(path, word + newline) == ""
        assert sysfs_read(path) == " ".join(f"[{w}]" if w == word else w for w in WORDS[path]) + "\n"


@pytest.mark.parametrize("path", WORDS)
@pytest.mark.parametrize("value", ["\n", " always", "always ", "always\n\n", "Always", "alway", "always madvise", "1", "[never]", "defer+"])
def test_other_words_are_refused(path: str, value: str) -> None:
    with machine():
        before = everything()
        assert sysfs_write(path, value) == "EINVAL"
        assert everything() == before


def test_each_file_has_words_of_its_own() -> None:
    with machine():
        assert sysfs_write("enabled", "inherit") == "EINVAL"
        assert sysfs_write("enabled", "defer") == "EINVAL"
        assert sysfs_write("hugepages-64kB/enabled", "defer") == "EINVAL"
        assert sysfs_write("defrag", "inherit") == "EINVAL"


def test_an_order_is_in_one_mask_and_the_others_stay() -> None:
    with machine() as world:
        sysctl = world.system.sysctl
        for mode in ("always", "madvise", "inherit", "never", "inherit"):
            assert sysfs_write("hugepages-64kB/enabled", mode) == ""
            masks = {
                "always": sysctl._huge_anon_orders_always,
                "madvise": sysctl._huge_anon_orders_madvise,
                "inherit": sysctl._huge_anon_orders_inherit,
            }
            assert [name for name, mask in masks.items() if mask & 1 << 4] == [m for m in (mode,) if m != "never"]
            assert {name: mask & ~(1 << 4) for name, mask in masks.items()} == {"always": 0, "madvise": 0, "inherit": 1 << 9}


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, limits in NUMBERS.items() for value in limits])
def test_numbers_are_accepted_at_both_ends(path: str, value: int) -> None:
    with machine():
        assert sysfs_write(path, f"+0{value}\n") == ""
        assert sysfs_read(path) == f"{value}\n"


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, (low, high) in NUMBERS.items() for value in (low - 1, high + 1)])
def test_numbers_beyond_the_ends_are_refused(path: str, value: int) -> None:
    with machine():
        before = everything()
        assert sysfs_write(path, f"{value}\n") == "EINVAL"
        assert everything() == before


@pytest.mark.parametrize("path", NUMBERS)
def test_only_the_flags_say_that_a_number_is_too_large_to_be_parsed(path: str) -> None:
    with machine():
        assert sysfs_write(path, str(ULONG_MAX + 1)) == ("ERANGE" if NUMBERS[path] == (0, 1) else "EINVAL")


def test_shrink_underused_takes_any_bool() -> None:
    with machine():
        assert [sysfs_write("shrink_underused", text) for text in ("off", "2", "maybe")] == ["", "EINVAL", "EINVAL"]
        assert sysfs_read("shrink_underused") == "0\n"
        assert sysfs_write("shrink_underused", "Yes\n") == ""
        assert sysfs_read("shrink_underused") == "1\n"


@pytest.mark.parametrize("path", READ_ONLY)
def test_files_that_are_only_read(path: str) -> None:
    with machine():
        before = everything()
        assert sysfs_write(path, "1") == "EACCES"
        assert everything() == before


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        ("", "ENOENT"),
        ("nothing", "ENOENT"),
        ("khugepaged", "EISDIR"),
        ("hugepages-64kB", "EISDIR"),
        ("hugepages-64kB/stats", "EISDIR"),
        ("khugepaged/", "ENOENT"),
        ("khugepaged/enabled", "ENOENT"),
        ("hugepages-64kB/defrag", "ENOENT"),
        ("hugepages-64kB/swpout", "ENOENT"),
        ("hugepages-64kB/shmem_enabled", "ENOENT"),
        ("hugepages-8kB/enabled", "ENOENT"),
        ("hugepages-4096kB/enabled", "ENOENT"),
        ("hugepages-64/enabled", "ENOENT"),
        ("shmem_enabled", "ENOENT"),
        ("hugepages-1", "ENOENT"),
        ("hugepages-10", "ENOENT"),
        ("hugepages-\N{SUPERSCRIPT TWO}", "ENOENT"),
    ],
)
def test_paths_that_are_no_file(path: str, errno: str) -> None:
    with machine():
        assert sysfs_write(path, "always") == errno
        with pytest.raises(SysfsError, match=f"^{errno}$"):
            sysfs_read(path)


@pytest.mark.parametrize(
    ("short", "path", "value"),
    [
        ("max_ptes_none", "khugepaged/max_ptes_none", "7"),
        ("max_ptes_shared", "khugepaged/max_ptes_shared", "7"),
        ("max_ptes_swap", "khugepaged/max_ptes_swap", "7"),
        ("hugepages-2", "hugepages-16kB/enabled", "always"),
        ("hugepages-9", "hugepages-2048kB/enabled", "madvise"),
    ],
)
def test_the_short_names_of_events(short: str, path: str, value: str) -> None:
    with machine():
        before = sysfs_read(path)
        assert sysfs_write(short, value) == ""
        assert sysfs_read(path) == sysfs_read(short) != before


def test_nothing_at_all_is_accepted_and_changes_nothing() -> None:
    with machine():
        before = everything()
        assert {sysfs_write(path, "") for path in (*WORDS, *NUMBERS, "shrink_underused")} == {""}
        assert everything() == before


def test_a_nul_ends_what_was_written() -> None:
    with machine():
        assert sysfs_write("khugepaged/max_ptes_none", "7\0junk") == ""
        assert sysfs_read("khugepaged/max_ptes_none") == "7\n"
        assert sysfs_write("enabled", "\0always") == "EINVAL"


def test_statistics_are_those_of_their_order() -> None:
    with machine():
        count_mthp_stat(4, "collapse_alloc")
        count_mthp_stat(9, "swpout")
        changed = {path: text for path, text in everything().items() if "/stats/" in path and text != "0\n"}
    assert changed == {"hugepages-64kB/stats/collapse_alloc": "1\n", "hugepages-2048kB/stats/swpout": "1\n"}


def test_counters_of_khugepaged() -> None:
    with machine() as world:
        world.system.node_stat["pages_collapsed"] = 3
        world.system.khugepaged_scan._full_scans = 5
        assert sysfs_read("khugepaged/pages_collapsed") == "3\n"
        assert sysfs_read("khugepaged/full_scans") == "5\n"


@pytest.mark.parametrize("path", ["enabled", "hugepages-2048kB/enabled"])
def test_khugepaged_ends_with_the_last_size_and_starts_with_the_first(path: str) -> None:
    with machine() as world:
        assert sysfs_write(path, "always") == ""
        assert khugepaged_runs(world)
        assert sysfs_write(path, "never") == ""
        assert not khugepaged_runs(world)
        assert sysfs_write("hugepages-16kB/enabled", "madvise") == ""
        assert khugepaged_runs(world), "any size is enough"


@pytest.mark.parametrize("path", ["khugepaged/scan_sleep_millisecs", "khugepaged/alloc_sleep_millisecs"])
def test_a_new_sleep_ends_the_old_one(path: str) -> None:
    with machine() as world:
        thread = world.system.khugepaged_thread
        thread._sleep_expire = 10000
        assert sysfs_write(path, "x") == "EINVAL"
        assert (thread._woken, thread._sleep_expire) == (False, 10000)
        assert sysfs_write(path, "500") == ""
        assert (thread._woken, thread._sleep_expire) == (True, 0)


def test_pages_to_scan_does_not_wake_khugepaged() -> None:
    with machine() as world:
        assert sysfs_write("khugepaged/pages_to_scan", "8") == ""
        assert not world.system.khugepaged_thread._woken
        wake_up_khugepaged()
        assert world.system.khugepaged_thread._woken


def test_nothing_is_left_locked_and_nothing_reported() -> None:
    with machine():
        for path, words in WORDS.items():
            assert [sysfs_write(path, word) for word in words] == [""] * len(words)
        assert current.task.held == []
        assert current.machine.reports == []


def accepted(path: str, value: str) -> str | None:
    """What the file reads after a write of ``value``; ``None`` if it is refused. Written for this test only, from the specification."""
    text = value.split("\0", maxsplit=1)[0]
    if path in WORDS:
        word = text[:-1] if text.endswith("\n") else text
        return re.sub(rf"(?<!\S){re.escape(word)}(?!\S)", f"[{word}]", " ".join(WORDS[path])) + "\n" if word in WORDS[path] else None
    if path == "shrink_underused":
        found = re.match(r"(?i)(?P<yes>[eyt1]|on)|[dnf0]|of", text)
        return None if found is None else "1\n" if found["yes"] else "0\n"
    number = re.fullmatch(r"\+?([0-9]+)\n?", text)
    low, high = NUMBERS[path]
    return f"{int(number[1])}\n" if number and low <= int(number[1]) <= high else None


NEAR: Final = st.from_regex(r"\A[ +-]?[0-9]{0,12}[ \n\x00]{0,2}[0-9x]?\Z")
TEXT: Final = (
    NEAR
    | st.sampled_from([word for words in WORDS.values() for word in words]).flatmap(
        lambda w: st.sampled_from([w, f"{w}\n", f" {w}", w[:-1]])
    )
    | st.sampled_from(["on", "OFF\n", "o", "yes", "F", "E", "d"])
    | st.text(min_size=1, max_size=4)
)


@given(st.lists(st.tuples(st.sampled_from([*WORDS, *NUMBERS, "shrink_underused"]), TEXT), max_size=6))
def test_an_accepted_write_reads_back_and_a_refused_one_changes_nothing(writes: list[tuple[str, str]]) -> None:
    with running(make("." * 512, orders=(9,))):
        for path, value in writes:
            before = everything()
            errno = sysfs_write(path, value)
            expected = before[path] if not value else accepted(path, value)
            assert (expected is None) == bool(errno)
            assert errno in ("", "EINVAL", "ERANGE")
            assert everything() == (before if expected is None else {**before, path: expected})
