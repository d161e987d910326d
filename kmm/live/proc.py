"""Raw readers for what /proc shows of a process: smaps, maps, pagemap, kpageflags, kpagecount."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs

from kmm.live.errors import CaptureError
from kmm.live.scan import scan

PAGE: Final = 4096
"""Bytes; other kernels are refused."""

PFN_MASK: Final = (1 << 55) - 1
SOFT_DIRTY: Final = 1 << 55
MAPPED_ONCE: Final = 1 << 56
UFFD_WP: Final = 1 << 57
GUARD: Final = 1 << 58
FILE: Final = 1 << 61
SWAPPED: Final = 1 << 62
PRESENT: Final = 1 << 63

SWAP_TYPE: Final = (1 << 5) - 1
SWAP_OFFSET: Final = 5
FIRST_SPECIAL_TYPE: Final = 23
"""Type and offset of a ``SWAPPED`` entry; from that type on it may be something else than a swap area, depending on the kernel."""

KPF_LOCKED: Final = 1 << 0
KPF_REFERENCED: Final = 1 << 2
KPF_LRU: Final = 1 << 5
KPF_ANON: Final = 1 << 12
KPF_SWAPCACHE: Final = 1 << 13
KPF_SWAPBACKED: Final = 1 << 14
KPF_HEAD: Final = 1 << 15
KPF_TAIL: Final = 1 << 16
KPF_UNEVICTABLE: Final = 1 << 18
KPF_HWPOISON: Final = 1 << 19
KPF_KSM: Final = 1 << 21
KPF_THP: Final = 1 << 22
KPF_ZERO_PAGE: Final = 1 << 24
KPF_MLOCKED: Final = 1 << 33

_HEADER: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ (\d+) *(.*)")


@attrs.frozen(kw_only=True)
class Mapping:
    """One VMA as smaps shows it.

    :param start: first address
    :param end: first address behind
    :param perms: four letters, as ``rw-p``
    :param inode: 0 without a file
    :param name: path, or a name in brackets; may be empty
    :param flags: the two-letter names of ``VmFlags``
    :param kb: the counters, in KiB
    """

    start: int
    end: int
    perms: str
    inode: int
    name: str
    flags: frozenset[str] = frozenset()
    kb: dict[str, int] = attrs.field(factory=dict)

    @property
    def place(self) -> tuple[int, int, str, int]:
        """What stays the same as long as it is the same mapping."""
        return self.start, self.end, self.perms, self.inode


def parse_mappings(text: str) -> Iterator[Mapping]:
    """The VMAs in the text of ``smaps``, or of ``maps`` (then without flags and counters)."""
    header: re.Match[str] | None = None
    flags: frozenset[str] = frozenset()
    kb: dict[str, int] = {}
    for line in text.splitlines():
        found = _HEADER.match(line)
        if found is None:
            key, _, value = line.partition(":")
            if key == "VmFlags":
                flags = frozenset(value.split())
            elif value.endswith(" kB"):
                kb[key] = int(value[:-3])
            continue
        if header is not None:
            yield _mapping(header, flags, kb)
        header, flags, kb = found, frozenset(), {}
    if header is not None:
        yield _mapping(header, flags, kb)


def _mapping(header: re.Match[str], flags: frozenset[str], kb: dict[str, int]) -> Mapping:
    start, end, perms, inode, name = header.groups()
    return Mapping(start=int(start, 16), end=int(end, 16), perms=perms, inode=int(inode), name=name, flags=flags, kb=kb)


def no_memory(pid: int) -> CaptureError:
    """The error for a process without an address space."""
    return CaptureError(f"process {pid} has no memory (it has ended, or is a kernel thread)", "give the pid of a running process")


def _words(fd: int, first: int, count: int) -> array[int]:
    """``count`` 64-bit words from word ``first`` on; fewer where the file ends."""
    data = b""
    while len(data) < count * 8:
        more = os.pread(fd, count * 8 - len(data), first * 8 + len(data))
        if not more:
            break
        data += more
    return array("Q", data[: len(data) - len(data) % 8])


class Frames:
    """What the kernel shows of page frames to a privileged reader."""

    def __init__(self, flags_fd: int, count_fd: int) -> None:
        self._flags_fd = flags_fd
        self._count_fd = count_fd

    def flags(self, pfn: int, count: int) -> array[int]:
        """``/proc/kpageflags`` of ``count`` frames."""
        return _words(self._flags_fd, pfn, count)

    def mapcounts(self, pfn: int, count: int) -> array[int]:
        """``/proc/kpagecount`` of ``count`` frames: how often each is mapped."""
        return _words(self._count_fd, pfn, count)


class Process:
    """The files of one live process, open for reading; a context manager.

    :param pid: process id
    :param root: where ``proc`` is
    :raises CaptureError: no such process, no permission, no /proc
    """

    def __init__(self, pid: int, root: Path = Path("/")) -> None:
        self.pid = pid
        self.frames: Frames | None = None
        self._proc = root / "proc"
        self._files = contextlib.ExitStack()
        if not (self._proc / "self").exists() and not (self._proc / "version").exists():
            raise CaptureError(f"{self._proc} is not mounted", "run on Linux with /proc")
        with self._guarded():
            self._pagemap = self._open(f"{pid}/pagemap")
        with contextlib.suppress(OSError):
            self.frames = Frames(self._open("kpageflags"), self._open("kpagecount"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._files.close()

    def smaps(self) -> list[Mapping]:
        """Every VMA, with flags and counters, in address order."""
        return self._mappings("smaps")

    def maps(self) -> list[Mapping]:
        """Every VMA, in address order."""
        return self._mappings("maps")

    def pagemap(self, address: int, pages: int) -> array[int]:
        """The pagemap words of ``pages`` pages from ``address`` on; pages that are gone read as 0."""
        with self._guarded():
            words = _words(self._pagemap, address // PAGE, pages)
        words.extend([0] * (pages - len(words)))
        return words

    def marks(self, address: int, pages: int) -> bytes | None:
        """What :func:`kmm.live.scan.scan` tells of ``pages`` pages from ``address`` on."""
        return scan(self._pagemap, address, pages, PAGE)

    def _mappings(self, name: str) -> list[Mapping]:
        with self._guarded():
            text = (self._proc / str(self.pid) / name).read_text(encoding="utf-8", errors="backslashreplace")
        return list(parse_mappings(text))

    def _open(self, name: str) -> int:
        fd = os.open(self._proc / name, os.O_RDONLY | os.O_CLOEXEC)
        self._files.callback(os.close, fd)
        return fd

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise CaptureError(f"there is no process {self.pid}", "give the pid of a running process") from error
        except ProcessLookupError as error:
            raise no_memory(self.pid) from error
        except PermissionError as error:
            raise CaptureError(f"the memory of process {self.pid} may not be read", "run as its user, or as root") from error
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO)
            raise CaptureError(f"process {self.pid} could not be read ({reason})", "try again, or give another pid") from error
