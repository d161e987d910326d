"""What the model leaves out: one list, for people and for machines."""

from __future__ import annotations

from typing import Final

import attrs

SCHEMA: Final = 1

AREAS: Final = ("concurrency", "drivers", "address space", "pages", "allocation", "swap", "reclaim", "architecture", "observation")


@attrs.frozen(kw_only=True)
class Gap:
    """One thing that a kernel has and the model has not.

    :param key: short name that stays the same
    :param area: one of :data:`AREAS`
    :param kernel: what a kernel does
    :param model: what the model does instead
    :param where: module in which it is left out
    """

    key: str
    area: str
    kernel: str
    model: str
    where: str


BOUNDARY: Final = (
    Gap(
        key="tasks",
        area="concurrency",
        kernel="any number of tasks run at once, and are interrupted anywhere",
        model="the call that is judged and up to six actors, each one operation in a task and on a CPU of its own; without actors, "
        "others act by whole operations, as steps or as events just before a sleeping point, and what would block is refused",
        where="kmm.scenario.concurrent",
    ),
    Gap(
        key="three-tasks",
        area="concurrency",
        kernel="races may need three tasks or more",
        model="the schedules of two tasks are all searched; those of three are drawn, unless one asks for all of them",
        where="kmm.live.given",
    ),
    Gap(
        key="memory-order",
        area="concurrency",
        kernel="stores may become visible late and out of order, and loads may be satisfied early",
        model="beside actors either every store is seen at once, or stores wait in a buffer for each CPU and location; loads are never "
        "moved. Without actors barriers are only logged",
        where="kmm.explore.buffered",
    ),
    Gap(
        key="vma-lock-readers",
        area="concurrency",
        kernel="besides faults, MADV_DONTNEED and MADV_FREE, userfaultfd's ioctls, guard regions and /proc/PID/maps lock only a VMA; "
        "the memory of a freed VMA may be another's at once, and the sequence number may overflow",
        model="userfaultfd takes the mmap lock, and the others are not there; no VMA takes the place of a freed one, and numbers do not "
        "overflow. A fault that begins anew under the mmap lock never counts as tried",
        where="kmm.mm.vma_lock",
    ),
    Gap(
        key="grace-period",
        area="concurrency",
        kernel="RCU callbacks run at any time after the last read section",
        model="so they do beside actors; else a grace period ends right after a step, and after an event if the driver is in no read "
        "section",
        where="kmm.scenario.steps",
    ),
    Gap(
        key="ipi",
        area="concurrency",
        kernel="tlb_remove_table_sync_one waits for CPUs in IRQ-off sections such as GUP-fast",
        model="so it does beside actors, and a flush with tlb = ipi waits, too, for every other CPU, whatever it has loaded; without "
        "actors no CPU is ever in such a section, and a missing call leaves nothing to see",
        where="kmm.kernel.barrier",
    ),
    Gap(
        key="steps",
        area="concurrency",
        kernel="every load and store is one, and freeing a page or looking a swap slot up is many",
        model="accesses of what the collapse path shares are steps; freeing a folio is one, the check of page tables and observation none",
        where="kmm.explore.machine",
    ),
    Gap(
        key="lru-lock",
        area="concurrency",
        kernel="isolating folios takes the lock of their LRU list",
        model="each folio's LRU flag alone says who isolates it",
        where="kmm.mm.swap",
    ),
    Gap(
        key="daemon",
        area="drivers",
        kernel="khugepaged scans files and shared memory too, raises min_free_kbytes, and is frozen and moved among nodes",
        model="anonymous memory only; its thread always starts, and runs when a step says so; jiffies are milliseconds",
        where="kmm.mm.khugepaged.daemon",
    ),
    Gap(
        key="one-table-drivers",
        area="drivers",
        kernel="khugepaged and MADV_COLLAPSE drain the LRU batches of every CPU before they look",
        model="with the drivers khugepaged and madvise one table as the scenario has it, without the drain before the first pass; "
        "with steps as in a kernel",
        where="kmm.scenario.drive",
    ),
    Gap(
        key="file",
        area="drivers",
        kernel="file and shmem mappings collapse too",
        model="anonymous memory only",
        where="kmm.mm.khugepaged.scan",
    ),
    Gap(
        key="vma-neighbours",
        area="address space",
        kernel="VMAs lie beside mappings of files, and an address is chosen for them",
        model="anonymous private VMAs at fixed places; mremap moves, and neither grows nor shrinks",
        where="kmm.mm.vma",
    ),
    Gap(
        key="pmd-pages",
        area="address space",
        kernel="a page of PMD entries has 512 of them, and one list of deposited tables",
        model="one PMD entry a page; its deposited tables are its own",
        where="kmm.mm.pgtable",
    ),
    Gap(
        key="vma-flags",
        area="address space",
        kernel="VMAs have some flags more, of which none matters to the collapse of anonymous memory",
        model="the flags that a scenario may name",
        where="kmm.scenario.model",
    ),
    Gap(
        key="siblings-at-rest",
        area="address space",
        kernel="the other address spaces that map a page run, fork and exit",
        model="with one table they do nothing; with steps they are processes like any other",
        where="kmm.scenario.build",
    ),
    Gap(
        key="exit",
        area="address space",
        kernel="the last user of an address space tears it down",
        model="the exit event only drops the last user; the exit step tears it down",
        where="kmm.mm.one_table",
    ),
    Gap(
        key="fork",
        area="address space",
        kernel="a child's VMA may take over an anon_vma that few use; a failed fork leaves nothing behind; munmap frees PMD pages",
        model="every VMA of a child has an anon_vma of its own; a failed fork uses its number up; PMD pages stay",
        where="kmm.mm.fork",
    ),
    Gap(
        key="mremap-ksm",
        area="address space",
        kernel="mremap unmerges KSM pages first",
        model="it moves them as they are",
        where="kmm.mm.mremap",
    ),
    Gap(
        key="mlock",
        area="address space",
        kernel="mlock is limited by RLIMIT_MEMLOCK",
        model="it is not",
        where="kmm.mm.mlock_vma",
    ),
    Gap(
        key="faults",
        area="address space",
        kernel="stacks grow, GUP unshares, userfaultfd answers, NUMA hints move pages, page-table memory runs out",
        model="none of it: a fault that asks userfaultfd is not served, the huge zero page is always there, and defrag of faults "
        "changes nothing",
        where="kmm.mm.fault",
    ),
    Gap(
        key="userfaultfd",
        area="address space",
        kernel="a monitor hears of faults and answers them, moves pages, poisons them, and is told of forks and moves",
        model="it registers, write-protects and fills holes when the scenario says so; nobody waits for it or wakes, and a fork or a move "
        "tells it nothing",
        where="kmm.mm.uffd_ioctl",
    ),
    Gap(
        key="ksm",
        area="pages",
        kernel="ksmd scans by checksum, with stable and unstable trees for each node, and lists of who maps a page",
        model="each look is the second one; pages of two processes merge only with a page that is merged already; the reverse map asks "
        "every VMA; there is no limit on sharing, and no madvise that ends it",
        where="kmm.mm.ksm_scan",
    ),
    Gap(
        key="lazyfree",
        area="pages",
        kernel="reclaim under memory pressure drops lazyfree pages that were not written again",
        model="it does when a step asks for it",
        where="kmm.mm.vmscan",
    ),
    Gap(
        key="device-memory",
        area="pages",
        kernel="devices migrate pages to their memory and back",
        model="small pages in device memory as they are; a fault on one that only the device reaches moves it to memory at once",
        where="kmm.mm.migrate",
    ),
    Gap(
        key="prot-none",
        area="pages",
        kernel="x86-64 stores the frame number of an entry without access inverted",
        model="it is stored plainly",
        where="kmm.mm.pte",
    ),
    Gap(
        key="contents",
        area="pages",
        kernel="a page holds bytes",
        model="a page holds one token; equal tokens are equal bytes, and 0 is zeros",
        where="kmm.mm.folio",
    ),
    Gap(
        key="memory-failure",
        area="pages",
        kernel="errors are found by accesses and by scrubbing, pages are taken offline softly, and poison can be taken back",
        model="only errors that nobody met by an access; the poison is there from the mark on, and devices do not meet it. What a collapse "
        "queues is not worked off",
        where="kmm.mm.memory_failure",
    ),
    Gap(
        key="idle",
        area="pages",
        kernel="idle page tracking keeps a young bit of its own",
        model="it is not built in",
        where="kmm.mm.folio",
    ),
    Gap(
        key="buddy",
        area="allocation",
        kernel="allocation compacts, reclaims, honours the node mask and the cpuset, and may fail",
        model="it takes the preferred node, and fails exactly where the scenario injects a failure",
        where="kmm.mm.page_alloc",
    ),
    Gap(
        key="numa",
        area="allocation",
        kernel="firmware tells how far nodes are from each other, and which are online",
        model="four nodes, all online: 0 and 1 are near each other, as are 2 and 3; the others are farther than the reclaim distance",
        where="kmm.mm.geometry",
    ),
    Gap(
        key="memcg-reclaim",
        area="allocation",
        kernel="a charge above the limit reclaims first, and kills, along a hierarchy of cgroups",
        model="one cgroup; a charge above its limit is refused at once, and setting the limit below the charge does nothing",
        where="kmm.mm.memcontrol",
    ),
    Gap(
        key="swap-device",
        area="swap",
        kernel="several devices that fill up, with read-ahead, writeback and zswap",
        model="one synchronous device that is never full; slot numbers are not used again; errors and lock contention are injected",
        where="kmm.mm.swap_alloc",
    ),
    Gap(
        key="reuse",
        area="swap",
        kernel="frames and swap slots are used again, and a stale reference then names something else",
        model="neither is used again, so that a stale reference is found wherever it is used",
        where="kmm.mm.page_alloc",
    ),
    Gap(
        key="large-swapcache",
        area="swap",
        kernel="large folios may be in the swap cache at any time",
        model="they come there by being swapped out; no letter says so",
        where="kmm.scenario.page",
    ),
    Gap(
        key="lru",
        area="reclaim",
        kernel="active, inactive and generational lists, demotion, deferred TLB flushes",
        model="one evictable and one unevictable list, batches of two CPUs; reclaim takes the folios that a step names, and flushes "
        "at once",
        where="kmm.mm.vmscan",
    ),
    Gap(
        key="split",
        area="reclaim",
        kernel="a folio is split to any order, and poisoned and device pages are met",
        model="to single pages; the shrinker looks at the whole queue when a step asks for it",
        where="kmm.mm.split",
    ),
    Gap(
        key="migration",
        area="reclaim",
        kernel="compaction and NUMA balancing migrate pages in batches, with retries, and of devices and KSM as well",
        model="one folio at a time, as light compaction does: locks are only tried, and nothing is tried again. A migration that the "
        "scenario begins with gives up for whoever waits (or, injected, begins anew). An anon_vma is never freed, so that nobody needs "
        "a reference to it",
        where="kmm.mm.migrate_folio",
    ),
    Gap(
        key="architecture",
        area="architecture",
        kernel="many architectures",
        model="x86-64, and one whose cache hook walks the live tables; entries have the bits of x86-64 at every page size",
        where="kmm.mm.pte",
    ),
    Gap(
        key="upper-levels",
        area="architecture",
        kernel="four or five levels of tables",
        model="a PMD page is there or absent; nothing stands above it",
        where="kmm.mm.pgtable",
    ),
    Gap(
        key="secondary-mmu",
        area="observation",
        kernel="devices and guests translate through MMUs of their own",
        model="a guest's MMU follows a process that is there from the start, page by page: it maps for reading what is read, has one lock "
        "for everything, and does not look for stale faults before it takes it; there is no other kind of user",
        where="kmm.mm.secondary_fault",
    ),
    Gap(
        key="user-accesses",
        area="observation",
        kernel="threads read and write while the collapse goes on",
        model="loads and stores of whole pages, each one instruction, as steps or actors; every process's memory is read at the end",
        where="kmm.mm.uaccess",
    ),
    Gap(
        key="surface",
        area="observation",
        kernel="shmem files, order-1 sizes, VMA flags for mremap and stack bounds, upper page tables in VmPTE",
        model="left out; the collapse_* statistics exist for every variant, and a write is one piece",
        where="kmm.mm.sysfs",
    ),
    Gap(
        key="base-trace",
        area="observation",
        kernel="the trace events of 6.18 have no order; with smaller orders enabled its khugepaged goes on at PMD order",
        model="the base gives PMD order, so that the events can be compared, and does not apply where khugepaged may use a smaller one",
        where="refactors.base",
    ),
    Gap(
        key="private-locals",
        area="observation",
        kernel="speed, stack use and code size differ between versions",
        model="none of them is observed, nor are time, lock hold times and the order of lock operations",
        where="kmm.judge.observe",
    ),
)
"""Sorted by area, in the order of :data:`AREAS`."""
