"""PR_SET_THP_DISABLE (kernel/sys.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm.mm_types import MMF_DISABLE_THP_COMPLETELY, MMF_DISABLE_THP_EXCEPT_ADVISED, MmStruct
from kmm.mm.mmap import mmap_write_lock, mmap_write_unlock

_FLAGS: Final = {"no": 0, "yes": MMF_DISABLE_THP_COMPLETELY, "except_advised": MMF_DISABLE_THP_EXCEPT_ADVISED}


def prctl_thp_disable_set(mm: MmStruct, value: str) -> None:
    """Say whether the process may have huge pages. May sleep.

    :param mm: ``struct mm_struct *``
    :param value: ``no``, ``yes``, or ``except_advised``
    :source: kernel/sys.c, v6.18
    """
    mmap_write_lock(mm)
    keep = ~(MMF_DISABLE_THP_COMPLETELY | MMF_DISABLE_THP_EXCEPT_ADVISED)
    current.machine.rmw(mm, MmStruct.flags, lambda flags: flags & keep | _FLAGS[value], ONCE)
    mmap_write_unlock(mm)
