"""What a process is told besides its memory: PR_SET_THP_DISABLE, and what its cgroup may still be charged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from kmm.live.proc import PAGE

ENOUGH: Final = 65536
"""Pages; more room than this is no limit to a collapse."""


def thp_disable(pid: int, root: Path) -> tuple[str, bool]:
    """The process switch, and whether that is certain: the kernel does not show the exception for advised VMAs."""
    found = re.search(r"^THP_enabled:\s*([01])$", _read(root / "proc" / str(pid) / "status"), re.MULTILINE)
    disabled = found is not None and found[1] == "0"
    return ("yes", True) if disabled else ("no", False)


def memcg_room(pid: int, root: Path) -> tuple[int | None, bool]:
    """Pages that the process's cgroup, and those above it, may still be charged (``None``: no limit that counts); whether it is certain."""
    found = re.search(r"^0::(/.*)$", _read(root / "proc" / str(pid) / "cgroup"), re.MULTILINE)
    top = root / "sys/fs/cgroup"
    if found is None or not (top / "cgroup.controllers").exists():
        return None, False
    here = top / found[1].lstrip("/")
    rooms = [room for each in (here, *here.parents) if each.is_relative_to(top) and (room := _room(each)) is not None]
    room = min(rooms, default=ENOUGH)
    return (None if room >= ENOUGH else max(room, 0)), True


def _room(cgroup: Path) -> int | None:
    limit, usage = _read(cgroup / "memory.max").strip(), _read(cgroup / "memory.current").strip()
    return (int(limit) - int(usage)) // PAGE if limit.isdecimal() and usage.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
