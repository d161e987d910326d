"""The page about the files names all of them, with what they show and accept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from kmm.mm.sysfs import sysfs_read, sysfs_write
from kmm.mm.sysfs.hugepage import HUGEPAGE_ATTRS
from kmm.mm.sysfs.khugepaged import KHUGEPAGED_ATTRS
from kmm.mm.vmstat import MTHP_STATS
from tests.port.test_sysfs import machine

PAGE: Final = (Path(__file__).parent.parent / "docs" / "surface.md").read_text(encoding="utf-8")
ROWS: Final = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", PAGE, flags=re.MULTILINE)
SIZE: Final = "hugepages-<N>kB"


def test_the_table_has_every_file() -> None:
    assert {file for file, _, _ in ROWS} == {*HUGEPAGE_ATTRS, *KHUGEPAGED_ATTRS, f"{SIZE}/enabled", f"{SIZE}/stats/*"}


@pytest.mark.parametrize(("file", "shows", "accepts"), [row for row in ROWS if not row[0].endswith("*")])
def test_what_a_row_says_is_so(file: str, shows: str, accepts: str) -> None:
    path = file.replace("<N>", "2048")
    with machine():
        assert sysfs_read(path) == shows.strip("`") + "\n"
        assert (sysfs_write(path, "x") == "EACCES") == (accepts == "nothing")
        limits = re.fullmatch(r"(\d+) to (\d+|NR-1)", accepts)
        if limits:
            low, high = int(limits[1]), 511 if limits[2] == "NR-1" else int(limits[2])
            assert [bool(sysfs_write(path, str(n))) for n in (low - 1, low, high, high + 1)] == [True, False, False, True]


def test_the_statistics_are_named() -> None:
    for name in MTHP_STATS:
        assert f"`{name}`" in PAGE
