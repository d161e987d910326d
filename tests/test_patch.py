"""Patches are read strictly, and applied exactly or not at all."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from kmm.lab.apply import apply_patch, files_touched
from kmm.lab.patch import PatchError, parse_patches, read_patches

OLD = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n"
NEW = "one\ntwo\n3\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\n"
DIFF = """\
diff --git a/refactors/x.py b/refactors/x.py
index 1111111..2222222 100644
--- a/refactors/x.py
+++ b/refactors/x.py
@@ -1,5 +1,5 @@
 one
 two
-three
+3
 four
 five
@@ -9,2 +9,3 @@ five
 nine
 ten
+eleven
"""
MAIL = f"""\
From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001
From: A Person <a@example.org>
Date: Thu, 6 Nov 2025 10:00:00 +0000
Subject: [PATCH 1/2] mm: count
 further

Why it
should.

Signed-off-by: A Person <a@example.org>
---
 refactors/x.py | 3 ++-

{DIFF}-- \n2.43.0

"""


def tree(tmp_path: Path, text: str = OLD) -> Path:
    """A tree with one file."""
    (tmp_path / "tree/refactors").mkdir(parents=True)
    (tmp_path / "tree/refactors/x.py").write_bytes(text.encode())
    return tmp_path / "tree"


def applied(tmp_path: Path, diff: str, text: str = OLD) -> str:
    where = tree(tmp_path, text)
    for patch in parse_patches(diff.encode(), "p"):
        apply_patch(patch, where)
    return (where / "refactors/x.py").read_bytes().decode()


@pytest.mark.parametrize("text", [DIFF, MAIL, DIFF.replace("a/refactors", "refactors").replace("b/refactors", "refactors")])
def test_it_applies(tmp_path: Path, text: str) -> None:
    assert applied(tmp_path, text) == NEW


def test_a_mail_says_why() -> None:
    (patch,) = parse_patches(MAIL.encode(), "p")
    assert patch.subject == "mm: count further"
    assert patch.message == "Why it\nshould.\n\nSigned-off-by: A Person <a@example.org>"
    assert files_touched(patch) == ("refactors/x.py",)
    assert [each.where for each in patch.changes[0].hunks] == ["p:18", "p:25"]


def test_a_mail_may_be_encoded(tmp_path: Path) -> None:
    head = "Subject: =?utf-8?q?=5BPATCH=5D_caf=C3=A9?=\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
    body = base64.encodebytes(DIFF.encode()).decode()
    text = f"{head}Content-Transfer-Encoding: base64\n\n{body}"
    assert parse_patches(text.encode(), "p")[0].subject == "café"
    assert applied(tmp_path, text) == NEW


def test_an_mbox_is_a_series_without_its_cover_letter(tmp_path: Path) -> None:
    second = MAIL.replace(DIFF, DIFF.split("@@ -9,2", maxsplit=1)[0].replace("-three\n+3", "-3\n+III"))
    cover = MAIL.replace(DIFF, "")
    patches = parse_patches((cover + MAIL + second).encode(), "p")
    assert [each.origin for each in patches] == ["p#2", "p#3"]
    assert applied(tmp_path, cover + MAIL + second) == NEW.replace("3\n", "III\n")


def test_what_git_makes_of_two_texts_applies(tmp_path: Path) -> None:
    """Against git itself: ends without newline, a new file, a removed one."""
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(tmp_path / "repo")]
    (tmp_path / "repo/refactors").mkdir(parents=True)
    subprocess.run([*git, "init", "-q"], check=True)
    for name, text in (("x.py", OLD), ("gone.py", "a\n"), ("end.py", "a\nb"), ("other.py", "a\nb\n")):
        (tmp_path / "repo/refactors" / name).write_text(text)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    subprocess.run(["cp", "-r", str(tmp_path / "repo"), str(tmp_path / "scratch")], check=True)
    (tmp_path / "repo/refactors/gone.py").unlink()
    after = {"x.py": "0\n" + NEW.rstrip("\n"), "new/y.py": "new\n\n\n", "end.py": "a\nb\n", "other.py": "a\nb\nc"}
    (tmp_path / "repo/refactors/new").mkdir()
    for name, text in after.items():
        (tmp_path / "repo/refactors" / name).write_text(text)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "second"], check=True)
    mail = subprocess.run([*git, "format-patch", "-1", "--stdout"], check=True, capture_output=True).stdout
    (tmp_path / "p.patch").write_bytes(mail)
    (patch,) = read_patches(tmp_path / "p.patch")
    assert len(apply_patch(patch, tmp_path / "scratch")) == 5
    found = {each.relative_to(tmp_path / "scratch/refactors"): each.read_text() for each in (tmp_path / "scratch/refactors").rglob("*.py")}
    assert found == {Path(name): text for name, text in after.items()}


def refusal(tmp_path: Path, diff: str, text: str = OLD) -> str:
    """What is said, having checked that nothing changed."""
    with pytest.raises(PatchError) as error:
        applied(tmp_path, diff, text)
    left = {each.name: each.read_bytes().decode() for each in (tmp_path / "tree").rglob("*") if each.is_file()}
    assert left in ({}, {"x.py": text})
    return str(error.value)


@pytest.mark.parametrize(
    ("diff", "said"),
    [
        ("no diff at all\n", "p: holds no diff; "),
        (DIFF.replace(" two\n", " too\n"), 'p:5: hunk 1 does not apply to refactors/x.py: line 2 is "two", and the patch has "too"; '),
        (DIFF.replace("-9,2 +9,3", "-8,2 +8,3"), "p:12: hunk 2 does not apply to refactors/x.py: its lines stand at line 9, not 8; "),
        (DIFF.replace("-9,2 +9,3", "-90,2 +90,3"), "its lines stand at line 9, not 90"),
        (DIFF.replace("-9,2 +9,3", "-3,2 +3,3"), "hunk 2 does not apply to refactors/x.py: it overlaps the one before"),
        (DIFF.replace(" ten\n", " ten\n eleven\n").replace("-9,2 +9,3", "-9,3 +9,4"), "line 11 is behind the end"),
        (DIFF.replace(" nine\n", " nine\r\n"), "line 9 ends otherwise"),
        (DIFF.replace("-1,5 +1,5", "-1,6 +1,6"), "p:5: hunk 1 has 5 old and 5 new lines where its header says 6 and 6; it was cut"),
        (DIFF.replace("-9,2 +9,3", "-9,2 +9,2"), "p:12: hunk 2 has more lines than its header says"),
        (DIFF[: DIFF.index("@@")], "p:3: no hunk follows"),
        (DIFF[DIFF.index("@@") :], "p:1: a hunk without the name of its file"),
        ("diff --git a/refactors/x.py b/refactors/y.py\nrename from refactors/x.py\n", "p:2: renames a file"),
        ("diff --git a/refactors/x.py b/refactors/x.py\nold mode 100644\nnew mode 100755\n", "p:2: changes the mode of a file"),
        ("diff --git a/refactors/l b/refactors/l\nnew file mode 120000\n", "p:2: makes a symbolic link"),
        ("diff --git a/refactors/x.py b/refactors/x.py\nBinary files a and b differ\n", "p:2: changes a binary file"),
        ("diff --git a/refactors/x.py b/refactors/x.py\n", "p:1: a file without hunks"),
        (DIFF.replace("refactors/x.py", "refactors/none.py"), "p:3: there is no refactors/none.py"),
        (
            DIFF.replace("+++ b/refactors/x.py", "+++ b/refactors/y.py"),
            "p:3: names both refactors/x.py and refactors/y.py; kmm takes no renames",
        ),
        (DIFF.replace("refactors/x.py", "kmm/judge/x.py"), "p:3: changes a/kmm/judge/x.py, outside of refactors and kmm/mm; "),
        (DIFF.replace("refactors/x.py", "kmm/mm_x.py"), "outside of refactors and kmm/mm"),
        (DIFF.replace("b/refactors", "b/refactors/../refactors"), "p:3: b/refactors/../refactors/x.py climbs out of the tree; "),
        (DIFF.replace("a/refactors/x.py", "/etc/passwd"), "p:3: /etc/passwd climbs out of the tree; "),
        (DIFF.replace("b/refactors/x.py", '"b/refactors/x\\303.py"'), "as the name of a file; kmm takes plain names only"),
        ("--- /dev/null\n+++ b/refactors/x.py\n@@ -0,0 +1 @@\n+a\n", "p:1: makes refactors/x.py, which is there already"),
        ("--- a/refactors/x.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-one\n", "p:1: removes refactors/x.py and leaves lines of it"),
        (
            "--- a/refactors/x.py\n+++ b/refactors/x.py\n@@ -2,0 +3 @@\n+a\n",
            "p:3: hunk 1 does not apply to refactors/x.py: it has no line of context",
        ),
        (
            "--- a/refactors/x.py\n+++ b/refactors/x.py\n@@ -1,2 +1,2 @@\n-one\n+1\n\\ No newline at end of file\n two\n",
            "p:1: lines of refactors/x.py would run together",
        ),
        (DIFF + DIFF, 'line 3 is "3", and the patch has "three"'),
    ],
)
def test_it_is_refused_and_nothing_changes(tmp_path: Path, diff: str, said: str) -> None:
    assert said in refusal(tmp_path, diff)


def test_a_second_file_that_does_not_apply_leaves_the_first_alone(tmp_path: Path) -> None:
    assert "there is no refactors/y.py" in refusal(tmp_path, DIFF + DIFF.replace("x.py", "y.py"))


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    where = tree(tmp_path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x.py").write_text(OLD)
    (where / "kmm").mkdir()
    (where / "kmm/mm").symlink_to(tmp_path / "outside")
    (patch,) = parse_patches(DIFF.replace("refactors/", "kmm/mm/").encode(), "p")
    with pytest.raises(PatchError, match="reached through a symbolic link"):
        apply_patch(patch, where)
    assert (tmp_path / "outside/x.py").read_text() == OLD


@pytest.mark.parametrize(("data", "said"), [(b"\xff\xfe", "is no text"), (b"a\0b", "it holds a zero byte")])
def test_it_must_be_text(data: bytes, said: str) -> None:
    with pytest.raises(PatchError, match=said):
        parse_patches(data, "p")


def test_a_patch_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PatchError, match=r"none\.patch: cannot be read"):
        read_patches(tmp_path / "none.patch")
    (tmp_path / "big.patch").write_bytes(b"x" * ((4 << 20) + 1))
    with pytest.raises(PatchError, match="larger than 4 MiB"):
        read_patches(tmp_path / "big.patch")
