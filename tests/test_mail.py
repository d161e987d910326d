"""The mail: short lines, and what stands in them."""

from __future__ import annotations

from pathlib import Path

from kmm.judge.check import check
from kmm.report.mail import COLUMNS, mail
from kmm.scenario.families import Family
from tests.concurrent.making import beside
from tests.helpers import make
from tests.judging import V12, family, mutant, variant

SMALL = [make("aaaaaaaa"), make(".....aaa", orders=(2,))]


def text_of(path: Path, *families: Family, old: str = "folio_ref_add(folio, nr_pages - 1)", new: str = "folio_ref_add(folio, 3)") -> str:
    verdict = check(V12, mutant(path, old, new), families, seed=7)
    text = mail(verdict)
    joined = "".join(text.split())
    assert verdict.certificate in joined
    assert max(map(len, text.splitlines())) <= COLUMNS == 72
    assert text.endswith("no others.\n")
    assert "not about the C code" in " ".join(text.split())
    return text


def test_of_a_difference(tmp_path: Path) -> None:
    text = text_of(tmp_path / ("a-very-long-name-of-a-file-" * 4 + ".py"), family(*SMALL), new="folio_ref_add(folio, nr_pages)")
    assert text.startswith("kmm check: different: reviewed does not behave as v12 does\n")
    assert 'map = ".....aaa"' in text or 'map = "aaaaaaaa"' in text
    assert "REFCOUNT" in text
    assert "scope       " in text
    assert ", seed 7" in text


def test_of_an_equivalence(tmp_path: Path) -> None:
    text = text_of(tmp_path / "same.py", family(*SMALL), new="folio_ref_add(folio, -1 + nr_pages)")
    assert "equivalent" in text.splitlines()[0]
    assert "counterexample" not in text
    assert "2 distinct scenarios (2 exhaustive)" in text
    sampled = text_of(tmp_path / "more.py", family(*SMALL, kind="sampled"), new="folio_ref_add(folio, -1 + nr_pages)")
    assert "no difference found" in sampled


def test_findings_of_both_sides_are_told(tmp_path: Path) -> None:
    verdict = check(V12, V12, [family(beside("munmap:0-7", pages="aaa.aaaa", orders=(2, 3)), *SMALL)], seed=0)
    shared = [each.check for each in verdict.findings]
    text = mail(verdict)
    assert all(each in text for each in shared)
    broken = variant(
        tmp_path / "both.py",
        "current.machine.report('DEBUG_VM', 'something')".replace("current", "__import__('kmm.kernel.current', fromlist=['x'])"),
    )
    assert "DEBUG_VM 2 (scenarios in which both sides" in " ".join(mail(check(broken, broken, [family(*SMALL)], seed=0)).split())
