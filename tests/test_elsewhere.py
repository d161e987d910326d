"""A variant in the process of another tree does what it does here."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import attrs
import pytest

from kmm.judge.check import check
from kmm.judge.named import Named
from kmm.judge.process import TreeProcess
from kmm.judge.side import executed_lines, from_canonical, observation, outcomes
from kmm.judge.variants import LoadedVariant, load_variant
from kmm.judge.verdict import Relation
from kmm.kernel.stop import NotApplicable
from kmm.lab.sides import opened
from kmm.lab.trees import Tree, take
from kmm.scenario.families import Family
from kmm.scenario.scope import generated
from kmm.scenario.search import EXHAUSTIVE, SAMPLED
from tests.concurrent.making import beside
from tests.helpers import direct, make
from tests.judging import ROOT, V12, family
from tests.trees import copied, replace

UNMAP = beside("munmap:0-7", pages="aaa.aaaa", orders=(2, 3))
DEF = "def collapse_huge_page("
BODY = "    result: ScanResult = ScanResult.SCAN_FAIL\n"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedVariant]:
    """v12 of a copy of this tree."""
    tree = str(copied(tmp_path_factory.mktemp("elsewhere")))
    with opened(Named("v12"), Named("v12", tree)) as (_, candidate):
        yield candidate


NAMES = [each.name for each in generated("quick", 0) if each.name != "one actor"]
SLOW = "Hypothesis, 512 PTEs"


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.full) if name == SLOW else name for name in NAMES])
def test_both_places_show_the_same(name: str, elsewhere: LoadedVariant) -> None:
    found = next(each for each in generated("quick", 0) if each.name == name)
    for s in islice(found.scenarios(), 0, 200, 20 if found.steps or found.kind != "sampled" else 50):
        if s.actors:
            continue
        here, there = (observation(s, each.variant) for each in (V12, elsewhere))
        assert here == there
        assert there is None or from_canonical(there.canonical()) == there


def test_an_observation_that_is_known_is_not_read_again(elsewhere: LoadedVariant) -> None:
    s = make("aaaaaaaa")
    here = observation(s, V12.variant)
    assert observation(s, elsewhere.variant, like=here) is here
    assert observation(s, elsewhere.variant, like=observation(make("aaaa...."), V12.variant)) == here


def test_both_places_explore_the_same(elsewhere: LoadedVariant) -> None:
    for search in (EXHAUSTIVE, attrs.evolve(SAMPLED, budget=400)):
        here, there = (outcomes(UNMAP, each.variant, search) for each in (V12, elsewhere))
        assert here.exploration == there.exploration
        assert len(here.all) > 1
        for each in here.all:
            assert here.observation(each) == there.observation(each)
            assert there.comes_to(here.schedule(each)) == each == here.comes_to(there.schedule(each))


def test_both_places_run_the_same_lines(elsewhere: LoadedVariant) -> None:
    s = make("aaaaaaaa")
    here, there = ({line for _, line in executed_lines(s, each.variant, each.files)} for each in (V12, elsewhere))
    assert here == there != set()
    assert V12.files != elsewhere.files


def test_what_is_not_applicable_there_is_not_here(elsewhere: LoadedVariant) -> None:
    with opened(Named("v12"), Named("base", str(elsewhere.root))) as (_, base):
        assert observation(make("aaaa....", direct(2, 0)), base.variant) is None
        with pytest.raises(NotApplicable):
            outcomes(beside("munmap:0-7", orders=(2,)), base.variant, EXHAUSTIVE)


def test_the_verdict_rests_on_the_same(elsewhere: LoadedVariant) -> None:
    families = [family(*[s for each in generated("quick", 0)[:2] for s in islice(each.scenarios(), 200)]), family(UNMAP, name="races")]
    here, there = (check(V12, each, families, seed=0) for each in (V12, elsewhere))
    assert there.relation is Relation.EQUIVALENT
    assert (here.transcript, here.scope, here.coverage, here.findings) == (there.transcript, there.scope, there.coverage, there.findings)


def changed(tmp_path: Path, line: str) -> Path:
    """A tree whose v12 does something before its own."""
    tree = copied(tmp_path / "tree")
    source = (tree / "refactors" / "v12.py").read_text()
    name = source.index(DEF)
    end = source.index('"""\n', source.index('"""', name) + 3) + 4
    (tree / "refactors" / "v12.py").write_text(f"{source[:end]}    {line}\n{source[end:]}")
    return tree


def small() -> list[Family]:
    return [family(make("aaaaaaaa"), make("........"))]


@pytest.mark.parametrize(
    ("line", "said"), [("import os; os._exit(7)", "could not be observed: ElsewhereError"), ("while True: pass", "made no step for N s")]
)
def test_a_variant_that_ends_or_stops_the_process_is_undetermined(line: str, said: str, tmp_path: Path) -> None:
    with opened(Named("v12"), Named("v12", str(changed(tmp_path, line)))) as sides:
        verdict = check(*sides, small(), seed=0, jobs=1, stall_s=2)
    assert verdict.relation is Relation.UNDETERMINED
    assert verdict.exit_code == 3
    assert any(said in each.sentence for each in verdict.findings if each.check == "UNDETERMINED")


def test_what_a_run_leaves_behind_reaches_no_other_chunk(tmp_path: Path) -> None:
    tree = changed(tmp_path, "import sys; sys.modules.setdefault('left', sys)")
    with opened(Named("v12"), Named("v12", str(tree))) as sides:
        assert check(*sides, small(), seed=0).relation is Relation.EQUIVALENT


def test_long_work_there_shows_here(tmp_path: Path) -> None:
    """A run that takes longer than the limit on silence, and makes steps."""
    tree = changed(tmp_path, "import time; [(time.sleep(0.1), mm.mm_users) for _ in range(30)]")
    with opened(Named("v12"), Named("v12", str(tree))) as sides:
        verdict = check(*sides, [family(make("aaaaaaaa"))], seed=0, jobs=1, stall_s=2)
    assert verdict.coverage.undetermined == 0


def test_the_process_ends_with_the_block(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    take(Tree(directory=ROOT), root)
    with TreeProcess(root, "v12", "a tree", "tree") as process:
        loaded = process.loaded()
        assert observation(make("aaaaaaaa"), loaded.variant) is not None
        number = process.pid
        os.kill(number, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_a_tree_that_takes_too_long_to_import(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    take(Tree(directory=ROOT), root)
    replace(
        root / "kmm" / "mm" / "rmap.py",
        "from __future__ import annotations\n",
        "from __future__ import annotations\nwhile True:\n    pass\n",
    )
    started = time.monotonic()
    with pytest.raises(ValueError, match="it took more than 2 s"):
        TreeProcess(root, "v12", "a tree", "tree", import_s=2)
    assert time.monotonic() - started < 10


def test_the_variant_here_is_never_run_in_its_place(elsewhere: LoadedVariant) -> None:
    from kmm.scenario.run import run

    assert "another tree" in run(make("aaaaaaaa"), elsewhere.variant).outcome
    assert load_variant("v12").sha256 != elsewhere.sha256
