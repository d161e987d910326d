"""``/proc/PID/status`` and ``/proc/meminfo``, as far as the model knows them (fs/proc/array.c, task_mmu.c, meminfo.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm import system
from kmm.mm.geometry import HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.mm_types import MM_ANONPAGES, MM_SWAPENTS, MMF_DISABLE_THP_COMPLETELY, VM_LOCKED, VM_SPECIAL, MmStruct
from kmm.mm.smaps import kilobytes
from kmm.mm.vmstat import nr_page_table_pages, nr_swapcached


def get_mm_counter(mm: MmStruct, member: int) -> int:
    """Pages of a counter of the address space."""
    return current.machine.read_item(mm, MmStruct.rss_stat, member, ONCE)


def proc_pid_status(mm: MmStruct) -> str:
    """The lines of ``/proc/PID/status`` that are about memory. Page tables are those of the last level only."""
    anon, swap = (get_mm_counter(mm, member) * PAGE_SIZE() for member in (MM_ANONPAGES, MM_SWAPENTS))
    sizes = {
        "VmSize": sum(vma.vm_end - vma.vm_start for vma in mm.vmas),
        "VmLck": sum(vma.vm_end - vma.vm_start for vma in mm.vmas if vma.vm_flags & (VM_LOCKED | VM_SPECIAL) == VM_LOCKED),
        "VmRSS": anon,
        "RssAnon": anon,
        "VmPTE": mm.pgtables_bytes,
        "VmSwap": swap,
    }
    lines = "".join(f"{label}:\t{size >> 10:>8} kB\n" for label, size in sizes.items())
    return lines + f"THP_enabled:\t{task_thp_status(mm):d}\n"


def task_thp_status(mm: MmStruct) -> bool:
    """The process may have huge pages: PR_SET_THP_DISABLE did not forbid all of them."""
    return not current.machine.read(mm, MmStruct.flags, ONCE) & MMF_DISABLE_THP_COMPLETELY


def meminfo_proc_show() -> str:
    """The lines of ``/proc/meminfo`` that the model knows, in the kernel's order."""
    stat = system.this.node_stat
    sizes = {
        "SwapCached": nr_swapcached() * PAGE_SIZE(),
        "Mlocked": stat.get("nr_mlock", 0) * PAGE_SIZE(),
        "AnonPages": stat.get("nr_anon_mapped", 0) * PAGE_SIZE(),
        "PageTables": nr_page_table_pages() * PAGE_SIZE(),
        "AnonHugePages": stat.get("nr_anon_thps", 0) * HPAGE_PMD_SIZE(),
    }
    return "".join(kilobytes(label, size) for label, size in sizes.items())
