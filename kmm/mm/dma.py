"""What a device does with a page that was pinned for it: it knows the frame, not the page tables."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm import system
from kmm.mm.folio import Page
from kmm.mm.gup_fast import get_user_page_fast_only, gup_put_folio
from kmm.mm.gup_slow import ZERO, get_user_page_fast
from kmm.mm.mm_types import MmStruct
from kmm.mm.rmap import page_number


def dma(mm: MmStruct, address: int, token: int | None, *, slow: bool) -> str:
    """Pin the page at an address, let a device read it or write to it, and give it back. May sleep.

    :param address: in bytes
    :param token: what the device writes; ``None``: it reads
    :param slow: where the page cannot be had without locks, take them, and let it be faulted in
    :returns: empty, or why the page cannot be had: ``EAGAIN`` or ``EFAULT``
    """
    key = mm.ident, page_number(address)
    before = system.this.shadow.get(key)
    page, why = _pinned(mm, address, write=token is not None, slow=slow)
    if page is None:
        return "" if why == ZERO else why
    if token is None:
        dma_read(mm, address, page, (before, system.this.shadow.get(key)))
    else:
        dma_write(mm, address, page, token)
    gup_put_folio(page.folio, pin=True)
    return ""


def _pinned(mm: MmStruct, address: int, *, write: bool, slow: bool) -> tuple[Page | None, str]:
    if slow:
        return get_user_page_fast(mm, address, write=write, pin=True)
    page = get_user_page_fast_only(mm, address, write=write, pin=True)
    return page, "" if page is not None else "EAGAIN"


def dma_read(mm: MmStruct, address: int, page: Page, known: tuple[int | None, ...]) -> None:
    """TRANSPARENCY: what the page holds is something that the process has had there since it was to be pinned.

    :param known: what it had before, and when the page was pinned
    """
    index = page_number(address)
    found = current.machine.read(page, Page.contents, ONCE)
    if found not in (*known, system.this.shadow.get((mm.ident, index))):
        had = "what was never written" if found < 0 else f"contents {found}"
        current.machine.report("TRANSPARENCY", f"a device reads {had} from page {index} of {mm.name}, which held contents {known[-1]}")


def dma_write(mm: MmStruct, address: int, page: Page, token: int) -> None:
    """The process reads what the device wrote, if until then it read there what the page held: else the page is no longer its own."""
    this, key = system.this, (mm.ident, page_number(address))
    before = current.machine.rmw(page, Page.contents, lambda _: token, ONCE)
    if this.shadow.get(key) == before:
        this.shadow[key] = token
