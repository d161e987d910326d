"""The list of what is left out: complete entries, true entries, printed and documented."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import attrs
import pytest

from kmm.cli.main import main
from kmm.kernel.report import CHECKS
from kmm.mm.folio import PG_swapbacked
from kmm.mm.khugepaged.alloc import collapse_scan_abort
from kmm.mm.khugepaged.types import CollapseControl
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.boundary import AREAS, BOUNDARY, SCHEMA
from kmm.scenario.build import build
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import EVENT_OPS, VMA_FLAGS, Config
from kmm.scenario.page import Kind, PageState
from refactors import v12
from tests.helpers import make

DOC = Path(__file__).parent.parent / "docs" / "boundary.md"
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


def test_the_page_lists_every_entry() -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \| .* \| (.*) \|$", DOC.read_text(), re.MULTILINE))
    assert rows == {gap.key: gap.model for gap in BOUNDARY}


def test_configuration_has_none_of_the_switches_that_are_left_out() -> None:
    assert {field.name for field in attrs.fields(Config)} == {"debug_vm", "split_ptlocks", "tlb", "arch"}
    assert {"highpte", "pt-reclaim", "sparsemem", "architecture"} <= set(KEYS)


def test_vma_flags_are_those_of_the_entry() -> None:
    assert sorted(re.findall(r"[a-z_]+", model("vma-flags").replace(" and ", " "))) == sorted(VMA_FLAGS)


def test_entries_are_those_of_the_entry() -> None:
    assert {kind.value for kind in Kind} == {"none", "zero", "present", "swap"}
    with pytest.raises(ScenarioError):
        PageState(kind=Kind.ZERO, dirty=True)
    with pytest.raises(ScenarioError, match="large folios in the swap cache"):
        PageState(kind=Kind.PRESENT, order=2, swapcache=True)


def test_one_vma() -> None:
    s = make("aaaaaaaa")
    with pytest.raises(ScenarioError, match="2 VMAs"):
        attrs.evolve(s, vmas=s.vmas * 2)


def test_nobody_forks_or_reclaims() -> None:
    assert set(EVENT_OPS) == {"sysfs", "munmap", "replace_vma", "free_table", "exit", "prctl", "pin", "zap"}


def test_no_sanitizer_for_concurrency() -> None:
    assert "KCSAN" not in CHECKS


@pytest.mark.parametrize("letter", sorted(ALPHABET))
def test_every_folio_is_backed_by_swap_and_no_secondary_mmu_is_young(letter: str) -> None:
    order = ALPHABET[letter].order
    flags = ("read", "uffd_wp", "write")
    world = build(make(letter * max(8, 1 << order), flags=flags), v12.VARIANT)
    assert all(folio._flags & PG_swapbacked for folio in world.system.folios)
    assert not any(mm.secondary_young for mm in world.system.mms)


def test_node_reclaim_is_off() -> None:
    cc = CollapseControl(is_khugepaged=True)
    cc.node_load = [1, 1, 1, 1]
    assert not any(collapse_scan_abort(nid, cc) for nid in range(4))
