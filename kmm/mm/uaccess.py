"""Loads and stores of a user: through the CPU's TLB, else through the page tables, else by a fault.

What a load finds is compared with the shadow memory (TRANSPARENCY). The translation of a huge entry is kept page by page; that of the huge
zero page is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.stop import Hang
from kmm.mm import system
from kmm.mm.fault import do_user_addr_fault
from kmm.mm.folio import Page, PageHWPoison
from kmm.mm.geometry import PAGE_SIZE
from kmm.mm.mm_types import MmStruct
from kmm.mm.pgtable import PmdSlot, PtePage, pmd_offset, pmd_pgtable, pmdp_get_lockless, pte_index
from kmm.mm.pte import FLAG_BITS, ZERO_PFN, is_huge_zero_pmd, pmd_pfn, pmd_t, pmd_trans_huge, pte_pfn, pte_t
from kmm.mm.rmap import page_number
from kmm.mm.tlb import instruction, tlb_fill, tlb_lookup

_PRESENT: Final = FLAG_BITS["present"]
_WRITE: Final = FLAG_BITS["write"]
_YOUNG: Final = FLAG_BITS["young"]
_DIRTY: Final = FLAG_BITS["dirty"]
_LARGE: Final = 1 << 7
_ATTEMPTS: Final = 16
_contents: Final = Page.contents


def user_load(mm: MmStruct, address: int) -> str:
    """The process reads a page.

    :param address: in bytes
    :returns: empty, or why it gets nothing: see :func:`kmm.mm.fault.handle_mm_fault`
    :raises Hang: when the fault comes again and again
    """
    return _access(mm, address, lambda entry: _compare(mm, address, entry, _load(entry)), write=False)


def user_store(mm: MmStruct, address: int, token: int) -> str:
    """The process writes a page.

    :param address: in bytes
    :param token: what it writes: stands for the contents of the whole page
    :returns: empty, or why it cannot: see :func:`kmm.mm.fault.handle_mm_fault`
    :raises Hang: when the fault comes again and again
    """
    return _access(mm, address, lambda entry: _store(mm, address, entry, token), write=True)


def _access(mm: MmStruct, address: int, use: Callable[[pte_t], None], *, write: bool) -> str:
    """Use a translation that allows the access; or why there is none."""
    for _ in range(_ATTEMPTS):
        with instruction():
            entry = _translate(mm, address, write=write)
            if entry is not None and not _is_poisoned(entry):
                use(entry)
                return ""
        if entry is not None:
            return "SIGBUS"
        why = do_user_addr_fault(mm, address, write=write)
        if why:
            return why
    raise Hang(f"HANG: the fault at page {page_number(address)} of {mm.name} comes again and again")


def _is_poisoned(entry: pte_t) -> bool:
    """The memory has failed: the access is a machine check. What it tells memory_failure, memory_failure knows already."""
    this = system.this
    page = this.mem_map.get(pte_pfn(entry)) if this.hwpoison else None
    return page is not None and PageHWPoison(page)


def _translate(mm: MmStruct, address: int, *, write: bool) -> pte_t | None:
    """Look into the TLB, and if that does not allow the access into the tables; what faults is forgotten."""
    page = address & -PAGE_SIZE()
    needed = _WRITE | _DIRTY if write else 0
    cached = tlb_lookup(mm.ident, page)
    if cached is not None and cached & needed == needed:
        return pte_t(cached)
    entry = _walk(mm, address, write=write)
    if entry is None:
        tlb_fill(mm.ident, page, None)
    elif entry & _LARGE == 0:
        tlb_fill(mm.ident, page, entry)
    return entry


def _walk(mm: MmStruct, address: int, *, write: bool) -> pte_t | None:
    """What the hardware does: it follows the tables, and marks the entry young, and for a write dirty."""
    pmd = pmd_offset(mm, address)
    if pmd is None:
        return None
    value = pmdp_get_lockless(pmd)
    if not value & _PRESENT:
        return None
    marks = _YOUNG | _DIRTY if write else _YOUNG
    if pmd_trans_huge(value):
        return _huge(pmd, value, pte_index(address), marks) if not write or value & _WRITE else None
    table, index = pmd_pgtable(value), pte_index(address)
    entry = current.machine.read_item(table, PtePage.entries, index, ONCE)
    while entry & _PRESENT and (entry & _WRITE or not write):
        was, mark = entry, partial(_marked, entry, marks)
        if entry & marks == marks or (entry := current.machine.rmw_item(table, PtePage.entries, index, mark, ONCE)) == was:
            return pte_t(entry | marks)
    return None


def _marked(seen: pte_t, marks: int, now: pte_t) -> pte_t:
    """The hardware marks the entry that it has seen, and no other."""
    return pte_t(now | marks) if now == seen else now


def _huge(pmd: PmdSlot, value: pmd_t, index: int, marks: int) -> pte_t | None:
    """The translation of one page of a huge entry. The huge zero page has the zero page's frame, and keeps its mark."""
    if value & marks != marks and current.machine.rmw(pmd, PmdSlot.val, partial(_huge_marked, value, marks), ONCE) != value:
        return None
    if is_huge_zero_pmd(value):
        return pte_t(ZERO_PFN << 12 | _LARGE | _PRESENT | marks)
    return pte_t(pmd_pfn(value) + index << 12 | (value & 0xFFF & ~_LARGE) | marks)


def _huge_marked(seen: pmd_t, marks: int, now: pmd_t) -> pmd_t:
    """As :func:`_marked`."""
    return pmd_t(now | marks) if now == seen else now


def _load(entry: pte_t) -> int:
    """Contents behind a translation. A frame without folio has its number for contents."""
    pfn = pte_pfn(entry)
    page = system.this.mem_map.get(pfn)
    if page is not None:
        return current.machine.read(page, _contents, ONCE)
    return 0 if pfn == ZERO_PFN else pfn


def _compare(mm: MmStruct, address: int, entry: pte_t, found: int) -> None:
    """TRANSPARENCY: the process reads what it wrote last, or zeros where it allowed the kernel to forget that."""
    this, key = system.this, (mm.ident, page_number(address))
    expected = this.shadow.get(key)
    if found == expected or (*key, pte_pfn(entry)) in this.leaving:
        return
    if found == 0 and key in this.lazyfree and this.lazyfree[key] == expected:
        return
    written = "nothing is mapped" if expected is None else f"contents {expected} were last written"
    current.machine.report("TRANSPARENCY", f"{mm.name} reads contents {found} from page {key[1]}, but {written} there")


def _store(mm: MmStruct, address: int, entry: pte_t, token: int) -> None:
    """Contents of a page and the shadow memory; what the memory of a device becomes is the device's affair."""
    this, pfn, key = system.this, pte_pfn(entry), (mm.ident, page_number(address))
    page = this.mem_map.get(pfn)
    if page is not None:
        current.machine.write(page, _contents, token, ONCE)
        if (*key, pfn) not in this.leaving:
            this.shadow[key] = token
            this.lazyfree.pop(key, None)
    elif pfn == ZERO_PFN:
        current.machine.report("TRANSPARENCY", f"{mm.name} writes to the zero page at page {key[1]}")
