"""A program that judges a variant, through the public names only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

import kmm


def scenario() -> kmm.Scenario:
    """Half a table of dirty pages in the swap cache, the rest not mapped."""
    geometry = kmm.Geometry(ptes=8, lru_batch=3)
    cached = kmm.PageState(kind=kmm.Kind.PRESENT, dirty=True, swapcache=True, lru=kmm.Lru.OFF)
    assert_type(geometry.pmd_order, int)
    return kmm.Scenario(
        geometry=geometry,
        config=kmm.Config(tlb="ipi"),
        tunables=kmm.Tunables.default(geometry).with_orders(geometry, 2, 3),
        vmas=(kmm.Vma(pages="QQQQ....", flags=("read", "write")),),
        letters=(("Q", cached),),
        driver=kmm.Driver(kind=kmm.DriverKind.DIRECT, order=2, offset=4),
        events=(kmm.Event(op="munmap", before="mmap_write_lock"),),
        failures=(kmm.Failure(kind="alloc"),),
    )


def judge(candidate: Path) -> int:
    """Judge a file; gives the exit code of ``kmm check``."""
    loaded = kmm.load_variant(candidate)
    assert_type(loaded, kmm.LoadedVariant)
    assert_type(loaded.variant, kmm.Variant)
    assert_type(loaded.sha256, str)
    try:
        scenarios = kmm.load_scenarios("scenarios.toml")
        assert_type(scenarios, tuple[kmm.Scenario, ...])
    except kmm.ScenarioError as error:
        assert_type(error.remedy, str)
        scenarios = (scenario(),)
    verdict = kmm.check(loaded, "v12", scenarios=scenarios, jobs=2, budget_s=60, expect="refines", counterexample_dir=".")
    assert_type(verdict, kmm.Verdict)
    assert_type(verdict.relation, kmm.Relation)
    assert_type(verdict.counterexample, kmm.Counterexample | None)
    assert_type(verdict.environment.versions, Mapping[str, str])
    if verdict.counterexample is not None:
        assert_type(verdict.counterexample.differs, tuple[str, ...])
        assert_type(verdict.counterexample.file, str | None)
    return verdict.exit_code


def compare() -> bool:
    """One scenario with both sides."""
    try:
        one, other = kmm.run(scenario()), kmm.run("scenario.toml", "reviewed")
    except kmm.UndeterminedError:
        return False
    assert_type(one, kmm.Observation)
    assert_type(one.result, str)
    assert_type(one.mmap_locked, bool | None)
    assert_type(one.canonical(), bytes)
    return one == other


def main() -> int:
    """Judge the file that is named, or print what is wrong with it."""
    try:
        return judge(Path(sys.argv[1]))
    except kmm.BadInputError as error:
        print(error, file=sys.stderr)
        return 4


if __name__ == "__main__":
    sys.exit(main())
