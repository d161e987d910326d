"""``struct mm_struct``, ``struct vm_area_struct``, ``struct anon_vma`` (include/linux/mm_types.h, rmap.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kmm.kernel.access import Field, Shared
from kmm.kernel.locks import LockdepMap, RwSem, SpinLock
from kmm.mm.pte import pgprot_t, vm_get_page_prot

if TYPE_CHECKING:
    from kmm.mm.memcontrol import MemCgroup
    from kmm.mm.pgtable import PmdPage
    from kmm.mm.secondary_mmu import SecondaryMmu

VM_READ: Final = 1 << 0
VM_WRITE: Final = 1 << 1
VM_EXEC: Final = 1 << 2
VM_GROWSDOWN: Final = 1 << 8
VM_UFFD_MISSING: Final = 1 << 9
VM_PFNMAP: Final = 1 << 10
VM_UFFD_WP: Final = 1 << 12
VM_LOCKED: Final = 1 << 13
VM_IO: Final = 1 << 14
VM_SEQ_READ: Final = 1 << 15
VM_RAND_READ: Final = 1 << 16
VM_DONTCOPY: Final = 1 << 17
VM_DONTEXPAND: Final = 1 << 18
VM_LOCKONFAULT: Final = 1 << 19
VM_HUGETLB: Final = 1 << 22
VM_DONTDUMP: Final = 1 << 26
VM_MIXEDMAP: Final = 1 << 28
VM_HUGEPAGE: Final = 1 << 29
VM_NOHUGEPAGE: Final = 1 << 30
VM_MERGEABLE: Final = 1 << 31
VM_DROPPABLE: Final = 1 << 40
VM_STACK_INCOMPLETE_SETUP: Final = VM_RAND_READ | VM_SEQ_READ
VM_SPECIAL: Final = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP
VM_NO_KHUGEPAGED: Final = VM_SPECIAL | VM_HUGETLB

MMF_VM_HUGEPAGE: Final = 1 << 0
MMF_DISABLE_THP_COMPLETELY: Final = 1 << 1
MMF_DISABLE_THP_EXCEPT_ADVISED: Final = 1 << 2

MM_ANONPAGES: Final = 0
MM_SWAPENTS: Final = 1


class AnonVma(Shared):
    """``struct anon_vma``; the lock is the root's.

    :param root: ``None`` for a root
    :param parent: the one that a fork copied it from; without it, the root

    ``rb_root``, of a root, has the VMAs that it and the forks of it know, under the lock.
    """

    __slots__ = ("_rb_root", "label", "parent", "root", "rwsem")

    rb_root: Field[tuple[VmAreaStruct, ...]] = Field()

    def __init__(self, label: str, root: AnonVma | None = None, parent: AnonVma | None = None) -> None:
        self.freed_by = ""
        self.label = label
        self.root: AnonVma = self if root is None else root
        self.parent: AnonVma = self.root if parent is None else parent
        self._rb_root: tuple[VmAreaStruct, ...] = ()
        self.rwsem: RwSem = RwSem("anon_vma", f"lock of {label}") if root is None else root.rwsem

    @property
    def name(self) -> str:
        """The label."""
        return self.label


class VmAreaStruct(Shared):
    """``struct vm_area_struct``: an anonymous mapping.

    :param vm_start: first byte
    :param vm_end: one behind the last byte
    :param vm_pgoff: page index of the first byte, as the reverse mapping knows it; a mapping that moves keeps it

    ``vm_lock_seq`` and ``vm_refcnt`` are its lock, see :mod:`kmm.mm.vma_lock`. It is made detached.
    """

    __slots__ = (
        "_anon_vma",
        "_vm_end",
        "_vm_flags",
        "_vm_lock_seq",
        "_vm_mm",
        "_vm_page_prot",
        "_vm_pgoff",
        "_vm_refcnt",
        "_vm_start",
        "vmlock_dep_map",
    )

    anon_vma: Field[AnonVma | None] = Field()
    vm_end: Field[int] = Field()
    vm_flags: Field[int] = Field()
    vm_lock_seq: Field[int] = Field()
    vm_mm: Field[MmStruct] = Field()
    vm_page_prot: Field[pgprot_t] = Field()
    vm_pgoff: Field[int] = Field()
    vm_refcnt: Field[int] = Field()
    vm_start: Field[int] = Field()

    def __init__(self, mm: MmStruct, vm_start: int, vm_end: int, vm_flags: int, anon_vma: AnonVma | None, vm_pgoff: int) -> None:
        self.freed_by = ""
        self._vm_mm = mm
        self._vm_start = vm_start
        self._vm_end = vm_end
        self._vm_flags = vm_flags
        accessible = bool(vm_flags & (VM_READ | VM_WRITE | VM_EXEC))
        self._vm_page_prot = vm_get_page_prot(accessible=accessible, executable=bool(vm_flags & VM_EXEC))
        self._anon_vma = anon_vma
        self._vm_pgoff = vm_pgoff
        self._vm_lock_seq = -1
        self._vm_refcnt = 0
        self.vmlock_dep_map = LockdepMap("vma_lock")

    @property
    def name(self) -> str:
        """By its start, and by its address space unless that is the first one's."""
        ident = self._vm_mm.ident
        return f"vma@{self._vm_start:#x}" + (f" of mm{ident}" if ident > 1 else "")


class MmStruct(Shared):
    """``struct mm_struct``. Its users together hold one reference of ``mm_count``.

    :param ident: number of the address space, from 1; the owner's is 1

    ``has_notifiers``: a secondary MMU is registered, which it is before any task runs; ``secondary_young``: the pages that it has accessed;
    ``secondary``: its own tables, if it translates anything.
    """

    __slots__ = (
        "_flags",
        "_ksm_zero_pages",
        "_mm_count",
        "_mm_lock_seq",
        "_mm_users",
        "_pgtables_bytes",
        "_pmds",
        "_rss_stat",
        "_secondary_young",
        "_tlb_flush_pending",
        "_vmas",
        "_write_protect_seq",
        "has_notifiers",
        "ident",
        "memcg",
        "mmap_lock",
        "page_table_lock",
        "secondary",
    )

    flags: Field[int] = Field()
    ksm_zero_pages: Field[int] = Field()
    mm_count: Field[int] = Field()
    mm_lock_seq: Field[int] = Field()
    mm_users: Field[int] = Field()
    pgtables_bytes: Field[int] = Field()
    pmds: Field[list[PmdPage | None]] = Field()
    rss_stat: Field[list[int]] = Field()
    secondary_young: Field[frozenset[int]] = Field()
    tlb_flush_pending: Field[int] = Field()
    vmas: Field[tuple[VmAreaStruct, ...]] = Field()
    write_protect_seq: Field[int] = Field()

    def __init__(self, ident: int, memcg: MemCgroup) -> None:
        self.freed_by = ""
        self.ident = ident
        self.memcg = memcg
        self.mmap_lock = RwSem("mmap_lock", f"mmap_lock of mm{ident}")
        self.page_table_lock = SpinLock("pmd_lock", f"page_table_lock of mm{ident}")
        self.has_notifiers = False
        self.secondary: SecondaryMmu | None = None
        self._flags = 0
        self._ksm_zero_pages = 0
        self._mm_count = 1
        self._mm_lock_seq = 0
        self._mm_users = 1
        self._pgtables_bytes = 0
        self._pmds: list[PmdPage | None] = [None]
        self._rss_stat = [0, 0]
        self._secondary_young: frozenset[int] = frozenset()
        self._tlb_flush_pending = 0
        self._vmas: tuple[VmAreaStruct, ...] = ()
        self._write_protect_seq = 0

    @property
    def name(self) -> str:
        """By its number."""
        return f"mm{self.ident}"
