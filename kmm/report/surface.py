"""What an administrator reads before and after a run: sysfs, ``/proc`` and the files of the cgroup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeAlias

from rich.console import Console
from rich.text import Text

from kmm.kernel.machine import Machine
from kmm.kernel.stop import Stop
from kmm.kernel.task import Task
from kmm.mm.geometry import PAGE_SIZE
from kmm.mm.memcontrol import MEMORY_FILES, MemCgroup
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_read_lock, mmap_read_unlock
from kmm.mm.proc import meminfo_proc_show, proc_pid_status
from kmm.mm.smaps import show_smap
from kmm.mm.sysfs import sysfs_files, sysfs_read
from kmm.mm.system import System
from kmm.mm.vmstat import vmstat_show
from kmm.scenario.build import build
from kmm.scenario.run import Run

SYSFS: Final = "/sys/kernel/mm/transparent_hugepage"
CANNOT: Final = "cannot be read"
_ZERO: Final = ("0", "0 kB")

Group: TypeAlias = dict[str, str]
Surface: TypeAlias = dict[str, Group]
"""Title of a directory or file to (file or line to value)."""


def surface(this: System) -> Surface:
    """Everything that can be read of a system, in the order in which it is shown. Changes nothing that a run shows.

    Where a crashed task left a lock held or a table in ruins, the file says :data:`CANNOT`.
    """
    reader = Task("administrator", this.machine.cpus[0], 0, may_block=False)
    with _unnoticed(this.machine), this.running(reader):
        out = {title: _readable(read) for title, read in _files(this)}
        for mm in this.mms:
            if not mm.freed_by and mm.mm_users:
                out |= _process(this, mm)
    return out


@contextmanager
def _unnoticed(machine: Machine) -> Iterator[None]:
    """Whatever is read meanwhile is no part of the run: not of its log, its budget or its reports."""
    reports, budget, recorder = len(machine.reports), machine.budget, machine.recorder
    machine.recorder = None
    try:
        yield
    finally:
        del machine.reports[reports:]
        machine.budget, machine.recorder = budget, recorder


def _files(this: System) -> Iterator[tuple[str, Callable[[], Group]]]:
    yield SYSFS, lambda: {path: sysfs_read(path).rstrip("\n") for path in sysfs_files()}
    yield "/proc/vmstat", lambda: _lines(vmstat_show(), " ")
    yield "/proc/meminfo", lambda: _lines(meminfo_proc_show(), ":")
    memcg = this.mms[0].memcg
    for name, show in MEMORY_FILES.items():
        yield name, partial(_of_cgroup, show, memcg)


def _of_cgroup(show: Callable[[MemCgroup], str], memcg: MemCgroup) -> Group:
    text = show(memcg)
    return _lines(text, " ") if " " in text else {"": text.rstrip("\n")}


def _process(this: System, mm: MmStruct) -> Surface:
    proc = f"/proc/{mm.ident}"
    out = {f"{proc}/status": _readable(lambda: _lines(proc_pid_status(mm), ":"))}
    return out | _readable_maps(this, mm, f"{proc}/smaps")


def _readable_maps(this: System, mm: MmStruct, file: str) -> Surface:
    out: Surface = {}
    try:
        mmap_read_lock(mm)
        for vma in mm.vmas:
            out[f"{file}, {_extent(this, vma)}"] = _lines(show_smap(vma).partition("\n")[2], ":")
        mmap_read_unlock(mm)
    except (Stop, LookupError):
        return {file: {"": CANNOT}}
    return out


def _extent(this: System, vma: VmAreaStruct) -> str:
    first, end = ((address - this.base) // PAGE_SIZE() for address in (vma.vm_start, vma.vm_end))
    return f"pages {first} to {end - 1}"


def _readable(read: Callable[[], Group]) -> Group:
    try:
        return read()
    except (Stop, LookupError):
        return {"": CANNOT}


def _lines(text: str, separator: str) -> Group:
    pairs = (line.partition(separator) for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def print_surface(console: Console, r: Run) -> None:
    """Show what could be read before and after a finished run."""
    start = build(r.scenario, r.world.system.variant)
    before, after = surface(start.system), surface(r.world.system)
    for title in dict.fromkeys((*before, *after)):
        console.print()
        note = "" if title in before and title in after else " (gone)" if title in before else " (new)"
        console.print(Text.assemble((title, "bold"), note))
        for line in group_lines(before.get(title) or after[title], after.get(title) or before[title]):
            console.print(Text(f"  {line}"), soft_wrap=True)


def group_lines(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The values of a group, with the old one where it changed; how many are 0 stands at the end."""
    lines: list[str] = []
    zeros = 0
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name, "0"), after.get(name, "0")
        if old == new and new in _ZERO:
            zeros += 1
        else:
            lines.append(f"{name} {new if old == new else f'{old} -> {new}'}".lstrip())
    return [*lines, f"({zeros} others are 0)"] if zeros else lines
