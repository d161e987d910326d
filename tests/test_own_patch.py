"""``kmm check`` with patches, a tree or a revision."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from kmm.cli.main import main
from kmm.lab.typecheck import Check, Error
from kmm.scenario.toml import load_replay, save_many
from tests.concurrent.making import beside
from tests.helpers import direct, make
from tests.judging import ROOT
from tests.trees import contents, copied, diff, git, replace, repository

REVALIDATE = "result, vma = hugepage_vma_revalidate(mm, pmd_address, True, cc, order)"
SCENARIOS = [make("aaaaaaaa"), make(".....aaa", orders=(2,)), make("wwaaaaaa"), make("aaaa....", direct(2, 4))]
UNMAP = beside("munmap:0-7", pages="aaa.aaaa", orders=(2, 3))
REVIEWED = "refactors/reviewed.py"
RMAP = "kmm/mm/rmap.py"
ADD = "folio_ref_add(folio, nr_pages - 1)"
INDEX = "machine.write(folio, Folio.index, linear_page_index(vma, address), PLAIN)"
KERNEL = "kmm/kernel/__init__.py"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with scenarios, which is the current one; mypy is slow, and has its own tests. No process may stay behind."""
    monkeypatch.setattr("kmm.lab.sides.can_type_check", lambda: False)
    monkeypatch.setattr("kmm.lab.typecheck.can_type_check", lambda: True)
    monkeypatch.chdir(tmp_path)
    save_many("s.toml", SCENARIOS)
    before = children()
    yield tmp_path
    assert children() == before


def children() -> set[str]:
    """Processes that this one has begun and that still run."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def verdict(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    """Exit code and JSON verdict."""
    code = main(["check", "--scenario", "s.toml", *arguments, "--format", "json"])
    out: dict[str, object] = json.loads(capsys.readouterr().out)
    return code, out


def part(out: dict[str, object], name: str) -> dict[str, object]:
    value = out[name]
    assert isinstance(value, dict)
    return value


def test_a_patch_of_a_variant_is_judged_against_the_variant_without(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "fix.patch").write_text(diff(REVIEWED, ADD, "folio_ref_add(folio, nr_pages)"))
    before = contents(ROOT / "refactors")
    code, out = verdict(capsys, "fix.patch")
    assert (code, out["relation"]) == (2, "different")
    assert (part(out, "baseline")["name"], part(out, "candidate")["name"]) == ("reviewed", "reviewed (patched)")
    assert contents(ROOT / "refactors") == before
    example = part(out, "counterexample")
    text = str(example["explanation"])
    assert "at refactors/reviewed.py:" in text
    assert "folio_ref_add(folio, nr_pages)" in text
    assert "REFCOUNT" in text
    file = str(example["file"])
    assert load_replay(file)[1] == {
        "candidate": "reviewed",
        "candidate_patches": "fix.patch",
        "baseline": "reviewed",
        "expect": "different",
    }
    assert main(["replay", file]) == 0
    assert text in capsys.readouterr().out


def test_a_patch_of_the_port_is_seen(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "fix.diff").write_text(diff(RMAP, INDEX, "pass"))
    code, out = verdict(capsys, "fix.diff")
    assert (code, out["relation"]) == (2, "different")
    assert part(out, "candidate")["name"] == "v12 (patched)"
    assert "index" in str(part(out, "counterexample")["explanation"])


def test_a_patch_that_changes_nothing_is_equivalent(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "fix.patch").write_text(diff(RMAP, INDEX, f"{INDEX}  # as before"))
    code, out = verdict(capsys, "fix.patch")
    assert (code, out["relation"], out["scenarios"]) == (0, "equivalent", len(SCENARIOS))
    sides = part(out, "baseline"), part(out, "candidate")
    assert sides[0]["sha256"] != sides[1]["sha256"]


def test_a_series_applies_in_order(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied(here / "tree")
    (here / "1.patch").write_text(diff(REVIEWED, ADD, "folio_ref_add(folio, nr_pages)"))
    replace(here / "tree" / REVIEWED, ADD, "folio_ref_add(folio, nr_pages)")
    (here / "2.patch").write_text(diff(REVIEWED, "folio_ref_add(folio, nr_pages)", ADD, here / "tree"))
    assert verdict(capsys, "1.patch", "2.patch")[0] == 0
    assert main(["check", "--scenario", "s.toml", "2.patch", "1.patch"]) == 4
    (here / "both.txt").write_text("".join((here / name).read_text() for name in ("1.patch", "2.patch")))
    assert verdict(capsys, "--patch", "both.txt")[0] == 0
    assert verdict(capsys, "reviewed", "1.patch")[0] == 2


def test_a_new_variant_is_judged_against_v12(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (ROOT / "refactors" / "v12.py").read_text().splitlines()
    text = f"--- /dev/null\n+++ b/refactors/mine.py\n@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)
    (here / "new.patch").write_text(text)
    code, out = verdict(capsys, "new.patch")
    assert (code, part(out, "baseline")["name"], part(out, "candidate")["name"]) == (0, "v12", "v12 (patched)")
    assert "refactors/mine.py of the tree with new.patch" in str(part(part(out, "environment"), "candidate")["origin"])


def test_a_difference_that_takes_a_race(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, _, tail = (ROOT / REVIEWED).read_text().rpartition(REVALIDATE)
    copied(here / "tree")
    (here / "tree" / REVIEWED).write_text(f"{head}result = ScanResult.SCAN_SUCCEED{tail}")
    save_many("s.toml", [UNMAP])
    code, out = verdict(capsys, "reviewed", "--tree", "tree")
    assert (code, out["relation"]) == (2, "different")
    example = part(out, "counterexample")
    assert "KASAN" in str(example["explanation"])
    assert "[schedule]" in str(example["scenario"])
    assert main(["replay", str(example["file"])]) == 0


def test_the_same_tree_is_equivalent_races_and_all(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied(here / "tree")
    save_many("s.toml", [*SCENARIOS, UNMAP])
    code, out = verdict(capsys, "--tree", "tree")
    assert (code, out["relation"], out["scenarios"]) == (0, "equivalent", len(SCENARIOS) + 1)
    assert part(out, "baseline")["sha256"] == part(out, "candidate")["sha256"]
    assert part(out, "candidate")["name"] == "v12 (other tree)"


def test_declared_differences_hold_in_another_tree(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied(here / "tree")
    mine = verdict(capsys, "merged", "--baseline", "v12")[1]
    other = verdict(capsys, "merged", "--baseline", "v12", "--tree", "tree")[1]
    repository(here / "repo")
    both = verdict(capsys, "merged", "--baseline", "v12", "--tree", "repo", "--rev", "HEAD..HEAD")[1]
    assert mine["intended_differences"]
    assert both["intended_differences"] == mine["intended_differences"]
    assert (other["relation"], other["intended_differences"]) == (mine["relation"], mine["intended_differences"])


def test_revisions(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = repository(here / "repo")
    replace(root / RMAP, INDEX, "pass")
    git(root, "commit", "-q", "-a", "-m", "two")
    git(root, "tag", "bad")
    code, out = verdict(capsys, "--tree", "repo", "--rev", "HEAD~1..HEAD")
    commits = git(root, "rev-parse", "HEAD~1", "HEAD").split()
    assert (code, [part(out, side)["name"] for side in ("baseline", "candidate")]) == (2, [f"v12 ({each[:12]})" for each in commits])
    table = load_replay(str(part(out, "counterexample")["file"]))[1]
    assert (table["baseline_tree"], table["baseline_rev"], table["candidate_rev"]) == ("repo", *commits)
    assert main(["replay", str(part(out, "counterexample")["file"])]) == 0
    capsys.readouterr()
    (here / "undo.patch").write_text(diff(RMAP, INDEX, INDEX + "  # again"))
    assert verdict(capsys, "--tree", "repo", "--rev", "HEAD~1")[0] == 0
    assert verdict(capsys, "undo.patch", "--tree", "repo", "--rev", "HEAD~1")[0] == 0
    assert verdict(capsys, "--tree", "repo", "--rev", "bad")[0] == 2


OUTSIDE = "--- a/kmm/judge/pair.py\n+++ b/kmm/judge/pair.py\n@@ -1 +1 @@\n-x\n+y\n"
BAD_PATCHES = {
    "does not apply": (diff(REVIEWED, ADD, "pass").replace("-    " + ADD, "-    " + "folio_ref_sub(folio)"), "hunk 1 does not apply"),
    "fuzz": (diff(REVIEWED, ADD, "pass").replace("     folio_add_new", "     folio_add_old"), "hunk 1 does not apply"),
    "moved": (diff(REVIEWED, ADD, "pass").replace("@@ -", "@@ -1", 1), "its lines stand at line"),
    "outside": (OUTSIDE, "outside of refactors and kmm/mm"),
    "climbs": (OUTSIDE.replace("kmm/judge", "../kmm/mm"), "climbs out of the tree"),
    "absolute": ("--- /etc/passwd\n+++ /etc/passwd\n@@ -1 +1 @@\n-x\n+y\n", "climbs out of the tree"),
    "no diff": ("hello\n", "holds no diff"),
    "not Python": (diff(REVIEWED, ADD, "folio_ref_add(folio,"), "is not Python"),
    "a name that is not there": (diff(REVIEWED, "VARIANT = Variant(", "VARIANT = Variants("), "does not import (NameError"),
    "the port does not import": (
        diff(RMAP, "def folio_add_new_anon_rmap(", "def folio_add_anon_rmap_new("),
        "does not import (ImportError",
    ),
    "ends the process": (
        diff(RMAP, "def folio_add_new_anon_rmap(", "import os\nos._exit(0)\n\n\ndef folio_add_new_anon_rmap("),
        "does not import",
    ),
    "no variant": (diff(REVIEWED, "VARIANT = Variant(", "VARIAN = Variant("), "the module has no VARIANT"),
}


@pytest.mark.parametrize("name", BAD_PATCHES)
def test_bad_patches(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, said = BAD_PATCHES[name]
    (here / "bad.patch").write_text(text)
    before = contents(ROOT / "refactors"), contents(ROOT / "kmm" / "mm"), sorted(each.name for each in here.iterdir())
    complaint(capsys, ["bad.patch", *([] if "kmm/mm" in text or "refactors" not in text else ["--baseline", "reviewed"])], said)
    assert (contents(ROOT / "refactors"), contents(ROOT / "kmm" / "mm"), sorted(each.name for each in here.iterdir())) == before


def complaint(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    """One line, and exit code 4."""
    code = main(["check", "--scenario", "s.toml", *arguments])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (4, "", 1), err
    assert said in err


def test_a_type_error_is_refused(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmm.lab.sides.can_type_check", lambda: True)
    found = [("refactors/reviewed.py", 9, "old"), ("refactors/reviewed.py", 88, "new")]

    class Mypy(Check):
        def __init__(self, root: Path) -> None:
            self.changed = ADD not in (root / REVIEWED).read_text()

        def errors(self) -> list[Error]:
            return found if self.changed else found[:1]

        def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
            pass

    for module in ("sides", "typecheck"):
        monkeypatch.setattr(f"kmm.lab.{module}.Check", Mypy)
    (here / "bad.patch").write_text(diff(REVIEWED, ADD, 'folio_ref_add(folio, "1")'))
    complaint(capsys, ["bad.patch"], "refactors/reviewed.py:88 of the tree with bad.patch: the code does not type-check (new)")


@pytest.mark.full
def test_mypy_finds_a_type_error(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mypy")
    monkeypatch.setattr("kmm.lab.sides.can_type_check", lambda: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    (here / "bad.patch").write_text(diff(REVIEWED, ADD, 'folio_ref_add(folio, "1")'))
    complaint(capsys, ["bad.patch"], "does not type-check (Argument 2")
    (here / "good.patch").write_text(diff(REVIEWED, ADD, "folio_ref_add(folio, -1 + nr_pages)"))
    assert main(["check", "--scenario", "s.toml", "good.patch"]) == 0


def test_bad_trees(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complaint(capsys, ["--tree", "nothing"], "nothing: cannot be read (No such file or directory)")
    complaint(capsys, ["--tree", "."], "cannot be read")
    complaint(capsys, ["--tree", str(copied(here / "tree")), "--rev", "HEAD"], "this is no git repository")
    complaint(capsys, ["--rev", "no-such-rev"], "there is no revision" if (ROOT / ".git").exists() else "no git repository")
    complaint(capsys, ["--rev", "a...b"], "three dots")
    complaint(capsys, ["nobody", "--tree", "tree"], 'there is no variant "nobody"')
    complaint(capsys, ["v12", "reviewed"], "two candidates")
    (here / "x.patch").write_text(diff(REVIEWED, ADD, "pass"))
    complaint(capsys, ["x.patch", "--rev", "HEAD..HEAD", "--tree", str(repository(here / "repo"))], "patches apply to one revision")
    complaint(capsys, ["none.patch"], "none.patch: cannot be read")


def test_another_interface_is_refused_with_both_numbers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = copied(here / "tree")
    replace(tree / KERNEL, "ACCESS_VERSION: Final = 1", "ACCESS_VERSION: Final = 7")
    complaint(capsys, ["--tree", "tree"], "its access interface has version 7, and this kmm has 1")
    replace(tree / KERNEL, "ACCESS_VERSION: Final = 7", "")
    complaint(capsys, ["--tree", "tree"], "this is no tree of kmm")


def test_links_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = copied(here / "tree")
    (tree / "refactors" / "link.py").symlink_to("/etc/passwd")
    complaint(capsys, ["--tree", "tree"], "kmm takes no symbolic links")
    (tree / "refactors" / "link.py").unlink()
    (tree / "kmm" / "kernel" / "machine.py").write_text("raise AssertionError\n")
    assert main(["check", "--scenario", "s.toml", "--tree", "tree"]) == 0


def test_a_counterexample_whose_variant_now_ends_the_process(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "fix.patch").write_text(diff(REVIEWED, ADD, "folio_ref_add(folio, nr_pages)"))
    file = str(part(verdict(capsys, "fix.patch")[1], "counterexample")["file"])
    (here / "fix.patch").write_text(diff(REVIEWED, ADD, 'getattr(__import__("os"), "_exit")(7)'))
    assert main(["replay", file]) == 3
    assert "undetermined" in capsys.readouterr().out


def test_without_mypy_that_is_said(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmm.lab.typecheck.can_type_check", lambda: False)
    (here / "fix.patch").write_text(diff(RMAP, INDEX, f"{INDEX}  # as before"))
    assert main(["check", "--scenario", "s.toml", "fix.patch"]) == 0
    assert "not type-checked: mypy is not installed" in capsys.readouterr().err
