"""khugepaged, the kernel thread: its passes, its sleep, its start and its end (mm/khugepaged.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.locks import down_write, might_sleep, spin_lock, spin_unlock, up_write
from kmm.kernel.ref import Ref
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
    return bool(system.this.khugepaged_scan.mm_head) and hugepage_enabled()


def kthread_should_stop() -> bool:
    """Somebody wants the thread to end."""
    return system.this.khugepaged_thread.should_stop


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
            machine.write(thread, KhugepagedThread.timeout, expire, PLAIN)
            _sleep(TIMEOUT)
    elif hugepage_enabled() and not khugepaged_wait_event():
        _sleep(EVENT)


def _sleep(waits: str) -> None:
    current.machine.write(system.this.khugepaged_thread, KhugepagedThread.waits, waits, PLAIN)
    current.machine.write(system.this.khugepaged_thread, KhugepagedThread.woken, False, ONCE)


def khugepaged_wait_event() -> bool:
    """What ends the sleep without work."""
    return bool(system.this.khugepaged_scan.mm_head) or kthread_should_stop()


def khugepaged_should_wakeup() -> bool:
    """What ends the sleep between two passes early."""
    return kthread_should_stop() or system.this.clock_ms >= system.this.khugepaged_thread.sleep_expire


def _wakes() -> bool:
    """The sleep is over: by a wake-up, or because the time comes, which is when the clock moves."""
    machine, thread = current.machine, system.this.khugepaged_thread
    woken = machine.read(thread, KhugepagedThread.woken, ONCE)
    if thread.waits == EVENT and not (woken and khugepaged_wait_event()):
        return False
    if thread.waits == TIMEOUT and not (woken and khugepaged_should_wakeup()):
        system.this.clock_ms = max(system.this.clock_ms, thread.timeout)
    machine.write(thread, KhugepagedThread.waits, "", PLAIN)
    return True


def khugepaged_pass() -> bool:
    """One turn of khugepaged's main loop: it wakes up, makes a pass and goes to sleep again.

    :returns: false when there is no such thread, or it sleeps and nothing wakes it
    :source: mm/khugepaged.c
    """
    machine, thread = current.machine, system.this.khugepaged_thread
    if not thread.running or not _wakes():
        return False
    machine.write(thread, KhugepagedThread.scanning, True, PLAIN)
    khugepaged_do_scan(thread.collapse_control)
    machine.write(thread, KhugepagedThread.scanning, False, PLAIN)
    if kthread_should_stop():
        _khugepaged_ends()
        start_stop_khugepaged()
    else:
        khugepaged_wait_work()
    return True


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
    machine.write(thread, KhugepagedThread.waits, "", PLAIN)
    machine.write(thread, KhugepagedThread.should_stop, False, PLAIN)
    machine.write(thread, KhugepagedThread.running, False, PLAIN)


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
        machine.write(thread, KhugepagedThread.running, True, PLAIN)
        if this.khugepaged_scan.mm_head:
            wake_up_khugepaged()
    elif thread.running:
        machine.write(thread, KhugepagedThread.should_stop, True, PLAIN)
        wake_up_khugepaged()
        if not thread.scanning:
            _khugepaged_ends()
    up_write(this.khugepaged_mutex)
    return ""


def khugepaged_sleep_changed() -> None:
    """One of the two sleeps was written: khugepaged wakes up to read it."""
    current.machine.write(system.this.khugepaged_thread, KhugepagedThread.sleep_expire, 0, PLAIN)
    wake_up_khugepaged()
