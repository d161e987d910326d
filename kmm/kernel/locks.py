"""Spinlocks and rw-semaphores, with LOCKDEP inside: order, recursion, imbalance, sleeping where one must not."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.report import kernel_function
from kmm.kernel.stop import Deadlock, WouldBlock
from kmm.kernel.task import Task

RANKS: Final = {
    "khugepaged_mutex": 0,
    "ksm_thread_mutex": 0,
    "mf_mutex": 0,
    "mmap_lock": 1,
    "vma_lock": 2,
    "anon_vma": 3,
    "pmd_lock": 4,
    "pte_lock": 5,
    "khugepaged_mm_lock": 6,
    "split_queue_lock": 7,
    "swap_cache": 8,
    "mmu_lock": 9,
}
"""Lock classes, outermost first: a lock is taken with no lock of a later class held (trylocks excepted)."""


class Lock:
    """What every lock has.

    :param kind: the lock's class, one of :data:`RANKS`
    :param label: tells it from the others of its class; needed where several tasks run
    """

    __slots__ = ("kind", "label", "rank", "readers", "writer")

    spins = False

    def __init__(self, kind: str, label: str = "") -> None:
        self.kind = kind
        self.label = label or kind
        self.rank = RANKS[kind]
        self.writer: Task | None = None
        self.readers: list[Task] = []


class LockdepMap(Lock):
    """``struct lockdep_map``: what LOCKDEP knows of a lock that is made of other things."""

    __slots__ = ()


class SpinLock(Lock):
    """``spinlock_t``: no sleeping while it is held."""

    __slots__ = ()
    spins = True


class RwSem(Lock):
    """``struct rw_semaphore``."""

    __slots__ = ()


def _log(op: str, lock: Lock) -> None:
    current.task.lock_ops.append((op, lock.kind))
    recorder = current.machine.recorder
    if recorder is not None:
        recorder.note(f"{op} {lock.kind}")


def _acquire(lock: Lock, mode: str) -> None:
    task = current.task
    if task.held:
        _check_order(lock)
    scheduler = current.machine.scheduler
    if scheduler is not None:
        scheduler.acquire(lock, mode)
    else:
        if is_busy(lock, mode):
            if not task.may_block:
                raise WouldBlock(f"{lock.kind} is held")
            raise Deadlock(f"DEADLOCK: {kernel_function()} waits for {lock.kind}")
        _take(lock, mode)
    task.held.append((lock, mode))


def _check_order(lock: Lock) -> None:
    """LOCKDEP: ``lock`` may be taken inside what the running task holds."""
    for held, _ in current.task.held:
        if held is lock:
            current.machine.report("LOCKDEP", f"{kernel_function()} takes {lock.kind}, which its task already holds")
        elif held.rank > lock.rank:
            current.machine.report("LOCKDEP", f"{kernel_function()} takes {lock.kind} inside {held.kind}: wrong order")


def is_busy(lock: Lock, mode: str) -> bool:
    """Whether ``lock`` cannot be had now."""
    return lock.writer is not None or (mode == "write" and bool(lock.readers))


def _take(lock: Lock, mode: str) -> None:
    if mode == "write":
        lock.writer = current.task
    else:
        lock.readers.append(current.task)


def _try(lock: Lock, mode: str) -> bool:
    scheduler = current.machine.scheduler
    if scheduler is not None:
        if not scheduler.trylock(lock, mode):
            return False
    elif is_busy(lock, mode):
        return False
    else:
        _take(lock, mode)
    current.task.held.append((lock, mode))
    return True


def _release(lock: Lock, mode: str) -> None:
    if not lockdep_release(lock, mode):
        return
    scheduler = current.machine.scheduler
    if scheduler is not None:
        scheduler.release(lock, mode)
    elif mode == "write":
        lock.writer = None
    else:
        lock.readers.remove(current.task)


def lockdep_acquire(lock: Lock, mode: str, *, trylock: bool = False) -> None:
    """LOCKDEP: the running task takes ``lock``, which is somebody else's to do.

    :param mode: ``read`` or ``write``
    :param trylock: it does not wait, so that the order does not matter
    """
    task = current.task
    if task.held and not trylock:
        _check_order(lock)
    task.held.append((lock, mode))


def lockdep_release(lock: Lock, mode: str) -> bool:
    """LOCKDEP: the running task gives ``lock`` up; false when it does not hold it."""
    held = current.task.held
    for i in range(len(held) - 1, -1, -1):
        if held[i][0] is lock and held[i][1] == mode:
            del held[i]
            return True
    current.machine.report("LOCKDEP", f"{kernel_function()} releases {lock.kind} ({mode}), which its task does not hold")
    return False


def spin_lock(lock: SpinLock) -> None:
    """``spin_lock``.

    :raises Deadlock: when it can never be had
    """
    _acquire(lock, "write")
    _log("spin_lock", lock)


def spin_trylock(lock: SpinLock) -> bool:
    """``spin_trylock``: a failing one is a read of the lock."""
    _log("spin_trylock", lock)
    return _try(lock, "write")


def spin_unlock(lock: SpinLock) -> None:
    """``spin_unlock``."""
    _log("spin_unlock", lock)
    _release(lock, "write")


def down_read(sem: RwSem) -> None:
    """``down_read``."""
    might_sleep()
    _acquire(sem, "read")
    _log("down_read", sem)


def down_read_trylock(sem: RwSem) -> bool:
    """``down_read_trylock``: a failing one is a read of the lock."""
    _log("down_read_trylock", sem)
    return _try(sem, "read")


def up_read(sem: RwSem) -> None:
    """``up_read``."""
    _log("up_read", sem)
    _release(sem, "read")


def down_write(sem: RwSem) -> None:
    """``down_write``."""
    might_sleep()
    _acquire(sem, "write")
    _log("down_write", sem)


def down_write_trylock(sem: RwSem) -> bool:
    """``down_write_trylock``: a failing one is a read of the lock."""
    _log("down_write_trylock", sem)
    return _try(sem, "write")


def up_write(sem: RwSem) -> None:
    """``up_write``."""
    _log("up_write", sem)
    _release(sem, "write")


def downgrade_write(sem: RwSem) -> None:
    """``downgrade_write``: what was held for writing is held for reading, and nobody gets in between."""
    _log("downgrade_write", sem)
    task, scheduler = current.task, current.machine.scheduler
    if (sem, "write") not in task.held:
        current.machine.report("LOCKDEP", f"{kernel_function()} downgrades {sem.kind}, which its task does not hold for writing")
        return
    task.held[task.held.index((sem, "write"))] = (sem, "read")
    if scheduler is not None:
        scheduler.downgrade(sem)
    else:
        sem.writer = None
        sem.readers.append(task)


def might_sleep() -> None:
    """LOCKDEP: no spinlock, RCU read section or disabled interrupt may surround this point."""
    task = current.task
    if task.rcu_depth or task.irqs_off or any(lock.spins for lock, _ in task.held):
        why = "an RCU read section" if task.rcu_depth else "disabled interrupts" if task.irqs_off else "a spinlock"
        current.machine.report("LOCKDEP", f"{kernel_function()} may sleep inside {why}")


def lockdep_assert_held(lock: Lock, mode: str = "any") -> None:
    """LOCKDEP: the running task holds ``lock`` (for ``mode``, or for any)."""
    for held, how in current.task.held:
        if held is lock and mode in ("any", how):
            return
    current.machine.report("LOCKDEP", f"{kernel_function()} runs without {lock.kind} held for {mode}")


def rcu_read_lock() -> None:
    """Enter an RCU read section."""
    task, scheduler = current.task, current.machine.scheduler
    if scheduler is not None and not task.rcu_depth:
        scheduler.rcu_toggled()
    task.rcu_depth += 1


def rcu_read_unlock() -> None:
    """Leave an RCU read section."""
    task = current.task
    if not task.rcu_depth:
        current.machine.report("LOCKDEP", f"{kernel_function()} leaves an RCU read section that it never entered")
        return
    scheduler = current.machine.scheduler
    if scheduler is not None and task.rcu_depth == 1:
        scheduler.rcu_toggled()
    task.rcu_depth -= 1


def at_quiescence(task: Task) -> None:
    """LOCKDEP: a task that returned holds nothing."""
    machine = current.machine
    for lock, mode in task.held:
        machine.report("LOCKDEP", f"{task.name} returns with {lock.kind} held for {mode}")
    if task.rcu_depth:
        machine.report("LOCKDEP", f"{task.name} returns inside an RCU read section")
    if task.irqs_off:
        machine.report("LOCKDEP", f"{task.name} returns with interrupts disabled")
