"""Probes of what ``kmm capture`` reads."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
from collections.abc import Iterator
from typing import Final

from kmm.live.doctor_host import Finding, Host, limited, missing, ok

_THP: Final = "sys/kernel/mm/transparent_hugepage"
_ROOT: Final = "run as root"
_LINUX: Final = "run on Linux with /proc"
_CAP_SYS_ADMIN: Final = 21
_PAGE: Final = 4096
_PMD: Final = 2 << 20


def kernel(host: Host) -> Finding:
    """The running kernel."""
    kind, release = host.read("proc/sys/kernel/ostype"), host.read("proc/sys/kernel/osrelease")
    if kind != "Linux" or release is None:
        return missing("this is no Linux, or /proc is not mounted", _LINUX)
    return ok(f"{kind} {release}")


def page_size(_host: Host) -> Finding:
    """Bytes in a page."""
    found = f"{mmap.PAGESIZE} bytes"
    return ok(found) if mmap.PAGESIZE == _PAGE else missing(found, f"capture on a kernel with pages of {_PAGE} bytes")


def privileges(host: Host) -> Finding:
    """Root, or the capability that counts."""
    status = host.read("proc/self/status") or ""
    uid = re.search(r"^Uid:\s+\d+\s+(\d+)", status, re.MULTILINE)
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if uid is None or effective is None:
        return limited("/proc/self/status does not tell", _LINUX)
    who = "root" if uid.group(1) == "0" else f"uid {uid.group(1)}"
    if int(effective.group(1), 16) >> _CAP_SYS_ADMIN & 1:
        return ok(f"{who}, with CAP_SYS_ADMIN")
    return limited(f"{who}, without CAP_SYS_ADMIN", _ROOT)


def pagemap(host: Host) -> Finding:
    """Whether a process may read its own page map."""
    word = _own_word(host)
    if word is None:
        return missing("/proc/self/pagemap cannot be read", f"{_LINUX}, built with CONFIG_PROC_PAGE_MONITOR")
    from kmm.live.proc import PRESENT

    if not word & PRESENT:
        return limited("it does not show a page that was just written", _ROOT)
    return ok("readable")


def pfns(host: Host) -> Finding:
    """Whether the page map shows frame numbers."""
    from kmm.live.proc import PFN_MASK

    if (_own_word(host) or 0) & PFN_MASK:
        return ok("visible")
    return missing("hidden from this user", _ROOT)


def kpageflags(host: Host) -> Finding:
    """Flags of page frames."""
    return _frames_file(host, "proc/kpageflags")


def kpagecount(host: Host) -> Finding:
    """Map counts of page frames."""
    return _frames_file(host, "proc/kpagecount")


def soft_dirty(host: Host) -> Finding:
    """Whether the kernel keeps the bit: a page that was just written has it."""
    word = _own_word(host)
    if word is None:
        return limited("it cannot be told without the page map", _LINUX)
    from kmm.live.proc import SOFT_DIRTY

    return ok("kept") if word & SOFT_DIRTY else missing("not kept", "boot a kernel built with CONFIG_MEM_SOFT_DIRTY")


def thp(host: Host) -> Finding:
    """Settings of transparent hugepages, and the size of a PMD."""
    enabled = host.read(f"{_THP}/enabled")
    if enabled is None:
        return missing("no /sys/kernel/mm/transparent_hugepage", "boot a kernel built with CONFIG_TRANSPARENT_HUGEPAGE")
    size = host.read(f"{_THP}/hpage_pmd_size")
    if size not in (None, str(_PMD)):
        return missing(f"a PMD maps {size} bytes", f"capture on a kernel where it maps {_PMD}")
    mode = re.search(r"\[(\w+)\]", enabled)
    return ok(f"enabled: {mode.group(1) if mode else enabled}")


def mthp(host: Host) -> Finding:
    """Sizes with a switch of their own."""
    sizes = sorted(int(name[len("hugepages-") : -len("kB")]) for name in host.names(_THP, r"hugepages-\d+kB"))
    if not sizes:
        return missing("no hugepages-*kB in sysfs", "boot Linux 6.8 or later")
    return ok(f"{', '.join(map(str, sizes))} kB")


def _frames_file(host: Host, name: str) -> Finding:
    try:
        with (host.root / name).open("rb", buffering=0) as file:
            file.read(8)
    except PermissionError:
        return missing(f"/{name} may not be read", _ROOT)
    except OSError:
        return missing(f"there is no /{name}", "boot a kernel built with CONFIG_PROC_PAGE_MONITOR")
    return ok("readable")


def _own_word(host: Host) -> int | None:
    """What the page map says of a page of ours that was just written; ``None`` when it cannot be read."""
    try:
        with own_page() as address, (host.root / "proc/self/pagemap").open("rb", buffering=0) as file:
            word = os.pread(file.fileno(), 8, address // mmap.PAGESIZE * 8)
    except OSError:
        return None
    return int.from_bytes(word, "little") if len(word) == 8 else None


@contextlib.contextmanager
def own_page() -> Iterator[int]:
    """Address of a written anonymous page."""
    import ctypes

    memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[0] = 1
    view = ctypes.c_char.from_buffer(memory)
    try:
        yield ctypes.addressof(view)
    finally:
        del view
        memory.close()
