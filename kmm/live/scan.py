"""The request PAGEMAP_SCAN: which pages a PMD maps, and which are the zero page. It needs no privilege."""

from __future__ import annotations

import fcntl
import struct
from array import array
from typing import Final

ZERO: Final = 1 << 5
HUGE: Final = 1 << 6
"""``PAGE_IS_PFNZERO`` and ``PAGE_IS_HUGE``."""

_REQUEST: Final = struct.Struct("=12Q")
_PAGEMAP_SCAN: Final = 3 << 30 | _REQUEST.size << 16 | ord("f") << 8 | 16
_REGION: Final = 3
_REGIONS: Final = 1024


def scan(pagemap: int, start: int, pages: int, page_size: int) -> bytes | None:
    """One byte a page, made of :data:`ZERO` and :data:`HUGE`; ``None`` where the kernel does not answer (before 6.7).

    :param pagemap: descriptor of a process's pagemap
    :param start: address
    """
    out = bytearray(pages)
    regions = array("Q", bytes(8 * _REGION * _REGIONS))
    at, end = start, start + pages * page_size
    while at < end:
        vector, _ = regions.buffer_info()
        request = bytearray(_REQUEST.pack(_REQUEST.size, 0, at, end, 0, vector, _REGIONS, 0, 0, 0, ZERO | HUGE, ZERO | HUGE))
        try:
            count = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, request)
        except OSError:
            return None
        for i in range(0, count * _REGION, _REGION):
            first, behind, marks = regions[i : i + _REGION]
            first, behind = (first - start) // page_size, (behind - start) // page_size
            out[first:behind] = bytes([marks]) * (behind - first)
        reached = int(_REQUEST.unpack(request)[4])
        if reached <= at:
            return None
        at = reached
    return bytes(out)
