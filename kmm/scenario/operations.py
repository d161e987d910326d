"""From a step to the kernel's entry points for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, TypeAlias

import attrs

from kmm.mm.deferred_split import deferred_split_scan
from kmm.mm.dma import dma
from kmm.mm.exit import mmput
from kmm.mm.folio import Folio, Page
from kmm.mm.fork import alloc_pid, dup_mm
from kmm.mm.gup import pin_user_page, unpin_user_page
from kmm.mm.khugepaged.daemon import khugepaged_pass
from kmm.mm.ksm_scan import ksm_do_scan
from kmm.mm.madvise import do_madvise
from kmm.mm.memcontrol import MEMORY_FILES, memory_write
from kmm.mm.memory_failure import Failed, memory_failure
from kmm.mm.migrate_folio import migrate_folio
from kmm.mm.mlock_vma import do_mlock, do_munlock
from kmm.mm.mm_types import VM_EXEC, VM_MERGEABLE, VM_READ, VM_UFFD_MISSING, VM_UFFD_WP, VM_WRITE, MmStruct
from kmm.mm.mmap_region import do_mmap
from kmm.mm.mprotect import do_mprotect
from kmm.mm.mremap import do_mremap
from kmm.mm.munmap import do_munmap
from kmm.mm.pgtable import PtePage
from kmm.mm.prctl import prctl_thp_disable_set
from kmm.mm.pte import non_swap_entry, pte_t
from kmm.mm.secondary_fault import secondary_access
from kmm.mm.split import split_large_folio
from kmm.mm.swap import lru_add_drain, lru_add_drain_all
from kmm.mm.sysfs import SysfsError, sysfs_read, sysfs_write
from kmm.mm.system import System
from kmm.mm.uaccess import user_load, user_store
from kmm.mm.uffd_ioctl import mfill_atomic, mwriteprotect_range, userfaultfd_register, userfaultfd_unregister
from kmm.mm.vmscan import age_folio, swap_out_folio
from kmm.scenario.build import VM_FLAGS
from kmm.scenario.errors import ScenarioError
from kmm.scenario.quiescence import table_of
from kmm.scenario.step import BY_RECLAIM, Step


@attrs.frozen
class Actor:
    """A step and who does it.

    :param number: of the step, from 1
    :param picked: for what looks folios up: those behind its pages when it began, if others run beside it; ``picked_frames``: their frames
    """

    this: System
    mm: MmStruct
    step: Step
    number: int
    picked: tuple[Folio, ...] | None = None
    picked_frames: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """Bytes of a page."""
        return self.this.machine.page_size

    @property
    def first(self) -> int:
        """Index of the first page."""
        return self.step.page or 0

    @property
    def start(self) -> int:
        """Address of the first page."""
        return self.this.base + self.first * self.size

    @property
    def length(self) -> int:
        """Bytes."""
        return self.step.length * self.size

    @property
    def indexes(self) -> range:
        """Of its pages."""
        return range(self.first, self.first + self.step.length)

    def address(self, index: int) -> int:
        """Of a page."""
        return self.this.base + index * self.size

    def entry(self, index: int) -> pte_t:
        """The entry of a page; none where there is no table. Nobody in the model looks: it is no access."""
        number, at = divmod(index, self.this.machine.ptes)
        table = table_of(self.this, self.mm, number)
        return table._entries[at] if isinstance(table, PtePage) else pte_t(0)

    def folio(self, index: int) -> Folio | None:
        """The folio that a page has in memory. Nobody in the model looks."""
        pfn = self.frame(index)
        return None if pfn is None else self.this.mem_map[pfn].folio

    def frame(self, index: int) -> int | None:
        """The frame that a page has in memory, if that belongs to a folio. Nobody in the model looks."""
        first = table_of(self.this, self.mm, index // self.this.machine.ptes)
        if isinstance(first, Page):
            return first.pfn + index % self.this.machine.ptes
        pte = self.entry(index)
        pfn = (pte >> 12) & 0xFFFFFFFFFF
        return pfn if pte & 0x101 and pfn in self.this.mem_map else None

    def frames(self) -> tuple[int, ...]:
        """The frames that the pages have in memory, or those that were picked."""
        if self.picked_frames is not None:
            return self.picked_frames
        return tuple(dict.fromkeys(pfn for pfn in map(self.frame, self.indexes) if pfn is not None))

    def now(self) -> tuple[Folio, ...]:
        """The folios that the pages have in memory, each once, or those that were picked."""
        if self.picked is not None:
            return self.picked
        return tuple({folio.pfn: folio for folio in map(self.folio, self.indexes) if folio is not None}.values())

    def pick(self) -> Actor:
        """Look the folios up before anybody runs: who wants them finds them on the LRU, whatever others do with the tables.

        :raises ScenarioError: the operation makes no sense, or is about folios, and there are none
        """
        large_only = self.step.op == "split"
        folios = tuple([folio for folio in self.now() if folio.order or not large_only])
        if self.step.op in NEEDS:
            NEEDS[self.step.op](self)
        if self.step.op in BY_RECLAIM and not folios:
            problem, remedy = ("there is no large folio", "one maps") if large_only else ("no page is in memory", "are mapped")
            raise ScenarioError(f"{problem} when it begins", f"name pages that {remedy} then")
        return attrs.evolve(self, picked=folios, picked_frames=self.frames())

    def folios(self, what: str) -> Iterator[Folio]:
        """The folios behind the pages, each once, looked up when it is its turn, unless they were picked before.

        :raises ScenarioError: there is none
        """
        done: set[int] = set()
        for folio in map(self.folio, self.indexes) if self.picked is None else self.picked:
            if folio is not None and folio.pfn not in done:
                done.add(folio.pfn)
                yield folio
        if not done:
            raise ScenarioError(f"there is nothing to {what}: no page is in memory", "name pages that are mapped then")

    def cannot(self, problem: str, remedy: str) -> str:
        """A step that cannot happen is a mistake in the scenario; where others run beside it, they have seen to that.

        :raises ScenarioError: nobody runs beside it
        """
        if self.this.machine.scheduler is None:
            raise ScenarioError(problem, remedy)
        return "EAGAIN"


Operation: TypeAlias = Callable[[Actor], str]


def _each(a: Actor, what: Callable[[int], str]) -> str:
    """Do something to each page, up to the first that fails."""
    for index in a.indexes:
        if outcome := what(index):
            return outcome
    return ""


def _khugepaged(_: Actor) -> str:
    return "" if khugepaged_pass() else "asleep"


def _load(a: Actor) -> str:
    return _each(a, lambda index: user_load(a.mm, a.address(index)))


def _store(a: Actor) -> str:
    return _each(a, lambda index: user_store(a.mm, a.address(index), a.number << 40 | index + 1))


def _swapin(a: Actor) -> str:
    for index in a.indexes if a.this.machine.scheduler is None else ():
        pte = a.entry(index)
        if not pte or pte & 0x101 or non_swap_entry(pte):
            raise ScenarioError(f"page {index} is not swapped out", "name pages that are swapped out then")
    return _load(a)


def _vm_flags(words: str, usual: str = "") -> int:
    flags = 0
    for word in (words or usual).split():
        if word not in VM_FLAGS:
            raise ScenarioError(f'"{word}" is not a VMA flag', "use " + ", ".join(VM_FLAGS))
        flags |= VM_FLAGS[word]
    return flags


def _mmap(a: Actor) -> str:
    return do_mmap(a.mm, a.start, a.length, _vm_flags(a.step.value, "read write"))


def _need_flags(a: Actor) -> None:
    _vm_flags(a.step.value)


def _need_mapping(a: Actor) -> None:
    """Where others run beside it the kernel sees for itself."""
    end = a.start + a.length
    if a.this.machine.scheduler is None and not any(vma._vm_start < end and a.start < vma._vm_end for vma in a.mm._vmas):
        raise ScenarioError("nothing is mapped there", "name pages that are mapped then")


def _munmap(a: Actor) -> str:
    _need_mapping(a)
    return do_munmap(a.mm, a.start, a.length)


def _mremap(a: Actor) -> str:
    _need_mapping(a)
    return do_mremap(a.mm, a.start, a.length, a.address(a.step.to or 0))


def _mprotect(a: Actor) -> str:
    access = {"none": 0, "exec": VM_EXEC, "read": VM_READ, "write": VM_WRITE}
    return do_mprotect(a.mm, a.start, a.length, sum(access[word] for word in a.step.value.split()))


def _madvise(a: Actor) -> str:
    return do_madvise(a.mm, a.start, a.length, a.step.value)


def _mlock(a: Actor) -> str:
    return do_mlock(a.mm, a.start, a.length)


def _munlock(a: Actor) -> str:
    return do_munlock(a.mm, a.start, a.length)


def _fork(a: Actor) -> str:
    return dup_mm(a.mm, alloc_pid())


def _exit(a: Actor) -> str:
    mmput(a.mm)
    return ""


def _prctl(a: Actor) -> str:
    prctl_thp_disable_set(a.mm, a.step.value)
    return ""


def _pin(a: Actor) -> str:
    for index in a.indexes:
        if not pin_user_page(a.mm, a.address(index)):
            return a.cannot(f"page {index} is not in memory", "name pages that are mapped then")
    return ""


def _unpin(a: Actor) -> str:
    for index in a.indexes:
        if not unpin_user_page(a.mm, a.address(index)):
            return a.cannot(f"page {index} is not pinned", "pin it before")
    return ""


def _gup(a: Actor, *, slow: bool = True) -> str:
    write = a.step.value == "write"
    return _each(a, lambda index: dma(a.mm, a.address(index), a.number << 40 | index + 1 if write else None, slow=slow))


def _need_secondary(a: Actor) -> None:
    if a.mm.secondary is None:
        raise ScenarioError(f"process {a.step.process} has no secondary MMU", "name one that is there from the start")


def _secondary_fault(a: Actor) -> str:
    _need_secondary(a)
    write = a.step.value == "write"
    return _each(a, lambda index: secondary_access(a.mm, a.address(index), a.number << 40 | index + 1 if write else None))


def _uffd_register(a: Actor) -> str:
    modes = {"missing": VM_UFFD_MISSING, "wp": VM_UFFD_WP}
    return userfaultfd_register(a.mm, a.start, a.length, sum(modes[word] for word in a.step.value.split()))


def _uffd_unregister(a: Actor) -> str:
    return userfaultfd_unregister(a.mm, a.start, a.length)


def _uffd_wp(a: Actor) -> str:
    words = a.step.value.split()
    return mwriteprotect_range(a.mm, a.start, a.length, enable="protect" in words, unpopulated="unpopulated" in words)


def _uffd_copy(a: Actor) -> str:
    contents = None if a.step.value == "zero" else lambda index: a.number << 40 | index + 1
    return mfill_atomic(a.mm, a.start, a.length, contents, wp=a.step.value == "wp")


def _drain_before(a: Actor) -> None:
    """As reclaim does, for its own CPU's batches; where nobody runs beside it for all, so that what was just faulted in is found."""
    if a.this.machine.scheduler is None:
        lru_add_drain_all()
    else:
        lru_add_drain()


def _swapout(a: Actor) -> str:
    _drain_before(a)
    return _first(swap_out_folio(folio, force=True) for folio in a.folios("swap out"))


def _age(a: Actor) -> str:
    return _first(age_folio(folio) for folio in a.folios("age"))


def _migrate(a: Actor) -> str:
    _drain_before(a)
    return _first(migrate_folio(folio) for folio in a.folios("migrate"))


def _split(a: Actor) -> str:
    _drain_before(a)
    picked = a.picked is not None
    if not any(picked or folio.order for folio in a.now()):
        raise ScenarioError("there is no large folio", "name pages that one maps then")
    return _first(split_large_folio(folio) for folio in a.folios("split") if picked or folio.order)


def _first(outcomes: Iterator[str]) -> str:
    """The first failure; all are tried."""
    return next((each for each in list(outcomes) if each), "")


def _need_mergeable(a: Actor) -> None:
    end = a.start + a.length
    if any(vma._vm_start < end and a.start < vma._vm_end and not vma._vm_flags & VM_MERGEABLE for vma in a.mm._vmas):
        raise ScenarioError("KSM may not merge there", "add mergeable to the flags of the VMA, or name other pages")


def _ksm(a: Actor) -> str:
    _need_mergeable(a)
    ksm_do_scan(a.mm, a.start, a.start + a.length, use_zero_pages=a.step.value == "use_zero_pages")
    return ""


def _memory_failure(a: Actor) -> str:
    if not a.frames():
        raise ScenarioError("there is nothing that could fail: no page is in memory", "name pages that are mapped then")
    said = [_failed(memory_failure(pfn, early_kill=a.step.value == "early_kill")) for pfn in a.frames()]
    return "; ".join(dict.fromkeys(said))


def _failed(failed: Failed) -> str:
    who = ", ".join(map(str, failed.signalled))
    if who:
        return f"{failed.result}, SIGBUS to process {who}"
    return f"{failed.result}, SIGBUS at the next access" if failed.waits else failed.result


def _shrink(a: Actor) -> str:
    deferred_split_scan()
    return ""


def _drain(a: Actor) -> str:
    lru_add_drain_all()
    return ""


def _sysfs(a: Actor) -> str:
    return sysfs_write(a.step.name, a.step.value)


def _read(a: Actor) -> str:
    """The text in one line, or the errno."""
    show = MEMORY_FILES.get(a.step.name)
    try:
        text = sysfs_read(a.step.name) if show is None else show(a.mm.memcg)
    except SysfsError as error:
        return str(error)
    return f'"{", ".join(text.splitlines())}"'


def _cgroup(a: Actor) -> str:
    return memory_write(a.mm.memcg, a.step.name, a.step.value)


OPERATIONS: Final[dict[str, Operation]] = {
    "khugepaged": _khugepaged,
    "load": _load,
    "store": _store,
    "swapin": _swapin,
    "mmap": _mmap,
    "munmap": _munmap,
    "mremap": _mremap,
    "mprotect": _mprotect,
    "madvise": _madvise,
    "mlock": _mlock,
    "munlock": _munlock,
    "fork": _fork,
    "exit": _exit,
    "prctl": _prctl,
    "pin": _pin,
    "unpin": _unpin,
    "gup": _gup,
    "gup_fast": partial(_gup, slow=False),
    "uffd_register": _uffd_register,
    "uffd_unregister": _uffd_unregister,
    "uffd_wp": _uffd_wp,
    "uffd_copy": _uffd_copy,
    "secondary_fault": _secondary_fault,
    "swapout": _swapout,
    "age": _age,
    "migrate": _migrate,
    "split": _split,
    "ksm": _ksm,
    "memory_failure": _memory_failure,
    "shrink": _shrink,
    "drain": _drain,
    "sysfs": _sysfs,
    "cgroup": _cgroup,
    "read": _read,
}
"""What does each step; the keys are those of :data:`~kmm.scenario.step.STEP_OPS`."""

NEEDS: Final[dict[str, Callable[[Actor], None]]] = {"ksm": _need_mergeable, "mmap": _need_flags, "secondary_fault": _need_secondary}
"""What would be wrong whenever the operation runs: raises :class:`ScenarioError`."""
