"""Accesses through a secondary MMU, and its faults (virt/kvm/kvm_main.c, arch/x86/kvm/mmu/mmu.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.barrier import smp_rmb
from kmm.kernel.locks import spin_lock, spin_unlock
from kmm.kernel.stop import Hang
from kmm.kernel.wait import smp_cond_load_acquire
from kmm.mm import system
from kmm.mm.folio import Page, PG_dirty, folio_set_flag, page_folio
from kmm.mm.geometry import PAGE_SIZE
from kmm.mm.gup_slow import ZERO, get_user_page_fast
from kmm.mm.mm_types import MmStruct
from kmm.mm.page_alloc import folio_put
from kmm.mm.populate import folio_mark_accessed
from kmm.mm.pte import ZERO_PFN
from kmm.mm.rmap import page_number
from kmm.mm.secondary_mmu import SPTE_WRITE, SecondaryMmu, mmu_invalidate_retry_gfn
from kmm.mm.tlb import instruction

_ATTEMPTS: Final = 16


def secondary_access(mm: MmStruct, address: int, token: int | None) -> str:
    """A guest reads or writes a page, which its MMU maps first. May sleep.

    :param mm: ``struct mm_struct *``, of the running task, with a secondary MMU
    :param address: in bytes
    :param token: what it writes; ``None``: it reads
    :returns: empty, or ``EFAULT``
    :raises Hang: when the mapping goes again and again
    """
    kvm = mm.secondary
    assert kvm is not None
    address &= -PAGE_SIZE()
    for _ in range(_ATTEMPTS):
        if guest_access(kvm, mm, address, token):
            return ""
        if why := kvm_tdp_page_fault(kvm, mm, address, write=token is not None):
            return why
    raise Hang(f"HANG: page {page_number(address)} goes away again and again from the {kvm.name}")


def guest_access(kvm: SecondaryMmu, mm: MmStruct, address: int, token: int | None) -> bool:
    """One instruction of the guest: its translation and its access are over before a flush that concerns them returns.

    :returns: false: there is no translation that allows it
    """
    with instruction():
        spte = current.machine.read(kvm, SecondaryMmu.sptes, ONCE).get(address)
        if spte is None or (token is not None and not spte & SPTE_WRITE):
            return False
        _mark_young(mm, address)
        page, key = system.this.mem_map.get(spte >> 12), (mm.ident, page_number(address))
        if token is None:
            _compare(mm, key, 0 if page is None else current.machine.read(page, Page.contents, ONCE))
        elif page is not None:
            current.machine.write(page, Page.contents, token, ONCE)
            system.this.shadow[key] = token
            system.this.lazyfree.pop(key, None)
        return True


def _compare(mm: MmStruct, key: tuple[int, int], found: int) -> None:
    """TRANSPARENCY: a guest reads what was written last, or zeros where the process allowed the kernel to forget that."""
    this = system.this
    expected = this.shadow.get(key)
    if found != expected and not (found == 0 and key in this.lazyfree and this.lazyfree[key] == expected):
        current.machine.report("TRANSPARENCY", f"a guest reads contents {found} from page {key[1]} of {mm.name}, which held {expected}")


def kvm_tdp_page_fault(kvm: SecondaryMmu, mm: MmStruct, address: int, *, write: bool) -> str:
    """Map a page: what the primary tables say, unless they change meanwhile. May sleep.

    Where an invalidation is under way a guest comes back at once, and again; here it waits until none is.

    :param address: in bytes
    :returns: empty, mapped or not; or ``EFAULT``
    :source: arch/x86/kvm/mmu/mmu.c, v6.18
    """
    seq = current.machine.read(kvm, SecondaryMmu.invalidate_seq, ONCE)
    smp_rmb()
    page, why = get_user_page_fast(mm, address, write=write, pin=False)
    if page is None and why != ZERO:
        return why
    spin_lock(kvm.mmu_lock)
    retry = mmu_invalidate_retry_gfn(kvm, address, seq)
    if not retry:
        _map(kvm, mm, address, page, write=write)
    spin_unlock(kvm.mmu_lock)
    if page is not None:
        _release(page, mapped=not retry, write=write)
    if retry:
        smp_cond_load_acquire(kvm, SecondaryMmu.in_progress, _nothing)
    return ""


def _map(kvm: SecondaryMmu, mm: MmStruct, address: int, page: Page | None, *, write: bool) -> None:
    """Set the secondary entry, which the access marks young. A read maps for reading only.

    :param page: ``None``: the zero page
    """
    spte = (ZERO_PFN if page is None else page.pfn) << 12 | SPTE_WRITE * write
    sptes = {**kvm.sptes, address: spte}
    current.machine.write(kvm, SecondaryMmu.sptes, dict(sorted(sptes.items())), ONCE)
    _mark_young(mm, address)


def _mark_young(mm: MmStruct, address: int) -> None:
    """Its entry says that it was used."""
    if address not in current.machine.read(mm, MmStruct.secondary_young, ONCE):
        current.machine.rmw(mm, MmStruct.secondary_young, frozenset((address,)).__or__, ONCE)


def _release(page: Page, *, mapped: bool, write: bool) -> None:
    """The MMU has no reference: that the primary tables change is announced to it."""
    folio = page_folio(page)
    if mapped:
        folio_mark_accessed(folio)
        if write:
            folio_set_flag(folio, PG_dirty)
    folio_put(folio)


def _nothing(in_progress: int) -> bool:
    return in_progress == 0
