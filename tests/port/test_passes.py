"""Several passes over a table: what they do, and that they come to rest."""

from __future__ import annotations

import attrs
import pytest

from kmm.judge.observe import observe
from kmm.mm.khugepaged.types import ScanResult
from kmm.mm.variant import Variant
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import Driver, DriverKind, Event, Failure, Geometry, Scenario
from kmm.scenario.run import run
from kmm.scenario.strategies import generate
from kmm.scenario.strategies.scenarios import GEOMETRIES
from refactors import reviewed, v12
from tests.helpers import direct, make, statuses

BOTH = pytest.mark.parametrize("variant", [v12.VARIANT, reviewed.VARIANT], ids=lambda each: each.name)


def khugepaged(passes: int) -> Driver:
    return Driver(kind=DriverKind.KHUGEPAGED, passes=passes)


def violations(s: Scenario, variant: Variant) -> list[tuple[str, str]]:
    return [(report.check, report.text) for report in run(s, variant).world.system.machine.reports]


def test_a_second_pass_finds_the_huge_page() -> None:
    """As recorded: succeeded, then page_pmd_mapped twice (oracle, kh_default_full)."""
    r = run(make("aaaaaaaa", khugepaged(3)), v12.VARIANT)
    assert statuses(r, "mm_khugepaged_scan_pmd") == [ScanResult.SCAN_SUCCEED, ScanResult.SCAN_PMD_MAPPED, ScanResult.SCAN_PMD_MAPPED]
    assert r.result == "SCAN_PMD_MAPPED"


def test_a_second_pass_refuses_what_is_a_large_folio() -> None:
    """As recorded on 7.2 (oracle, m64_none0_first16): pte_mapped_hugepage, and the scan says failed."""
    r = run(make("aaaa" + "." * 12, khugepaged(2), orders=(2, 4), none=0), v12.VARIANT)
    assert statuses(r, "mm_collapse_huge_page_isolate") == [ScanResult.SCAN_SUCCEED, ScanResult.SCAN_PTE_MAPPED_HUGEPAGE]
    assert statuses(r, "mm_khugepaged_scan_pmd") == [ScanResult.SCAN_SUCCEED, ScanResult.SCAN_FAIL]


def test_the_batches_are_drained_between_passes() -> None:
    """A page in an LRU batch is refused, and the next pass finds it on the list."""
    s = make("baaaaaaa", khugepaged(1))
    assert run(s, v12.VARIANT).result == "SCAN_PAGE_LRU"
    assert run(attrs.evolve(s, driver=khugepaged(2)), v12.VARIANT).result == "SCAN_SUCCEED"


def test_the_errno_is_that_of_the_last_pass() -> None:
    s = make("baaaaaaa", Driver(kind=DriverKind.MADVISE))
    assert run(s, v12.VARIANT).errno == "EAGAIN"
    again = run(attrs.evolve(s, driver=Driver(kind=DriverKind.MADVISE, passes=2)), v12.VARIANT)
    assert (again.result, again.errno) == ("SCAN_SUCCEED", "")


@BOTH
def test_s12_the_creep_that_v12_has_left(variant: Variant) -> None:
    """max_ptes_none = 300, orders 8 and 9, 150 young pages in the first half: order 8 first, the whole range next."""
    s = make("a" * 150 + "." * 362, khugepaged(1), none=300, orders=(8, 9))
    assert violations(s, variant) == []
    text = "pass 2 fills 256 holes that the pass before left, and nobody has touched the memory meanwhile"
    assert violations(attrs.evolve(s, driver=khugepaged(2)), variant) == [("FIXPOINT", text)]
    assert violations(attrs.evolve(s, driver=khugepaged(3)), variant) == [("FIXPOINT", text)], "the third pass finds nothing to do"


def test_the_last_limit_at_which_it_creeps() -> None:
    """Half a table of p pages with 129 <= p < 512 - max_ptes_none."""
    for none, present, creeps in ((382, 129, True), (382, 130, False), (383, 129, False), (256, 255, True), (256, 128, False)):
        s = make("a" * present + "." * (512 - present), khugepaged(2), none=none, orders=(8, 9))
        assert bool(violations(s, v12.VARIANT)) == creeps, (none, present)


@pytest.mark.parametrize("none", [0, 255, 383, 511])
def test_outside_of_those_limits_nothing_creeps(none: int) -> None:
    for present in (1, 129, 150, 200, 256):
        s = make("a" * present + "." * (512 - present), khugepaged(3), none=none, orders=tuple(range(2, 10)))
        assert violations(s, v12.VARIANT) == [], present


def test_who_touches_the_memory_meanwhile_is_excused() -> None:
    creep = make("aaa.....", khugepaged(2), none=4, orders=(2, 3))
    assert [check for check, _ in violations(creep, v12.VARIANT)] == ["FIXPOINT"]
    assert violations(attrs.evolve(creep, events=(Event(op="pin", before="alloc", page=7),)), v12.VARIANT) == []
    assert violations(attrs.evolve(creep, failures=(Failure(kind="alloc", nth=9),)), v12.VARIANT) == []


@pytest.mark.parametrize("geometry", GEOMETRIES[:4], ids=lambda each: f"{each.ptes}-{each.lru_batch}")
def test_passes_come_to_rest(geometry: Geometry) -> None:
    """I17: without events and failures, as many passes as there are orders leave what one pass more leaves."""
    for s in generate(geometry, 150, 7):
        if s.driver.kind is DriverKind.DIRECT or s.events or s.failures or s.memcg_room is not None:
            continue
        enough = s.geometry.pmd_order + 1
        few, more = (observe(run(attrs.evolve(s, driver=attrs.evolve(s.driver, passes=n)), v12.VARIANT)) for n in (enough, enough + 1))
        assert few.address_spaces == more.address_spaces, s


@pytest.mark.parametrize(("passes", "says"), [(0, "passes = 0 is out of range"), (10, "passes = 10 is out of range")])
def test_bad_numbers(passes: int, says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        khugepaged(passes)


def test_a_direct_attempt_has_one() -> None:
    with pytest.raises(ScenarioError, match="passes = 2 of a direct attempt"):
        attrs.evolve(direct(3), passes=2)
