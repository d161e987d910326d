"""A /proc and /sys tree with known contents."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PID: Final = 42
BASE: Final = 0x10000000
"""Where the anonymous memory of the tests starts; a multiple of 2 MiB."""

RANGE: Final = 2 << 20

PRESENT: Final = 1 << 63
SWAP: Final = 1 << 62
FILE: Final = 1 << 61
GUARD: Final = 1 << 58
UFFD_WP: Final = 1 << 57
ONCE: Final = 1 << 56
SOFT_DIRTY: Final = 1 << 55

LOCKED: Final = 1 << 0
REFERENCED: Final = 1 << 2
LRU: Final = 1 << 5
ANON: Final = 1 << 12
SWAPCACHE: Final = 1 << 13
SWAPBACKED: Final = 1 << 14
HEAD: Final = 1 << 15
TAIL: Final = 1 << 16
UNEVICTABLE: Final = 1 << 18
HWPOISON: Final = 1 << 19
KSM: Final = 1 << 21
THP: Final = 1 << 22
ZERO_PAGE: Final = 1 << 24
MLOCKED: Final = 1 << 33
PLAIN: Final = ANON | SWAPBACKED | LRU
"""The flags of an ordinary anonymous page."""


class FakeProc:
    """One process, no VMA at first."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.process = root / "proc" / str(PID)
        self.process.mkdir(parents=True)
        (root / "proc" / "version").write_text("Linux\n")
        for name in ("maps", "smaps", "pagemap"):
            (self.process / name).touch()

    def privileged(self) -> None:
        """Let the reader see frames."""
        for name in ("kpageflags", "kpagecount"):
            (self.root / "proc" / name).touch()

    def vma(
        self,
        start: int,
        end: int,
        *,
        perms: str = "rw-p",
        inode: int = 0,
        name: str = "",
        flags: str = "rd wr mr mw me ac sd",
        kb: Mapping[str, int] | None = None,
        vanishes: bool = False,
    ) -> None:
        """Add a VMA; one that vanishes is gone when the reader looks again."""
        header = f"{start:08x}-{end:08x} {perms} 00000000 00:00 {inode:<22} {name}".rstrip() + "\n"
        counters = "".join(f"{key}:{value:15} kB\n" for key, value in ({"Anonymous": 4} | dict(kb or {})).items())
        with (self.process / "smaps").open("a") as out:
            out.write(f"{header}Size:  {(end - start) // 1024} kB\n{counters}THPeligible:    0\nVmFlags: {flags} \n")
        if not vanishes:
            with (self.process / "maps").open("a") as out:
                out.write(header)

    def page(self, address: int, word: int, *, pfn: int = 0, flags: int | None = None, mapcount: int = 1) -> None:
        """Set a pagemap word, and what is known of the frame."""
        _put(self.process / "pagemap", address // 4096, word | pfn)
        if flags is not None:
            self.frame(pfn, flags, mapcount)

    def frame(self, pfn: int, flags: int, mapcount: int = 1) -> None:
        """Set the flags and the map count of a frame."""
        _put(self.root / "proc" / "kpageflags", pfn, flags)
        _put(self.root / "proc" / "kpagecount", pfn, mapcount)

    def folio(self, address: int, order: int, *, pfn: int, flags: int = PLAIN, pages: range | None = None, mapcount: int = 1) -> None:
        """Map a large folio, or some ``pages`` of it, so that page 0 is or would be at ``address``."""
        for i in range(1 << order):
            self.frame(pfn + i, flags | THP | (TAIL if i else HEAD), mapcount)
        for i in pages if pages is not None else range(1 << order):
            self.page(address + i * 4096, PRESENT | SOFT_DIRTY | ONCE, pfn=pfn + i)

    def status(self, text: str) -> None:
        """Write the process's status."""
        (self.process / "status").write_text(text)

    def cgroup(self, path: str, *, limit: str, usage: int) -> None:
        """Put the process into a cgroup, unless it is in one, and give that cgroup a limit and a charge, in bytes."""
        if not (self.process / "cgroup").exists():
            (self.process / "cgroup").write_text(f"0::{path}\n")
        top = self.root / "sys/fs/cgroup"
        group = top / path.lstrip("/")
        group.mkdir(parents=True, exist_ok=True)
        (top / "cgroup.controllers").write_text("memory\n")
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{usage}\n")

    def sysctl(self, name: str, value: str) -> None:
        """Write a file under /proc/sys/vm."""
        path = self.root / "proc/sys/vm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")

    def setting(self, name: str, value: str) -> None:
        """Write a file under transparent_hugepage."""
        path = self.root / "sys/kernel/mm/transparent_hugepage" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")


def _put(path: Path, index: int, word: int) -> None:
    with path.open("r+b") as out:
        out.seek(index * 8)
        out.write(struct.pack("=Q", word))
