"""What the quick scope must reach, on the code path that users run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kmm.judge import unreachable
from kmm.mm.khugepaged.types import ScanResult
from kmm.scenario.small_systems import system_families

ROOT = Path(__file__).parent.parent


@pytest.mark.full
def test_the_quick_scope_judges_and_reaches_what_it_must(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kmm", "check", "--format", "json"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["relation"] == "equivalent"
    exhaustive = sum(family["count"] for family in verdict["scope"] if family["kind"] == "exhaustive")
    sampled = {family["name"]: family["count"] for family in verdict["scope"] if family["kind"] == "sampled"}
    assert {name for name in sampled if name.startswith("a sample")} == {"a sample", "a sample of systems"}
    assert exhaustive >= 50_000
    drawn = {name: count for name, count in sampled.items() if name.startswith("Hypothesis")}
    assert drawn == {"Hypothesis, 512 PTEs": 500, "Hypothesis, systems": 500}
    assert verdict["scenarios"] >= 51_000
    coverage = verdict["coverage"]
    assert coverage["undetermined"] == 0
    systems = {family.name for family in system_families()} | {"Hypothesis, systems"}
    with_steps = sum(family["count"] for family in verdict["scope"] if family["name"] in systems)
    assert coverage["not_applicable"] < with_steps / 5, "too many systems have a step that cannot happen"
    for side in ("baseline", "candidate"):
        lines = coverage[side]
        assert lines["missed"] == []
        assert lines["reached"] + lines["unreachable"] == lines["total"]
    codes = coverage["codes"]
    assert codes["missed"] == []
    assert sorted([*codes["reached"], *codes["unreachable"]]) == sorted(code.name for code in ScanResult)
    assert set(codes["unreachable"]) == {code.name for code in unreachable.CODES}
    assert not set(codes["reached"]) & set(codes["unreachable"])
