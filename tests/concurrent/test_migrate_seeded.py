"""One-line mistakes in migration, each of which a sanitizer reports in some schedule, and none of which it reports of the code as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import pytest

from kmm.judge.outcomes import Outcomes
from kmm.mm import migrate_folio, migration_pmd, migration_ptes, split, vmscan
from kmm.scenario.model import Scenario
from kmm.scenario.search import EXHAUSTIVE
from refactors import v12
from tests.concurrent.making import alone, violations
from tests.test_sanitizers import recompiled

BUDGET: Final = attrs.evolve(EXHAUSTIVE, budget=300)
TRY_GET: Final = "if not folio_try_get(folio):"
GET: Final = "from kmm.mm.folio import folio_get\n    if folio_get(folio):"
LARGE: Final = "3333aaaa"
STORE: Final = alone("migrate:0", "store:0")


def huge(actor: str) -> Scenario:
    """A huge page that is migrated."""
    s = alone("migrate:0", actor, pages="........")
    return attrs.evolve(s, pmd="huge")


@attrs.frozen
class Mistake:
    """What stands instead of a part of a function, and the check that speaks then."""

    function: Callable[..., object]
    old: str
    new: str
    scenario: Scenario
    check: str


MISTAKES: Final = {
    "a folio without references is taken": Mistake(
        migrate_folio.isolate_for_migration, TRY_GET, GET, alone("munmap:0-3", "migrate:0"), "KASAN"
    ),
    "so it is by reclaim": Mistake(vmscan._isolate, TRY_GET, GET, alone("munmap:0-3", "swapout:0"), "KASAN"),
    "and by ageing": Mistake(vmscan.age_folio, TRY_GET, GET, alone("age:0", "munmap:0-3"), "KASAN"),
    "and by a split": Mistake(split.split_large_folio, TRY_GET, GET, alone("munmap:0-3", "split:0", pages=LARGE), "KASAN"),
    "nothing is copied": Mistake(
        migrate_folio._move_to_new_folio, "current.machine.read(old, _contents, PLAIN)", "7", STORE, "TRANSPARENCY"
    ),
    "the new folio has no anon_vma": Mistake(
        migrate_folio._take_over, "machine.write(dst, Folio.mapping,", "machine.write(src, Folio.mapping,", STORE, "CONSERVATION"
    ),
    "the new folio has no index": Mistake(
        migrate_folio._take_over,
        "machine.read(src, Folio.index, PLAIN)",
        "machine.read(src, Folio.index, PLAIN) + 4",
        alone("migrate:3", "store:3"),
        "CONSERVATION",
    ),
    "entries of the new folio are looked for": Mistake(
        migrate_folio._unmap_and_move, "remove_migration_ptes(src, dst)", "remove_migration_ptes(dst, dst)", STORE, "CONSERVATION"
    ),
    "a failure leaves the entries": Mistake(
        migrate_folio._unmap_and_move, "remove_migration_ptes(src, src)", "pass", alone("migrate:0", "gup:0"), "CONSERVATION"
    ),
    "a failure keeps the folio": Mistake(
        migrate_folio.migrate_isolated, "folio_putback_lru(src)", "pass", alone("migrate:0", "pin:0"), "REFCOUNT"
    ),
    "the isolation is not taken back": Mistake(
        migrate_folio.migrate_isolated, 'node_stat_sub_folio(src, "nr_isolated_anon")', "pass", STORE, "CONSERVATION"
    ),
    "the old folio stays locked": Mistake(
        migrate_folio._unmap_and_move,
        'folio_put(dst)\n    folio_unlock(src)\n    return ""',
        'folio_put(dst)\n    return ""',
        STORE,
        "LOCKDEP",
    ),
    "no TLB is flushed": Mistake(
        migration_ptes._make_migration_pte,
        "ptep_clear_flush(vma, address, ptep)",
        "__import__('kmm.mm.pgtable').mm.pgtable.ptep_get_and_clear(vma.vm_mm, address, ptep)",
        STORE,
        "TRANSPARENCY",
    ),
    "what is shared becomes exclusive": Mistake(
        migration_ptes._remove_migration_pte,
        "exclusive=kind != SWP_MIGRATION_READ",
        "exclusive=True",
        alone("migrate:0", "store:0", pages="saaaaaaa"),
        "TRANSPARENCY",
    ),
    "what was writable may be written": Mistake(
        migration_ptes._remove_migration_pte, "if kind == SWP_MIGRATION_WRITE:", "if True:", alone("migrate:0", "fork"), "PAGE_TABLE_CHECK"
    ),
    "a huge page gets no reference": Mistake(migration_pmd.remove_migration_pmd, "folio_get(folio)", "pass", huge("store:0"), "KASAN"),
    "a huge page keeps its reference": Mistake(
        migration_pmd.set_pmd_migration_entry, "folio_put(folio)", "pass", huge("drain"), "REFCOUNT"
    ),
}


def said(s: Scenario) -> set[str]:
    return {each.split(":")[0] for each in violations(Outcomes(s, v12.VARIANT, BUDGET))}


@pytest.mark.parametrize("name", MISTAKES)
def test_it_is_reported(name: str) -> None:
    m = MISTAKES[name]

    def edit(source: str) -> str:
        assert source.count(m.old) == 1
        return source.replace(m.old, m.new)

    assert said(m.scenario) == set()
    with recompiled(m.function, edit):
        found = said(m.scenario)
    assert m.check in found
