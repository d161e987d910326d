"""The list of what is left out: complete entries, true entries, printed and documented."""

from __future__ import annotations

import importlib.util
import json
import re

import attrs
import pytest

from kmm.cli.main import main
from kmm.kernel.report import CHECKS
from kmm.mm.geometry import RECLAIM_DISTANCE, node_distance
from kmm.scenario.boundary import AREAS, BOUNDARY, SCHEMA
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import EVENT_OPS, Config
from kmm.scenario.page import Kind, PageState

KEYS = [gap.key for gap in BOUNDARY]


def model(key: str) -> str:
    """What an entry says that the model does."""
    return next(gap.model for gap in BOUNDARY if gap.key == key)


def test_keys_are_distinct_names() -> None:
    assert len(set(KEYS)) == len(KEYS)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key) for key in KEYS)


def test_sorted_by_area() -> None:
    areas = [AREAS.index(gap.area) for gap in BOUNDARY]
    assert areas == sorted(areas)
    assert set(areas) == set(range(len(AREAS)))


@pytest.mark.parametrize("gap", BOUNDARY, ids=KEYS)
def test_every_entry_is_whole(gap: attrs.AttrsInstance) -> None:
    for field in attrs.fields(type(gap)):
        assert getattr(gap, field.name).strip(), field.name


@pytest.mark.parametrize("where", sorted({gap.where for gap in BOUNDARY}))
def test_every_module_exists(where: str) -> None:
    assert importlib.util.find_spec(where) is not None


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boundary", "--format", "json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out == {"schema": SCHEMA, "boundary": [attrs.asdict(gap) for gap in BOUNDARY]}


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boundary"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"The model leaves out {len(BOUNDARY)} things; a verdict says nothing about them.\n")
    assert [line.split()[0] for line in out.splitlines() if re.match(r"  \S", line)] == KEYS
    assert all(len(line) <= 100 for line in out.splitlines())
    words = " ".join(out.split())
    assert all(gap.kernel in words and gap.model in words for gap in BOUNDARY)


def test_configuration_has_none_of_the_switches_that_are_left_out() -> None:
    assert {field.name for field in attrs.fields(Config)} == {
        "arch", "debug_vm", "highpte", "pt_reclaim", "sparsemem_vmemmap", "split_ptlocks", "tlb"
    }  # fmt: skip


def test_large_folios_are_never_in_the_swap_cache() -> None:
    with pytest.raises(ScenarioError, match="large folios in the swap cache"):
        PageState(kind=Kind.PRESENT, order=2, swapcache=True)


def test_nobody_forks_or_reclaims() -> None:
    assert set(EVENT_OPS) == {"sysfs", "munmap", "replace_vma", "free_table", "exit", "prctl", "pin", "zap"}


def test_no_sanitizer_for_concurrency() -> None:
    assert "KCSAN" not in CHECKS


def test_nodes_are_near_in_pairs() -> None:
    near = {(a, b) for a in range(4) for b in range(4) if node_distance(a, b) <= RECLAIM_DISTANCE}
    assert near == {(a, b) for pair in ((0, 1), (2, 3)) for a in pair for b in pair}
