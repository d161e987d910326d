"""Probes of what the running kernel could witness. Where only a trial tells, it is made on memory of our own, in a child process."""

from __future__ import annotations

import errno
import mmap
import os
import platform
import re
from functools import partial
from pathlib import Path
from typing import Final

from kmm.live.doctor_host import PATIENCE_S, Finding, Host, in_child, limited, missing, ok

_THP: Final = "sys/kernel/mm/transparent_hugepage"
_EVENTS: Final = "sys/kernel/tracing/events"
_CGROUP_MOUNTS: Final = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
_MADV_COLLAPSE: Final = 25
_PMD: Final = 2 << 20
_USERFAULTFD: Final = {"x86_64": 323, "aarch64": 282, "riscv64": 282}
"""Number of the system call, by architecture."""
_USER_MODE_ONLY: Final = 1
_UNTOLD: Final = 254


def khugepaged_mthp(host: Host) -> Finding:
    """Whether khugepaged collapses to sizes below the PMD's: such a kernel counts these allocations for every size."""
    sizes = host.names(_THP, r"hugepages-\d+kB")
    if any((host.root / _THP / size / "stats/collapse_alloc").exists() for size in sizes):
        return ok("there is a collapse_alloc for each size")
    return missing("no collapse_alloc in sysfs", "boot a kernel with the series that kmm models")


def madv_collapse(_host: Host) -> Finding:
    """MADV_COLLAPSE, on a written mapping of our own."""
    code = in_child(collapse_own_memory)
    if code == 0:
        return ok("works")
    if code is None:
        return limited(f"no answer within {PATIENCE_S:g} s", "try again when the machine is idle")
    if code == errno.EINVAL:
        return missing("refused (EINVAL)", "boot Linux 6.1 or later, built with CONFIG_TRANSPARENT_HUGEPAGE")
    name = errno.errorcode.get(code)
    if name is None:
        return missing("could not be tried", "run on Linux")
    return limited(f"known, but no huge page now ({name})", "free some memory, and try again")


def tracefs(host: Host) -> Finding:
    """The trace events of collapse. Only the mount in its own place is looked at: looking below debugfs would mount one."""
    try:
        systems = os.listdir(host.root / _EVENTS)
    except PermissionError:
        return limited("/sys/kernel/tracing may not be read", "run as root")
    except OSError:
        return missing("no tracefs in /sys/kernel/tracing", "mount it as root: mount -t tracefs tracefs /sys/kernel/tracing")
    events = host.names(f"{_EVENTS}/huge_memory", r"mm_\w+") if "huge_memory" in systems else []
    if not events:
        return limited("no events of huge_memory", "boot a kernel built with CONFIG_TRANSPARENT_HUGEPAGE")
    return ok(f"{len(events)} events of huge_memory")


def userfaultfd(host: Host) -> Finding:
    """Whether this user gets one, and for which faults."""
    full, user_mode = (in_child(partial(open_userfaultfd, flags)) for flags in (0, _USER_MODE_ONLY))
    remedy = "run as root, or set the sysctl vm.unprivileged_userfaultfd to 1"
    if full == 0:
        return ok("faults of user and kernel mode")
    if user_mode == 0:
        return limited("faults of user mode only", remedy)
    if full == errno.EPERM:
        return missing("not for this user", remedy)
    if full == errno.ENOSYS:
        return missing("this kernel has none", "boot a kernel built with CONFIG_USERFAULTFD")
    setting = host.read("proc/sys/vm/unprivileged_userfaultfd")
    if setting is None:
        return missing("could not be tried", "run on Linux")
    return limited(f"could not be tried; vm.unprivileged_userfaultfd is {setting}", remedy)


def swap(host: Host) -> Finding:
    """Swap areas, and which of them are zram."""
    text = host.read("proc/swaps")
    if text is None:
        return missing("no /proc/swaps", "boot a kernel built with CONFIG_SWAP")
    areas = [line.split()[0] for line in text.splitlines()[1:] if line.strip()]
    if not areas:
        return missing("no swap area is in use", "turn one on with swapon; zram serves where there is no disk")
    zram = sum(Path(area).name.startswith("zram") for area in areas)
    return ok(f"{len(areas)} in use, {zram} of them zram")


def memcg(host: Host) -> Finding:
    """Whether this process may make memory cgroups."""
    own = re.search(r"^0::/(.*)$", host.read("proc/self/cgroup") or "", re.MULTILINE)
    mount = next((host.root / each for each in _CGROUP_MOUNTS if (host.root / each / "cgroup.controllers").is_file()), None)
    if own is None or mount is None:
        return missing("no cgroup v2", "boot with systemd.unified_cgroup_hierarchy=1")
    controllers = host.read(str((mount / "cgroup.controllers").relative_to(host.root))) or ""
    if "memory" not in controllers.split():
        return limited("v2 without the memory controller", "boot with systemd.unified_cgroup_hierarchy=1")
    if not os.access(mount / own.group(1), os.W_OK):
        return limited("v2, but this user may not make groups", "run as root, or under systemd-run --user -p Delegate=yes")
    return ok("v2, writable")


def ksm(host: Host) -> Finding:
    """KSM's switch."""
    run = host.read("sys/kernel/mm/ksm/run")
    if run is None:
        return missing("no /sys/kernel/mm/ksm", "boot a kernel built with CONFIG_KSM")
    return ok("running" if run == "1" else "there, not running")


def collapse_own_memory() -> int:
    """MADV_COLLAPSE one PMD range of a new mapping: 0, or the errno."""
    import ctypes

    memory = mmap.mmap(-1, 2 * _PMD, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    first = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % _PMD
    memory[first] = 1
    try:
        memory.madvise(_MADV_COLLAPSE, first, _PMD)
    except OSError as error:
        return error.errno or _UNTOLD
    return 0


def open_userfaultfd(flags: int) -> int:
    """Open a userfaultfd and close it again: 0, or the errno; 254 where the number of the system call is not known."""
    import ctypes

    number = _USERFAULTFD.get(platform.machine())
    if number is None:
        return _UNTOLD
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(number, os.O_CLOEXEC | flags)
    if fd < 0:
        return ctypes.get_errno()
    os.close(fd)
    return 0
