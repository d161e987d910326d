"""The text of ``/proc/PID/smaps`` and ``smaps_rollup`` (fs/proc/task_mmu.c)."""

from __future__ import annotations

from typing import Final

from kmm.mm.geometry import PAGE_SIZE, THP_ORDERS_ALL_ANON
from kmm.mm.huge_memory import TVA_SMAPS, thp_vma_allowable_orders
from kmm.mm.mm_types import VM_EXEC, VM_READ, VM_WRITE, MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_read_lock, mmap_read_unlock
from kmm.mm.task_mmu import PSS_SHIFT, MemSizeStats, gathered, new_stats, smap_gather_stats

_PROPORTIONAL: Final = frozenset({"Pss", "Pss_Dirty", "Pss_Anon", "SwapPss", "Locked"})
_FILE_SUMS: Final = ("Pss_File", "Pss_Shmem", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb")

_VMA_LINES: Final = (
    "Rss",
    "Pss",
    "Pss_Dirty",
    "Shared_Clean",
    "Shared_Dirty",
    "Private_Clean",
    "Private_Dirty",
    "Referenced",
    "Anonymous",
    "KSM",
    "LazyFree",
    "AnonHugePages",
    "ShmemPmdMapped",
    "FilePmdMapped",
    "Shared_Hugetlb",
    "Private_Hugetlb",
    "Swap",
    "SwapPss",
    "Locked",
)
_ROLLUP_LINES: Final = (*_VMA_LINES[:3], "Pss_Anon", "Pss_File", "Pss_Shmem", *_VMA_LINES[3:])
_ROLLUP_COLUMN: Final = 73

VM_FLAG_NAMES: Final = {
    0: "rd",
    1: "wr",
    2: "ex",
    8: "gd",
    9: "um",
    10: "pf",
    12: "uw",
    13: "lo",
    14: "io",
    15: "sr",
    16: "rr",
    17: "dc",
    18: "de",
    19: "lf",
    22: "ht",
    26: "dd",
    28: "mm",
    29: "hg",
    30: "nh",
    31: "mg",
    40: "dp",
}
"""The names of the bits of ``vm_flags`` that the model has."""


def kilobytes(label: str, size: int) -> str:
    """One line with a size in kB.

    :param size: bytes
    """
    return f"{label + ':':<16}{size >> 10:>8} kB\n"


def __show_smap(mss: MemSizeStats, names: tuple[str, ...] = _VMA_LINES) -> str:
    """The lines with sums. There are neither files nor shared memory: those sums are 0."""
    shifted = {name: value >> PSS_SHIFT if name in _PROPORTIONAL else value for name, value in mss.items()}
    return "".join(kilobytes(name, 0 if name in _FILE_SUMS else shifted[name]) for name in names)


def show_smap_vma_flags(vma: VmAreaStruct) -> str:
    """The line with the flags. Which accesses may ever be allowed, accounting and soft-dirty are no bits of the model's."""
    flags = vma.vm_flags
    return "VmFlags: " + "".join(f"{name} " for bit, name in VM_FLAG_NAMES.items() if flags & 1 << bit) + "\n"


def thp_eligible(vma: VmAreaStruct) -> bool:
    """A huge page of some size may be mapped in the VMA."""
    return bool(thp_vma_allowable_orders(vma, vma.vm_flags, TVA_SMAPS, THP_ORDERS_ALL_ANON()))


def show_map_vma(vma: VmAreaStruct) -> str:
    """The line with the extent of a VMA."""
    flags = vma.vm_flags
    access = "".join(letter if flags & bit else "-" for bit, letter in ((VM_READ, "r"), (VM_WRITE, "w"), (VM_EXEC, "x")))
    return f"{_extent(vma.vm_start, vma.vm_end)} {access}p 00000000 00:00 0 \n"


def _extent(start: int, end: int) -> str:
    return f"{start:08x}-{end:08x}"


def show_smap(vma: VmAreaStruct) -> str:
    """What ``smaps`` says of one VMA. The mmap lock is held."""
    mss = new_stats()
    smap_gather_stats(vma, mss)
    sizes = {"Size": vma.vm_end - vma.vm_start, "KernelPageSize": PAGE_SIZE(), "MMUPageSize": PAGE_SIZE()}
    head = "".join(kilobytes(label, size) for label, size in sizes.items())
    return show_map_vma(vma) + head + __show_smap(mss) + f"THPeligible:    {thp_eligible(vma):>8d}\n" + show_smap_vma_flags(vma)


def show_smaps(mm: MmStruct) -> str:
    """``/proc/PID/smaps``: every VMA. Takes the mmap lock."""
    mmap_read_lock(mm)
    text = "".join(show_smap(vma) for vma in mm.vmas)
    mmap_read_unlock(mm)
    return text


def show_smaps_rollup(mm: MmStruct) -> str:
    """``/proc/PID/smaps_rollup``: the sums over all VMAs. Takes the mmap lock."""
    mmap_read_lock(mm)
    vmas = mm.vmas
    start, end = (vmas[0].vm_start, vmas[-1].vm_end) if vmas else (0, 0)
    text = __show_smap(gathered(mm), _ROLLUP_LINES)
    mmap_read_unlock(mm)
    return f"{_extent(start, end)} ---p 00000000 00:00 0 ".ljust(_ROLLUP_COLUMN) + "[rollup]\n" + text
