"""Values of page-table entries: x86-64 bits, and the accessors over them (arch/x86/include/asm/pgtable.h)."""

from __future__ import annotations

from typing import Final, NewType

pte_t = NewType("pte_t", int)
pmd_t = NewType("pmd_t", int)
pgprot_t = NewType("pgprot_t", int)

_PAGE_PRESENT: Final = 1 << 0
_PAGE_RW: Final = 1 << 1
_PAGE_USER: Final = 1 << 2
_PAGE_ACCESSED: Final = 1 << 5
_PAGE_DIRTY: Final = 1 << 6
_PAGE_PSE: Final = 1 << 7
_PAGE_PROTNONE: Final = 1 << 8
_PAGE_SPECIAL: Final = 1 << 9
_PAGE_UFFD_WP: Final = 1 << 10
_PAGE_SOFT_DIRTY: Final = 1 << 11
_PAGE_NX: Final = 1 << 63
_PFN_SHIFT: Final = 12
_PFN_MASK: Final = (1 << 40) - 1

_SWP_SOFT_DIRTY: Final = 1 << 1
_SWP_UFFD_WP: Final = 1 << 2
_SWP_EXCLUSIVE: Final = 1 << 3
_SWP_MIGRATION: Final = 1 << 4
_SWP_OFFSET_SHIFT: Final = 9
_SWP_OFFSET_MASK: Final = (1 << 50) - 1
_SWP_TYPE_SHIFT: Final = 59
_SWP_MIG_YOUNG: Final = 1 << 40
_SWP_MIG_DIRTY: Final = 1 << 41
_SWP_PMD_BITS: Final = {"soft_dirty": 1 << 1, "uffd_wp": 1 << 2, "exclusive": 1 << 3, "write": 1 << 5, "young": 1 << 6, "dirty": 1 << 9}

MAX_SWAPFILES: Final = 23
SWP_HWPOISON: Final = 23
SWP_MIGRATION_READ: Final = 24
SWP_MIGRATION_READ_EXCLUSIVE: Final = 25
SWP_MIGRATION_WRITE: Final = 26
SWP_DEVICE_WRITE: Final = 27
SWP_DEVICE_READ: Final = 28
SWP_PTE_MARKER: Final = 31

PTE_MARKER_UFFD_WP: Final = 1 << 0
PTE_MARKER_POISONED: Final = 1 << 1
PTE_MARKER_GUARD: Final = 1 << 2

FLAG_BITS: Final = {
    "present": _PAGE_PRESENT,
    "write": _PAGE_RW,
    "young": _PAGE_ACCESSED,
    "dirty": _PAGE_DIRTY,
    "special": _PAGE_SPECIAL,
    "uffd_wp": _PAGE_UFFD_WP,
    "soft_dirty": _PAGE_SOFT_DIRTY,
}
"""Names of the bits of a present entry."""

PTE_NONE: Final = pte_t(0)
PMD_NONE: Final = pmd_t(0)
KERNPG_TABLE: Final = _PAGE_PRESENT | _PAGE_RW | _PAGE_USER | _PAGE_ACCESSED | _PAGE_DIRTY
ZERO_PFN: Final = 1
HUGE_ZERO_PFN: Final = 2


def pte_none(pte: pte_t) -> bool:
    """The entry is empty."""
    return pte == 0


def pte_present(pte: pte_t) -> bool:
    """The entry maps a page (PROT_NONE included)."""
    return bool(pte & 0x101)


def pte_young(pte: pte_t) -> bool:
    """Hardware accessed bit."""
    return bool(pte & _PAGE_ACCESSED)


def pte_dirty(pte: pte_t) -> bool:
    """Hardware dirty bit."""
    return bool(pte & _PAGE_DIRTY)


def pte_write(pte: pte_t) -> bool:
    """Hardware write permission."""
    return bool(pte & _PAGE_RW)


def pte_special(pte: pte_t) -> bool:
    """The entry maps no refcounted page."""
    return bool(pte & _PAGE_SPECIAL)


def pte_uffd_wp(pte: pte_t) -> bool:
    """Write-protected by userfaultfd."""
    return bool(pte & _PAGE_UFFD_WP)


def pte_pfn(pte: pte_t) -> int:
    """Frame number of a present entry."""
    return (pte >> _PFN_SHIFT) & _PFN_MASK


def is_zero_pfn(pfn: int) -> bool:
    """The frame is the zero page."""
    return pfn == ZERO_PFN


def pte_none_or_zero(pte: pte_t) -> bool:
    """The entry is empty or maps the zero page."""
    return pte == 0 or (bool(pte & 0x101) and (pte >> _PFN_SHIFT) & _PFN_MASK == ZERO_PFN)


def is_swap_pte(pte: pte_t) -> bool:
    """Neither empty nor present."""
    return pte != 0 and not pte & 0x101


def pfn_pte(pfn: int, prot: pgprot_t) -> pte_t:
    """An entry for a frame."""
    return pte_t(pfn << _PFN_SHIFT | prot)


def pte_mkdirty(pte: pte_t) -> pte_t:
    """Dirty, and soft-dirty with it."""
    return pte_t(pte | _PAGE_DIRTY | _PAGE_SOFT_DIRTY)


def pte_mkyoung(pte: pte_t) -> pte_t:
    """Accessed."""
    return pte_t(pte | _PAGE_ACCESSED)


def pte_mkold(pte: pte_t) -> pte_t:
    """Not accessed."""
    return pte_t(pte & ~_PAGE_ACCESSED)


def pte_mkclean(pte: pte_t) -> pte_t:
    """Not dirty."""
    return pte_t(pte & ~_PAGE_DIRTY)


def pte_soft_dirty(pte: pte_t) -> bool:
    """Written since the last look."""
    return bool(pte & _PAGE_SOFT_DIRTY)


def pte_mkwrite(pte: pte_t) -> pte_t:
    """Writable."""
    return pte_t(pte | _PAGE_RW)


def pte_mkspecial(pte: pte_t) -> pte_t:
    """No refcounted page behind it."""
    return pte_t(pte | _PAGE_SPECIAL)


def pte_mkuffd_wp(pte: pte_t) -> pte_t:
    """Write-protected by userfaultfd."""
    return pte_t((pte | _PAGE_UFFD_WP) & ~_PAGE_RW)


def pte_mksoft_dirty(pte: pte_t) -> pte_t:
    """Soft-dirty."""
    return pte_t(pte | _PAGE_SOFT_DIRTY)


def pte_next_pfn(pte: pte_t) -> pte_t:
    """The same entry for the next frame."""
    return pte_t(pte + (1 << _PFN_SHIFT))


def swp_entry_to_pte(offset: int, *, exclusive: bool, uffd_wp: bool, soft_dirty: bool) -> pte_t:
    """A swap entry of swap type 0; x86-64 stores the offset inverted."""
    bits = (~offset & _SWP_OFFSET_MASK) << _SWP_OFFSET_SHIFT
    bits |= _SWP_EXCLUSIVE * exclusive | _SWP_UFFD_WP * uffd_wp | _SWP_SOFT_DIRTY * soft_dirty
    return pte_t(bits)


def pte_to_swp_offset(pte: pte_t) -> int:
    """Offset of a swap entry."""
    return ~(pte >> _SWP_OFFSET_SHIFT) & _SWP_OFFSET_MASK


def pte_swp_exclusive(pte: pte_t) -> bool:
    """The swapped page was exclusive."""
    return bool(pte & _SWP_EXCLUSIVE)


def pte_swp_uffd_wp(pte: pte_t) -> bool:
    """uffd-wp bit of a swap or migration entry."""
    return bool(pte & _SWP_UFFD_WP)


def pte_swp_uffd_wp_any(pte: pte_t) -> bool:
    """A non-present entry that userfaultfd write-protects: by its bit, or as a marker."""
    return is_swap_pte(pte) and (pte_swp_uffd_wp(pte) or bool(pte_marker_get(pte) & PTE_MARKER_UFFD_WP))


def pte_swp_type(pte: pte_t) -> int:
    """Swap type of a non-present entry."""
    return pte >> _SWP_TYPE_SHIFT


def non_swap_entry(pte: pte_t) -> bool:
    """A non-present entry that names no swap slot: hwpoison, migration, device or marker."""
    return pte >> _SWP_TYPE_SHIFT >= MAX_SWAPFILES


def make_special_entry(swp_type: int, offset: int, *, uffd_wp: bool = False, soft_dirty: bool = False) -> pte_t:
    """An entry of a swap type that is no device; x86-64 stores the offset inverted."""
    bits = swp_type << _SWP_TYPE_SHIFT | (~offset & _SWP_OFFSET_MASK) << _SWP_OFFSET_SHIFT
    return pte_t(bits | _SWP_UFFD_WP * uffd_wp | _SWP_SOFT_DIRTY * soft_dirty)


def make_pte_marker(marker: int) -> pte_t:
    """An entry that holds nothing but a marker."""
    return make_special_entry(SWP_PTE_MARKER, marker)


def pte_marker_get(pte: pte_t) -> int:
    """The marker of an entry; 0 where it is none."""
    return pte_to_swp_offset(pte) if pte_swp_type(pte) == SWP_PTE_MARKER else 0


def is_hwpoison_entry(pte: pte_t) -> bool:
    """The page was poisoned and unmapped."""
    return pte_swp_type(pte) == SWP_HWPOISON


def make_migration_entry(pfn: int, swp_type: int, *, young: bool, dirty: bool, uffd_wp: bool, soft_dirty: bool) -> pte_t:
    """The entry of a page that is being migrated.

    :param swp_type: one of ``SWP_MIGRATION_*``
    """
    offset = pfn | _SWP_MIG_YOUNG * young | _SWP_MIG_DIRTY * dirty
    return make_special_entry(swp_type, offset, uffd_wp=uffd_wp, soft_dirty=soft_dirty)


def is_migration_entry(pte: pte_t) -> bool:
    """The page is being migrated."""
    return SWP_MIGRATION_READ <= pte_swp_type(pte) <= SWP_MIGRATION_WRITE


def is_migration_entry_young(pte: pte_t) -> bool:
    """The entry was young when the page was unmapped."""
    return bool(pte_to_swp_offset(pte) & _SWP_MIG_YOUNG)


def is_migration_entry_dirty(pte: pte_t) -> bool:
    """The entry was dirty when the page was unmapped."""
    return bool(pte_to_swp_offset(pte) & _SWP_MIG_DIRTY)


def is_device_private_entry(pte: pte_t) -> bool:
    """The page lives in memory that only a device reaches."""
    return pte_swp_type(pte) in (SWP_DEVICE_WRITE, SWP_DEVICE_READ)


def swp_entry_pfn(pte: pte_t) -> int:
    """Frame number of a hwpoison, migration or device entry."""
    return pte_to_swp_offset(pte) & _PFN_MASK


def pte_swp_soft_dirty(pte: pte_t) -> bool:
    """Soft-dirty bit of a swap entry."""
    return bool(pte & _SWP_SOFT_DIRTY)


def pmd_none(pmd: pmd_t) -> bool:
    """The entry is empty."""
    return pmd == 0


def pmd_present(pmd: pmd_t) -> bool:
    """The entry leads to a table or maps a huge page."""
    return bool(pmd & (_PAGE_PRESENT | _PAGE_PROTNONE | _PAGE_PSE))


def is_pmd_migration_entry(pmd: pmd_t) -> bool:
    """A huge page that is being migrated."""
    return not pmd_present(pmd) and bool(pmd & _SWP_MIGRATION)


def make_pmd_migration_entry(pfn: int, *bits: str) -> pmd_t:
    """The entry of a huge page that is being migrated.

    :param bits: what the entry was: ``write``, ``exclusive``, ``young``, ``dirty``, ``soft_dirty``, ``uffd_wp``
    """
    return pmd_t(pfn << _PFN_SHIFT | _SWP_MIGRATION | sum(_SWP_PMD_BITS[bit] for bit in bits))


def pmd_migration_has(pmd: pmd_t, bit: str) -> bool:
    """A bit of the entry of a huge page that is being migrated; its name is one of :func:`make_pmd_migration_entry`'s."""
    return bool(pmd & _SWP_PMD_BITS[bit])


def pmd_trans_huge(pmd: pmd_t) -> bool:
    """The entry maps a huge page."""
    return bool(pmd & _PAGE_PSE)


def pmd_bad(pmd: pmd_t) -> bool:
    """Neither empty, nor huge, nor a table."""
    return (pmd & 0xFFF & ~_PAGE_USER) != (KERNPG_TABLE & ~_PAGE_USER)


def pmd_pfn(pmd: pmd_t) -> int:
    """Frame number of the table or of the huge page."""
    return (pmd >> _PFN_SHIFT) & _PFN_MASK


def pfn_pmd(pfn: int, prot: int) -> pmd_t:
    """An entry for a frame."""
    return pmd_t(pfn << _PFN_SHIFT | prot)


def is_huge_zero_pmd(pmd: pmd_t) -> bool:
    """The entry maps the huge zero page."""
    return pmd_trans_huge(pmd) and pmd_pfn(pmd) == HUGE_ZERO_PFN


def pmd_young(pmd: pmd_t) -> bool:
    """Hardware accessed bit."""
    return bool(pmd & _PAGE_ACCESSED)


def pmd_dirty(pmd: pmd_t) -> bool:
    """Hardware dirty bit."""
    return bool(pmd & _PAGE_DIRTY)


def pmd_write(pmd: pmd_t) -> bool:
    """Hardware write permission."""
    return bool(pmd & _PAGE_RW)


def pmd_soft_dirty(pmd: pmd_t) -> bool:
    """Written since the last look."""
    return bool(pmd & _PAGE_SOFT_DIRTY)


def pmd_uffd_wp(pmd: pmd_t) -> bool:
    """Write-protected by userfaultfd."""
    return bool(pmd & _PAGE_UFFD_WP)


def pmd_mkold(pmd: pmd_t) -> pmd_t:
    """Not accessed."""
    return pmd_t(pmd & ~_PAGE_ACCESSED)


def pmd_mkclean(pmd: pmd_t) -> pmd_t:
    """Not dirty."""
    return pmd_t(pmd & ~_PAGE_DIRTY)


def pmd_mkinvalid(pmd: pmd_t) -> pmd_t:
    """Still huge, but no CPU may use it."""
    return pmd_t(pmd & ~(_PAGE_PRESENT | _PAGE_PROTNONE))


def pmd_mkhuge(pmd: pmd_t) -> pmd_t:
    """Maps a huge page."""
    return pmd_t(pmd | _PAGE_PSE)


def pmd_mkdirty(pmd: pmd_t) -> pmd_t:
    """Dirty, and soft-dirty with it."""
    return pmd_t(pmd | _PAGE_DIRTY | _PAGE_SOFT_DIRTY)


def pmd_mkwrite(pmd: pmd_t) -> pmd_t:
    """Writable."""
    return pmd_t(pmd | _PAGE_RW)


def vm_get_page_prot(*, accessible: bool, executable: bool) -> pgprot_t:
    """Protection of a private mapping's fresh entry: read-only until a write, accessed by default.

    :param accessible: the mapping may be read, written or executed; otherwise its entries are PROT_NONE
    """
    if not accessible:
        return pgprot_t(_PAGE_PROTNONE | _PAGE_ACCESSED | _PAGE_NX)
    return pgprot_t(_PAGE_PRESENT | _PAGE_USER | _PAGE_ACCESSED | (0 if executable else _PAGE_NX))


def pte_mkprotnone(pte: pte_t) -> pte_t:
    """Present, but no access: as NUMA balancing leaves it."""
    return pte_t((pte & ~(_PAGE_PRESENT | _PAGE_RW | _PAGE_USER)) | _PAGE_PROTNONE | _PAGE_NX)


def pte_protnone(pte: pte_t) -> bool:
    """Present, but no access."""
    return pte & (_PAGE_PRESENT | _PAGE_PROTNONE) == _PAGE_PROTNONE
