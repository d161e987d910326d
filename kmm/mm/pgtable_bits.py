"""More entries that are made of others (arch/x86/include/asm/pgtable.h)."""

from __future__ import annotations

from typing import Final

from kmm.mm.pte import (
    _PAGE_PRESENT,
    _PAGE_PROTNONE,
    _PAGE_PSE,
    _SWP_EXCLUSIVE,
    _SWP_PMD_BITS,
    _SWP_SOFT_DIRTY,
    _SWP_UFFD_WP,
    FLAG_BITS,
    SWP_DEVICE_READ,
    SWP_DEVICE_WRITE,
    make_special_entry,
    pgprot_t,
    pmd_t,
    pte_t,
    pte_to_swp_offset,
)

_KEPT: Final = sum(FLAG_BITS[name] for name in ("young", "dirty", "special", "uffd_wp", "soft_dirty")) | ((1 << 40) - 1) << 12


def pte_modify(pte: pte_t, newprot: pgprot_t) -> pte_t:
    """The entry with the access rights of ``newprot``; what was noted about its use stays."""
    return pte_t(pte & _KEPT | newprot & ~_KEPT)


def pmd_mkyoung(pmd: pmd_t) -> pmd_t:
    """Accessed."""
    return pmd_t(pmd | FLAG_BITS["young"])


def pmd_mksoft_dirty(pmd: pmd_t) -> pmd_t:
    """Soft-dirty."""
    return pmd_t(pmd | FLAG_BITS["soft_dirty"])


def pmd_mkuffd_wp(pmd: pmd_t) -> pmd_t:
    """Write-protected by userfaultfd."""
    return pmd_t((pmd | FLAG_BITS["uffd_wp"]) & ~FLAG_BITS["write"])


def pte_wrprotect(pte: pte_t) -> pte_t:
    """Not writable."""
    return pte_t(pte & ~FLAG_BITS["write"])


def pte_clear_uffd_wp(pte: pte_t) -> pte_t:
    """A present entry that userfaultfd no longer write-protects."""
    return pte_t(pte & ~FLAG_BITS["uffd_wp"])


def pte_swp_clear_uffd_wp(pte: pte_t) -> pte_t:
    """A non-present entry that userfaultfd no longer write-protects."""
    return pte_t(pte & ~_SWP_UFFD_WP)


def pte_swp_mkuffd_wp(pte: pte_t) -> pte_t:
    """A non-present entry that userfaultfd write-protects."""
    return pte_t(pte | _SWP_UFFD_WP)


def pte_swp_clear_exclusive(pte: pte_t) -> pte_t:
    """The swapped page is shared."""
    return pte_t(pte & ~_SWP_EXCLUSIVE)


def pte_swp_mksoft_dirty(pte: pte_t) -> pte_t:
    """Soft-dirty, of a non-present entry."""
    return pte_t(pte | _SWP_SOFT_DIRTY)


def pte_swp_change_type(pte: pte_t, swp_type: int) -> pte_t:
    """The same migration or device entry with other rights; that of a device is not soft-dirty any more."""
    uffd_wp = bool(pte & _SWP_UFFD_WP)
    soft_dirty = bool(pte & _SWP_SOFT_DIRTY) and swp_type not in (SWP_DEVICE_READ, SWP_DEVICE_WRITE)
    return make_special_entry(swp_type, pte_to_swp_offset(pte), uffd_wp=uffd_wp, soft_dirty=soft_dirty)


def pmd_modify(pmd: pmd_t, newprot: pgprot_t) -> pmd_t:
    """The huge entry with the access rights of ``newprot``; what was noted about its use stays."""
    kept = _KEPT | _PAGE_PSE
    return pmd_t(pmd & kept | newprot & ~kept)


def pmd_protnone(pmd: pmd_t) -> bool:
    """Huge, but no access."""
    return pmd & (_PAGE_PRESENT | _PAGE_PROTNONE) == _PAGE_PROTNONE


def pmd_wrprotect(pmd: pmd_t) -> pmd_t:
    """Not writable."""
    return pmd_t(pmd & ~FLAG_BITS["write"])


def pmd_clear_uffd_wp(pmd: pmd_t) -> pmd_t:
    """A huge entry that userfaultfd no longer write-protects."""
    return pmd_t(pmd & ~FLAG_BITS["uffd_wp"])


def pmd_migration_clear(pmd: pmd_t, bit: str) -> pmd_t:
    """Without a bit of the entry of a huge page that is being migrated; its name is one of :func:`make_pmd_migration_entry`'s."""
    return pmd_t(pmd & ~_SWP_PMD_BITS[bit])


def pmd_migration_set(pmd: pmd_t, bit: str) -> pmd_t:
    """With a bit of the entry of a huge page that is being migrated; its name is one of :func:`make_pmd_migration_entry`'s."""
    return pmd_t(pmd | _SWP_PMD_BITS[bit])
