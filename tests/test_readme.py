"""Every command and every output in the README is what a user sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sessions import ROOT, blocks, shell

SESSIONS = [each.text for each in blocks((ROOT / "README.md").read_text()) if each.is_session]
MAKE = [s for s in SESSIONS if s.startswith("$ make")]
KMM = [s for s in SESSIONS if not s.startswith("$ make")]


def test_the_readme_names_the_two_commands() -> None:
    assert [line for s in MAKE for line in s.splitlines() if line.startswith("$ ")] == ["$ make verdict", "$ make test"]
    makefile = (ROOT / "Makefile").read_text()
    assert "\nverdict:" in makefile
    assert "\ntest:" in makefile
    assert "make test\n" in (ROOT / ".ci/run").read_text()


@pytest.mark.full
@pytest.mark.parametrize("session", KMM, ids=["capture", "mistake"])
def test_sessions(session: str, tmp_path: Path) -> None:
    shell(session, tmp_path)


@pytest.mark.full
def test_what_make_verdict_prints(tmp_path: Path) -> None:
    first = MAKE[0].partition("\n")[2].partition("\n$ ")[0]
    shell(f"$ kmm check\n{first}", tmp_path)
