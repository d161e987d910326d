"""khugepaged, the kernel thread: its passes, its sleep, its start and its end (mm/khugepaged.c)."""

from __future__ import annotations

import operator
from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN, RELEASE
from kmm.kernel.locks import down_write, might_sleep, spin_lock, spin_unlock, up_write
from kmm.kernel.ref import Ref
from kmm.kernel.wait import smp_cond_load_acquire
from kmm.mm import system
from kmm.mm.khugepaged.enter import hugepage_enabled, wake_up_khugepaged
from kmm.mm.khugepaged.mm_slot import KhugepagedScan, KhugepagedThread
from kmm.mm.khugepaged.scan_mm_slot import collapse_scan_mm_slot, collect_mm_slot
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.swap import lru_add_drain_all
from kmm.mm.system import Sysctl

TIMEOUT: Final = "timeout"
EVENT: Final = "event"


def khugepaged_has_work() -> bool:
    """Some address space is registered, and some size enabled."""
    return not _list_empty() and hugepage_enabled()


def _list_empty() -> bool:
    """``list_empty``, which needs no lock."""
    return not current.machine.read(system.this.khugepaged_scan, KhugepagedScan.mm_head, ONCE)


def kthread_should_stop() -> bool:
    """Somebody wants the thread to end."""
    return current.machine.read(system.this.khugepaged_thread, KhugepagedThread.should_stop, ONCE)


def khugepaged_do_scan(cc: CollapseControl) -> None:
    """One pass: address spaces from the cursor on until ``pages_to_scan`` is used up, each at most once.

    After the first allocation that failed it sleeps, after the second one it gives up.

    :param cc: ``struct collapse_control *``
    :source: mm/khugepaged.c
    """
    this = system.this
    progress = pass_through_head = 0
    pages = current.machine.read(this.sysctl, Sysctl.khugepaged_pages_to_scan, ONCE)
    wait = True
    result = Ref(ScanResult.SCAN_SUCCEED)
    lru_add_drain_all()
    while not kthread_should_stop():
        spin_lock(this.khugepaged_mm_lock)
        if this.khugepaged_scan.mm_slot is None:
            pass_through_head += 1
        if khugepaged_has_work() and pass_through_head < 2:
            progress += (this.variant.collapse_scan_mm_slot or collapse_scan_mm_slot)(pages - progress, result, cc)
        else:
            progress = pages
        spin_unlock(this.khugepaged_mm_lock)
        if progress >= pages:
            break
        if result.value == ScanResult.SCAN_ALLOC_HUGE_PAGE_FAIL:
            if not wait:
                break
            wait = False
            khugepaged_alloc_sleep()


def khugepaged_alloc_sleep() -> None:
    """Sleep ``alloc_sleep_millisecs``, or until somebody wakes khugepaged."""
    machine, thread = current.machine, system.this.khugepaged_thread
    machine.write(thread, KhugepagedThread.woken, False, ONCE)
    machine.sleeping_point("khugepaged_alloc_sleep")
    might_sleep()
    if not machine.read(thread, KhugepagedThread.woken, ONCE):
        system.this.clock_ms += machine.read(system.this.sysctl, Sysctl.khugepaged_alloc_sleep_millisecs, PLAIN)


def khugepaged_wait_work() -> None:
    """Go to sleep: for ``scan_sleep_millisecs`` if there is work, else until there is some."""
    machine, thread = current.machine, system.this.khugepaged_thread
    might_sleep()
    if khugepaged_has_work():
        scan_sleep = machine.read(system.this.sysctl, Sysctl.khugepaged_scan_sleep_millisecs, PLAIN)
        if scan_sleep:
            expire = system.this.clock_ms + scan_sleep
            machine.write(thread, KhugepagedThread.sleep_expire, expire, PLAIN)
            machine.write(thread, KhugepagedThread.timeout, expire, ONCE)
            _sleep(TIMEOUT)
    elif hugepage_enabled() and not khugepaged_wait_event():
        _sleep(EVENT)


def _sleep(waits: str) -> None:
    current.machine.write(system.this.khugepaged_thread, KhugepagedThread.waits, waits, ONCE)
    current.machine.write(system.this.khugepaged_thread, KhugepagedThread.woken, False, ONCE)


def khugepaged_wait_event() -> bool:
    """What ends the sleep without work."""
    return not _list_empty() or kthread_should_stop()


def khugepaged_should_wakeup() -> bool:
    """What ends the sleep between two passes early."""
    return kthread_should_stop() or system.this.clock_ms >= system.this.khugepaged_thread.sleep_expire


def _wakes() -> bool:
    """The sleep is over: by a wake-up, or because the time comes, which is when the clock moves."""
    machine, thread = current.machine, system.this.khugepaged_thread
    woken = machine.read(thread, KhugepagedThread.woken, ONCE)
    waits = machine.read(thread, KhugepagedThread.waits, ONCE)
    if waits == EVENT and not (woken and khugepaged_wait_event()):
        return False
    if waits == TIMEOUT and not (woken and khugepaged_should_wakeup()):
        system.this.clock_ms = max(system.this.clock_ms, machine.read(thread, KhugepagedThread.timeout, ONCE))
    machine.write(thread, KhugepagedThread.waits, "", ONCE)
    return True


def khugepaged_pass() -> bool:
    """One turn of khugepaged's main loop: it wakes up, makes a pass and goes to sleep again.

    :returns: false when there is no such thread, or it sleeps and nothing wakes it
    :source: mm/khugepaged.c
    """
    thread = system.this.khugepaged_thread
    if not current.machine.read(thread, KhugepagedThread.running, ONCE) or not _becomes_thread():
        return False
    woken = _wakes()
    if woken:
        khugepaged_do_scan(thread.collapse_control)
        if not kthread_should_stop():
            khugepaged_wait_work()
    current.machine.rmw(thread, KhugepagedThread.scanning, _no, ONCE)
    if kthread_should_stop() and _becomes_thread():
        _khugepaged_ends()
        start_stop_khugepaged()
    return woken


def _becomes_thread() -> bool:
    """Run as khugepaged from now on, unless somebody does."""
    return not current.machine.rmw(system.this.khugepaged_thread, KhugepagedThread.scanning, _yes, ONCE)


def _yes(_: bool) -> bool:
    return True


def _no(_: bool) -> bool:
    return False


def _khugepaged_ends() -> None:
    """What the thread does after its main loop. The list stays."""
    this, machine = system.this, current.machine
    thread = this.khugepaged_thread
    spin_lock(this.khugepaged_mm_lock)
    mm_slot = this.khugepaged_scan.mm_slot
    machine.write(this.khugepaged_scan, KhugepagedScan.mm_slot, None, PLAIN)
    if mm_slot is not None:
        collect_mm_slot(mm_slot)
    spin_unlock(this.khugepaged_mm_lock)
    machine.write(thread, KhugepagedThread.waits, "", ONCE)
    machine.write(thread, KhugepagedThread.should_stop, False, ONCE)
    machine.write(thread, KhugepagedThread.running, False, RELEASE)
    machine.rmw(thread, KhugepagedThread.scanning, _no, ONCE)


def start_stop_khugepaged() -> str:
    """Start khugepaged if some size is enabled, else end it. Whoever writes to a switch calls this; the kernel does when it boots.

    Who ends it waits until it has; inside a pass that is not waited for, it ends when it comes to look.

    :returns: the errno's name: empty, since a thread can always be had
    :source: mm/khugepaged.c
    """
    this, machine = system.this, current.machine
    thread = this.khugepaged_thread
    down_write(this.khugepaged_mutex)
    if hugepage_enabled():
        machine.write(thread, KhugepagedThread.running, True, ONCE)
        if not _list_empty():
            wake_up_khugepaged()
    elif machine.read(thread, KhugepagedThread.running, ONCE):
        machine.rmw(thread, KhugepagedThread.should_stop, _yes, ONCE)
        wake_up_khugepaged()
        if _becomes_thread():
            _khugepaged_ends()
        elif machine.scheduler is not None:
            smp_cond_load_acquire(thread, KhugepagedThread.running, operator.not_)
    up_write(this.khugepaged_mutex)
    return ""


def khugepaged_sleep_changed() -> None:
    """One of the two sleeps was written: khugepaged wakes up to read it."""
    current.machine.write(system.this.khugepaged_thread, KhugepagedThread.sleep_expire, 0, PLAIN)
    wake_up_khugepaged()
