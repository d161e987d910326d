"""Survivors: the tests of today first, then the judge. What ``judged.json`` holds already is not judged again in the same time."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import attrs
import cattrs

from tests.mutation.run import command, copy_tree, environment, tool
from tests.mutation.sessions import BUILD, ROOT, SURVIVED, Mutant, mutants, planned, session

TREE: Final = BUILD / "judged-tree"
"""The copy that is mutated."""
SCRATCH: Final = BUILD / "counterexamples"
JUDGED: Final = BUILD / "judged.json"
KILLED_LATER: Final = "killed by a later test"
UNDETERMINED: Final = "undetermined"
DIFFERENT: Final = ("different", "refines")
BUDGET_S: Final = 900
TESTS_S: Final = 120


@attrs.frozen(kw_only=True)
class Judged:
    """What is known of a survivor.

    :param source: SHA-256 of what its session is about, as in the session's name
    :param relation: the judge's word, or ``killed by a later test``
    :param scenarios: pairs judged
    :param counterexample: name of its file in ``build/mutation/counterexamples``
    :param budget_s: of the judge
    """

    source: str
    relation: str
    scenarios: int = 0
    counterexample: str = ""
    budget_s: float = 0


def read() -> dict[str, Judged]:
    """Every survivor looked at so far, by its key."""
    if not JUDGED.exists():
        return {}
    return cattrs.structure(json.loads(JUDGED.read_text(encoding="utf-8")), dict[str, Judged])


def write(judged: dict[str, Judged]) -> None:
    """Keep it, at once."""
    new = JUDGED.with_suffix(".new")
    new.write_text(json.dumps(cattrs.unstructure(dict(sorted(judged.items()))), indent=1), encoding="utf-8")
    new.rename(JUDGED)


def settled(found: Judged | None, path: str) -> bool:
    """Nothing is to be gained from another look. What is different or undetermined may have its test by now."""
    if found is None or found.source != session(path).stem:
        return False
    return found.relation not in (*DIFFERENT, UNDETERMINED)


def exhausted(found: Judged | None, path: str, budget_s: float) -> bool:
    """It was judged for as long as this already, in vain."""
    if found is None or found.source != session(path).stem:
        return False
    return found.relation == UNDETERMINED and found.budget_s >= budget_s


def apply(mutant: Mutant) -> None:
    """Make the change in the copy."""
    restore(mutant.path)
    change = [tool("cosmic-ray"), "apply", mutant.path, f"core/{mutant.operator}", str(mutant.occurrence)]
    subprocess.run(change, cwd=TREE, env=environment(TREE), check=True)


def restore(path: str) -> None:
    """Put the original back."""
    (TREE / path).write_bytes((ROOT / path).read_bytes())


def killed(tests: tuple[str, ...]) -> bool:
    """A test fails in the copy as it stands, or does not end."""
    try:
        done = subprocess.run(
            shlex.split(command(tests)), cwd=TREE, env=environment(TREE), capture_output=True, check=False, timeout=TESTS_S
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def judge(path: str, budget_s: float) -> Judged:
    """What the judge says of the copy as it stands, against the original; one worker."""
    if path.startswith("refactors/"):
        sides = [str(TREE / path), "--baseline", str(ROOT / path)]
    else:
        sides = ["v12", "--tree", str(TREE)]
    words = [sys.executable, "-m", "kmm", "check", *sides, "--format", "json", "--jobs", "1", "--budget", str(budget_s)]
    done = subprocess.run(words, cwd=SCRATCH, env=environment(ROOT), capture_output=True, check=False, text=True)
    if done.returncode not in (0, 2, 3):
        raise SystemExit(f"mutation: {shlex.join(words)} ended with {done.returncode}: {done.stderr[-500:]}")
    verdict = json.loads(done.stdout)
    example = verdict["counterexample"]
    return Judged(
        source=session(path).stem,
        relation=verdict["relation"],
        scenarios=verdict["scenarios"],
        counterexample=Path(example["file"]).name if example and example["file"] else "",
        budget_s=budget_s,
    )


def main(words: list[str]) -> None:
    """Look at the survivors of the files given, or of every file; ``--budget SECONDS`` for each."""
    budget_s = float(BUDGET_S)
    if words[:1] == ["--budget"]:
        budget_s, words = float(words[1]), words[2:]
    plan = planned()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    copy_tree(TREE)
    judged = read()
    for path in words or plan:
        for each in mutants(path):
            known = judged.get(each.key)
            if each.outcome != SURVIVED or settled(known, path):
                continue
            apply(each)
            if killed(plan[path]):
                judged[each.key] = Judged(source=session(path).stem, relation=KILLED_LATER)
            elif not exhausted(known, path, budget_s):
                judged[each.key] = judge(path, budget_s)
            write(judged)
            print(f"{each.key}: {judged[each.key].relation} {judged[each.key].counterexample}", file=sys.stderr, flush=True)
        restore(path)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        raise SystemExit("mutation: interrupted; run it again to go on") from None
