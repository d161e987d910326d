"""``kmm run``: the maps, the trace events, the result, what changed, what broke."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from kmm.cli.main import main
from kmm.mm.folio import PG_lru, PG_swapcache
from kmm.report.pagemap import after, before, draw
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.build import build
from kmm.scenario.model import Event, Scenario
from kmm.scenario.page import Kind, PageState
from kmm.scenario.run import run
from kmm.scenario.toml import save
from refactors import v12
from tests.helpers import MADVISE, make
from tests.judging import mutant, variant


def shown(s: Scenario, tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What ``kmm run`` prints."""
    save(tmp_path / "s.toml", s)
    assert main(["run", str(tmp_path / "s.toml"), *arguments]) == 0
    return capsys.readouterr().out


def section(out: str, title: str) -> list[str]:
    """The lines under a title."""
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(title)) + 1
    end = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
    return [line.strip() for line in lines[start:end]]


def test_a_whole_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(make("aaaaaaaa"), tmp_path, capsys)
    assert "\nbefore: a table\n  0  aaaaaaaa\n    a  private, young, dirty, writable\n" in out
    assert "\nafter: one huge page (new@1:0)\n  0  ########\n" in out
    pfn = "scan_pfn=0x17"
    assert section(out, "trace events") == [
        f"mm_collapse_huge_page_isolate: {pfn}, none_or_zero=0, referenced=8, status=succeeded order=3  # page 7 has pfn 0x17",
        "mm_collapse_huge_page: mm=mm1, isolated=1, status=succeeded order=3",
        f"mm_khugepaged_scan_pmd: mm=mm1, {pfn}, referenced=8, none_or_zero=0, status=succeeded, unmapped=0  # page 7 has pfn 0x17",
    ]
    assert section(out, "result") == ["SCAN_SUCCEED", "*mmap_locked = false"]
    assert "hugepages-32kB/stats/collapse_alloc: 0 -> 1" in section(out, "counters that changed")
    assert "thp_collapse_alloc: 0 -> 1" in section(out, "counters that changed")
    assert section(out, "violations") == ["none"]


def test_half_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(attrs.evolve(make("aaaaaaaa....zzaa", orders=(2,), none=0), name="half"), tmp_path, capsys)
    assert out.splitlines()[0] == "half  khugepaged, 16 PTEs, variant v12"
    assert section(out, "after")[:2] == ["0       8", "0  22222222....zzaa"]


def test_a_refusal_by_madvise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(make("aaaapaaa", MADVISE), tmp_path, capsys)
    assert section(out, "result") == ["SCAN_PAGE_COUNT", "errno EAGAIN", "*mmap_locked = true"]
    assert section(out, "counters that changed") == ["none"]


def test_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(make("aaaaaaaa", events=(Event(op="exit", before="alloc"), Event(op="exit", before="alloc", nth=9))), tmp_path, capsys)
    assert section(out, "events") == ["exit before alloc number 1: done", "exit before alloc number 9: not reached"]


def test_another_variant_and_its_violations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mutant(tmp_path / "broken.py", "folio_ref_add(folio, nr_pages - 1)", "folio_ref_add(folio, nr_pages)")
    out = shown(make(".....aaa", orders=(2,)), tmp_path, capsys, "--variant", str(tmp_path / "broken.py"))
    assert section(out, "violations")[0].startswith("REFCOUNT: new@1:4 has 5 references")


def test_a_variant_that_crashes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variant(tmp_path / "v.py", "raise ValueError('no')")
    out = shown(make("aaaaaaaa"), tmp_path, capsys, "--variant", str(tmp_path / "v.py"))
    assert section(out, "result") == ["ValueError in changed:8: no"]


def test_a_variant_that_ends_its_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variant(tmp_path / "v.py", "os._exit(5)")
    save(tmp_path / "s.toml", make("aaaaaaaa"))
    assert main(["run", str(tmp_path / "s.toml"), "--variant", str(tmp_path / "v.py")]) == 3
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "kmm: undetermined: the variant ended the process with code 5\n")


def test_a_variant_that_is_not_applicable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variant(tmp_path / "v.py", "raise NotApplicable")
    out = shown(make("aaaaaaaa"), tmp_path, capsys, "--variant", str(tmp_path / "v.py"))
    assert section(out, "result") == ["the variant does not do what the scenario asks for"]


def test_512_pages_are_drawn_in_rows_of_64() -> None:
    pages = "".join(letter * 64 for letter in "abcdefgh")
    rows = list(draw(pages))
    assert rows[0] == "     0       8       16      24      32      40      48      56"
    assert rows[1] == "  0  " + "a" * 64
    assert rows[8] == "448  " + "h" * 64
    assert len(rows) == 9


def test_rows_that_repeat_are_left_out_but_the_last() -> None:
    assert list(draw("a" * 512))[1:] == ["  0  " + "a" * 64, "  *", "448  " + "a" * 64]
    assert [row[:8] for row in list(draw("a" * 128 + "b" * 64 + "a" * 320))[1:]] == [
        "  0  aaa",
        "  *",
        "128  bbb",
        "192  aaa",
        "  *",
        "448  aaa",
    ]


LETTERS = [c for c in ALPHABET if c in "afoczrnstwvyhpkxbmuqST2"]


@pytest.mark.parametrize("letter", LETTERS)
def test_what_does_not_change_keeps_its_letter(letter: str) -> None:
    large = ALPHABET[letter].order
    flags = ("read", "write", "uffd_wp") if letter in "uq" else ("read", "write")
    s = make(letter * (4 if large else 1) + "." * (4 if large else 7), flags=flags)
    world = build(s, v12.VARIANT)
    assert after(world, s).pages == s.vmas[0].pages == before(s).pages


def test_letters_of_a_file_are_used_again() -> None:
    far = PageState(kind=Kind.PRESENT, young=True, node=3)
    s = make("Aaaaaaaa", letters=(("A", far),), none=0, flags=("nohugepage", "read", "write"))
    drawn = after(run(s, v12.VARIANT).world, s)
    assert drawn.pages == "Aaaaaaaa"
    assert dict(drawn.legend)["A"] == "present, young, node 3"


def test_a_state_without_a_letter_gets_one() -> None:
    s = make("aaaaaaaa")
    world = build(s, v12.VARIANT)
    world.system.per_cpu[0]._lru_add = (world.system.folios[0],)
    world.system.folios[0]._flags &= ~PG_lru
    world.system.folios[1]._flags |= PG_swapcache
    drawn = after(world, s)
    assert drawn.pages == "bAaaaaaa"
    assert dict(drawn.legend)["A"] == "present, young, dirty, write, exclusive, soft_dirty, swapcache"


@pytest.mark.parametrize(
    ("pmd", "title", "pages"), [("none", "nothing", ""), ("absent", "no PMD page", ""), ("huge", "one huge page", "#" * 8)]
)
def test_no_table(pmd: str, title: str, pages: str) -> None:
    drawn = before(make("........", pmd=pmd))
    assert (drawn.title, drawn.pages) == (title, pages)
    assert after(build(make("........", pmd=pmd), v12.VARIANT), make("........", pmd=pmd)).pages == pages


def test_an_impossible_entry_is_marked() -> None:
    s = make("aaaaaaaa")
    world = build(s, v12.VARIANT)
    world.system.folios[2].pages[0]._flags = 0
    drawn = after(world, s)
    assert drawn.pages == "aa!aaaaa"
    assert dict(drawn.legend)["!"] == "impossible"
