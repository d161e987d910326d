"""What a scenario would call an entry of a table, as a run left it."""

from __future__ import annotations

from typing import Final

import attrs

from kmm.mm.folio import (
    Folio,
    Page,
    PG_anon_exclusive,
    PG_locked,
    PG_lru,
    PG_mlocked,
    PG_referenced,
    PG_swapbacked,
    PG_swapcache,
)
from kmm.mm.mm_types import MmStruct
from kmm.mm.pte import (
    PTE_MARKER_GUARD,
    PTE_MARKER_POISONED,
    PTE_MARKER_UFFD_WP,
    SWP_DEVICE_WRITE,
    SWP_MIGRATION_READ,
    SWP_MIGRATION_WRITE,
    ZERO_PFN,
    is_device_private_entry,
    is_hwpoison_entry,
    is_migration_entry,
    is_migration_entry_dirty,
    is_migration_entry_young,
    non_swap_entry,
    pte_dirty,
    pte_marker_get,
    pte_none,
    pte_pfn,
    pte_present,
    pte_protnone,
    pte_special,
    pte_swp_exclusive,
    pte_swp_soft_dirty,
    pte_swp_type,
    pte_swp_uffd_wp,
    pte_swp_uffd_wp_any,
    pte_t,
    pte_to_swp_offset,
    pte_uffd_wp,
    pte_write,
    pte_young,
    swp_entry_pfn,
)
from kmm.mm.system import System
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.errors import ScenarioError
from kmm.scenario.page import Kind, Lru, PageState
from kmm.scenario.quiescence import tables_of


def state_of(this: System, pte: pte_t, *, secondary_young: bool) -> PageState | None:
    """What a scenario would call this entry; ``None``: nothing that one could."""
    try:
        if pte_none(pte):
            return ALPHABET["."]
        if not pte_present(pte):
            return _non_swap(this, pte) if non_swap_entry(pte) else _swapped(this, pte)
        if pte_pfn(pte) == ZERO_PFN:
            return PageState(kind=Kind.ZERO, young=pte_young(pte), dirty=pte_dirty(pte))
        if pte_special(pte):
            return PageState(kind=Kind.SPECIAL)
        page = this.mem_map.get(pte_pfn(pte))
        return None if page is None else _present(this, page, pte, secondary_young)
    except ScenarioError:
        return None


_MARKERS: Final = {
    PTE_MARKER_GUARD: Kind.GUARD_MARKER,
    PTE_MARKER_POISONED: Kind.POISON_MARKER,
    PTE_MARKER_UFFD_WP: Kind.UFFD_WP_MARKER,
}


def _non_swap(this: System, pte: pte_t) -> PageState | None:
    """A marker, or an entry that stands for a page."""
    if pte_marker_get(pte):
        return PageState(kind=_MARKERS[pte_marker_get(pte)])
    if is_hwpoison_entry(pte):
        return PageState(kind=Kind.HWPOISON)
    page = this.mem_map[swp_entry_pfn(pte)]
    uffd_wp, soft_dirty = pte_swp_uffd_wp(pte), pte_swp_soft_dirty(pte)
    if is_device_private_entry(pte):
        exclusive = bool(page._flags & PG_anon_exclusive)
        return PageState(
            kind=Kind.DEVICE_PRIVATE,
            write=pte_swp_type(pte) == SWP_DEVICE_WRITE,
            exclusive=exclusive,
            uffd_wp=uffd_wp,
            soft_dirty=soft_dirty,
        )
    return PageState(
        kind=Kind.MIGRATION,
        young=is_migration_entry_young(pte),
        dirty=is_migration_entry_dirty(pte),
        write=pte_swp_type(pte) == SWP_MIGRATION_WRITE,
        exclusive=pte_swp_type(pte) != SWP_MIGRATION_READ,
        node=page.folio.nid,
        mapped_by=sum(_also_migrating(this, mm, page) for mm in this.mms[1:]),
        uffd_wp=uffd_wp,
        soft_dirty=soft_dirty,
    )


def _swapped(this: System, pte: pte_t) -> PageState | None:
    slot = this.swap.get(pte_to_swp_offset(pte))
    if slot is None or (slot._count <= 0 and slot._cached is None):
        return None
    return PageState(
        kind=Kind.SWAP,
        exclusive=pte_swp_exclusive(pte),
        uffd_wp=pte_swp_uffd_wp_any(pte),
        soft_dirty=pte_swp_soft_dirty(pte),
        swapcache=slot._cached is not None,
        mapped_by=slot._count - 1,
    )


def _present(this: System, page: Page, pte: pte_t, secondary_young: bool) -> PageState:
    folio = page.folio
    maps = page._mapcount if folio.order else folio._mapcount
    ksm = folio._mapping is not None and folio._mapping.label == "ksm"
    if folio.zone_device:
        return _entry_bits(Kind.DEVICE, page, pte)
    if ksm:
        maps //= _mappings_of_owner(this, page)
    return attrs.evolve(
        _entry_bits(Kind.PRESENT, page, pte),
        prot_none=pte_protnone(pte),
        secondary_young=secondary_young,
        ksm=ksm,
        lazyfree=not folio._flags & PG_swapbacked,
        mlocked=bool(folio._flags & PG_mlocked),
        swapcache=bool(folio._flags & PG_swapcache),
        order=folio.order,
        mapped_by=maps - 1,
        pins=folio._pincount,
        locked=bool(folio._flags & PG_locked),
        lru=_lru(this, folio),
        referenced=bool(folio._flags & PG_referenced),
        node=folio.nid,
    )


def _mappings_of_owner(this: System, page: Page) -> int:
    """How many entries of the owner map the page."""
    entries = [pte for table in tables_of(this, this.mms[0]) for pte in table._entries]
    return max(1, sum(pte_present(pte) and pte_pfn(pte) == page.pfn for pte in entries))


def _also_migrating(this: System, mm: MmStruct, page: Page) -> bool:
    """Another address space has a migration entry for the page."""
    entries = [pte for table in tables_of(this, mm) for pte in table._entries]
    return any(pte and is_migration_entry(pte) and swp_entry_pfn(pte) == page.pfn for pte in entries)


def _entry_bits(kind: Kind, page: Page, pte: pte_t) -> PageState:
    """What a present entry says by itself."""
    return PageState(
        kind=kind,
        young=pte_young(pte),
        dirty=pte_dirty(pte),
        write=pte_write(pte),
        exclusive=bool(page._flags & PG_anon_exclusive),
        uffd_wp=pte_uffd_wp(pte),
        soft_dirty=bool(pte & 0x800),
    )


def _lru(this: System, folio: Folio) -> Lru:
    if folio._flags & PG_lru:
        return Lru.LIST
    return Lru.BATCH if any(folio in cpu._lru_add for cpu in this.per_cpu) else Lru.OFF
