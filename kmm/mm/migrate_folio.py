"""Migration of a folio: its mappings become migration entries, and those become mappings of another folio (mm/migrate.c).

As compaction tries it first, one folio at a time: it waits for no folio lock (MIGRATE_ASYNC). Every TLB flush is done at once, none is put
off, what fails once is not tried again, and a merged page of KSM stays where it is.
"""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.locks import spin_lock, spin_unlock
from kmm.mm import system
from kmm.mm.deferred_split import folio_unqueue_deferred_split
from kmm.mm.folio import (
    Folio,
    Page,
    PG_dirty,
    PG_lru,
    PG_referenced,
    PG_swapbacked,
    PG_swapcache,
    PG_unevictable,
    PG_uptodate,
    folio_clear_flag,
    folio_expected_ref_count,
    folio_mapcount,
    folio_mapped,
    folio_mark_uptodate,
    folio_nid,
    folio_nr_pages,
    folio_order,
    folio_ref_add,
    folio_ref_count,
    folio_ref_freeze,
    folio_ref_unfreeze,
    folio_set_flag,
    folio_test_dirty,
    folio_test_large,
    folio_test_mlocked,
    folio_test_partially_mapped,
    folio_test_referenced,
    folio_test_swapbacked,
    folio_test_swapcache,
    folio_try_get,
    folio_trylock,
    folio_unlock,
)
from kmm.mm.geometry import HPAGE_PMD_ORDER
from kmm.mm.memcontrol import mem_cgroup_migrate
from kmm.mm.migration_ptes import remove_migration_ptes, try_to_migrate
from kmm.mm.page_alloc import __folio_alloc, folio_put
from kmm.mm.rmap_walk import folio_test_ksm
from kmm.mm.split import split_folio_to_list
from kmm.mm.swap import folio_add_lru, folio_putback_lru, lru_add_drain
from kmm.mm.system import SwapSlot
from kmm.mm.vmstat import count_vm_event, mod_mthp_stat, node_stat_add_folio, node_stat_sub_folio

_contents: Final = Page.contents


def migrate_folio(folio: Folio) -> str:
    """Move what a folio holds to another one on its node, wherever it is mapped; the caller needs no reference. May sleep.

    A partially mapped large folio is split instead, and its pages are migrated.

    :returns: empty; ``EAGAIN``: the folio is gone, off the LRU, locked, or somebody else has a reference; ``ENOMEM``: there is no other one
    :source: mm/compaction.c, mm/migrate.c, v6.18
    """
    if not isolate_for_migration(folio):
        return "EAGAIN"
    folios, errors = [folio], []
    while folios:
        errors.append(migrate_isolated(folios.pop(0), folios))
    return next(filter(None, errors), "")


def isolate_for_migration(folio: Folio) -> bool:
    """Take a folio off the LRU, with a reference; false: it is freed or on no list, or somebody has a reference beside its mappings.

    :source: mm/compaction.c, v6.18
    """
    if not folio_try_get(folio):
        return False
    wanted = folio_test_swapcache(folio) or folio_ref_count(folio) - 1 <= folio_mapcount(folio)
    if not wanted or not folio_clear_flag(folio, PG_lru):
        folio_put(folio)
        return False
    node_stat_add_folio(folio, "nr_isolated_anon")
    return True


def migrate_isolated(src: Folio, split: list[Folio]) -> str:
    """Migrate a folio that was taken off the LRU; one that stays goes back there. May sleep.

    :param split: takes the other pages of a folio that must be split first, isolated like it
    """
    huge = folio_order(src) == HPAGE_PMD_ORDER()
    if folio_test_large(src) and folio_test_partially_mapped(src) and _try_split_folio(src, split) and huge:
        count_vm_event("thp_migration_fail")
        count_vm_event("thp_migration_split")
        huge = False
    error = "" if folio_ref_count(src) == 1 else _migrate_used(src)
    count_vm_event("pgmigrate_fail" if error else "pgmigrate_success")
    if huge:
        count_vm_event("thp_migration_fail" if error else "thp_migration_success")
    node_stat_sub_folio(src, "nr_isolated_anon")
    if error:
        folio_putback_lru(src)
    else:
        folio_put(src)
    return error


def _migrate_used(src: Folio) -> str:
    """A folio that was not freed from under the isolation."""
    dst = __folio_alloc("GFP_HIGHUSER_MOVABLE", folio_order(src), folio_nid(src), frozenset())
    if dst is None:
        return "ENOMEM"
    dst.label = f"{src.label} migrated"
    return _unmap_and_move(dst, src)


def _try_split_folio(src: Folio, split: list[Folio]) -> bool:
    """Only what is mapped is worth a new folio; a folio that cannot be split migrates as it is."""
    if not folio_trylock(src):
        return False
    done = not split_folio_to_list(src, split)
    folio_unlock(src)
    return done


def _unmap_and_move(dst: Folio, src: Folio) -> str:
    """Both are left unlocked; the reference of a folio that nobody needs is given back, but for that of the isolation."""
    if not folio_trylock(src):
        folio_put(dst)
        return "EAGAIN"
    if folio_test_ksm(src):
        folio_unlock(src)
        folio_put(dst)
        return "EAGAIN"
    was_mlocked = folio_test_mlocked(src)
    locked = folio_trylock(dst)
    assert locked, "nobody knows the new folio"
    was_mapped = folio_mapped(src)
    if was_mapped:
        try_to_migrate(src)
    if folio_mapped(src) or not _move_to_new_folio(dst, src):
        if was_mapped:
            remove_migration_ptes(src, src)
        folio_unlock(src)
        folio_unlock(dst)
        folio_put(dst)
        return "EAGAIN"
    folio_add_lru(dst)
    if was_mlocked:
        lru_add_drain()
    if was_mapped:
        remove_migration_ptes(src, dst)
    folio_unlock(dst)
    folio_put(dst)
    folio_unlock(src)
    return ""


def _move_to_new_folio(dst: Folio, src: Folio) -> bool:
    """``__migrate_folio``: false when somebody has a reference beside the swap cache and the isolation.

    The copy comes first: nothing maps the folio, so that nobody writes to it any more.
    """
    expected = folio_expected_ref_count(src) + 1
    if folio_ref_count(src) != expected:
        return False
    for old, new in zip(src.pages, dst.pages, strict=True):
        current.machine.write(new, _contents, current.machine.read(old, _contents, PLAIN), PLAIN)
    moved = _move_in_swap_cache(dst, src, expected) if folio_test_swapcache(src) else _move_mapping(dst, src, expected)
    if moved:
        _migrate_flags(dst, src)
    return moved


def _move_mapping(dst: Folio, src: Folio, expected: int) -> bool:
    """``__folio_migrate_mapping`` of a folio that is in no cache: a large one is frozen while it leaves the deferred-split queue."""
    if folio_test_large(src):
        if not folio_ref_freeze(src, expected):
            return False
        folio_unqueue_deferred_split(src)
        folio_ref_unfreeze(src, expected)
    _take_over(dst, src)
    return True


def _take_over(dst: Folio, src: Folio) -> None:
    """The index and the anon_vma, which the old folio keeps until it is freed."""
    machine = current.machine
    machine.write(dst, Folio.index, machine.read(src, Folio.index, PLAIN), PLAIN)
    machine.write(dst, Folio.mapping, machine.read(src, Folio.mapping, ONCE), PLAIN)
    mod_mthp_stat(folio_order(src), "nr_anon", 1)
    if folio_test_swapbacked(src):
        folio_set_flag(dst, PG_swapbacked)


def _move_in_swap_cache(dst: Folio, src: Folio, expected: int) -> bool:
    """``__folio_migrate_mapping`` of a folio in the swap cache, whose slots know the new one from now on."""
    machine, cache = current.machine, system.this.swap_cache_lock
    spin_lock(cache)
    frozen = folio_ref_freeze(src, expected)
    if frozen:
        folio_unqueue_deferred_split(src)
        _take_over(dst, src)
        nr, offset = folio_nr_pages(src), machine.read(src, Folio.swap, PLAIN)
        folio_ref_add(dst, nr)
        folio_set_flag(dst, PG_swapcache)
        machine.write(dst, Folio.swap, offset, PLAIN)
        if folio_clear_flag(src, PG_dirty):
            folio_set_flag(dst, PG_dirty)
        for i in range(nr):
            machine.write(system.this.swap[offset + i], SwapSlot.cached, dst, ONCE)
        folio_ref_unfreeze(src, expected - nr)
    spin_unlock(cache)
    return frozen


def _migrate_flags(dst: Folio, src: Folio) -> None:
    """``folio_migrate_flags``; the charge goes along. An mlocked folio becomes so again where a locked VMA maps it."""
    if folio_test_referenced(src):
        folio_set_flag(dst, PG_referenced)
    if current.machine.read(src, Folio.flags, ONCE) & PG_uptodate:
        folio_mark_uptodate(dst)
    if folio_clear_flag(src, PG_unevictable):
        folio_set_flag(dst, PG_unevictable)
    if folio_test_dirty(src):
        folio_set_flag(dst, PG_dirty)
    folio_clear_flag(src, PG_swapcache)
    mem_cgroup_migrate(src, dst)
