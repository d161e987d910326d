"""The files under ``khugepaged/`` (mm/khugepaged.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import PLAIN, Field
from kmm.mm import system
from kmm.mm.geometry import HPAGE_PMD_NR
from kmm.mm.khugepaged.daemon import khugepaged_sleep_changed
from kmm.mm.kstrtox import kstrtouint, kstrtoul
from kmm.mm.sysfs.attribute import Attribute, number, single_hugepage_flag
from kmm.mm.system import Sysctl


def max_ptes_store(field: Field[int], buf: str) -> str:
    """Set one of the limits, to 0 to ``HPAGE_PMD_NR - 1``."""
    err, value = kstrtoul(buf)
    if err or value > HPAGE_PMD_NR() - 1:
        return "EINVAL"
    current.machine.write(system.this.sysctl, field, value, PLAIN)
    return ""


def pages_to_scan_store(field: Field[int], buf: str) -> str:
    """Set how many pages a pass may scan; none at all is refused."""
    err, pages = kstrtouint(buf)
    if err or not pages:
        return "EINVAL"
    current.machine.write(system.this.sysctl, field, pages, PLAIN)
    return ""


def sleep_millisecs_store(field: Field[int], buf: str) -> str:
    """Set one of the sleeps, and wake khugepaged."""
    err, msecs = kstrtouint(buf)
    if err:
        return "EINVAL"
    current.machine.write(system.this.sysctl, field, msecs, PLAIN)
    khugepaged_sleep_changed()
    return ""


def pages_collapsed_show() -> str:
    """PMD ranges in which khugepaged collapsed something."""
    return f"{system.this.node_stat.get('pages_collapsed', 0)}\n"


def full_scans_show() -> str:
    """How often khugepaged came to the end of its list."""
    return f"{system.this.khugepaged_scan.full_scans}\n"


KHUGEPAGED_ATTRS: Final = {
    "khugepaged/alloc_sleep_millisecs": number(Sysctl.khugepaged_alloc_sleep_millisecs, sleep_millisecs_store),
    "khugepaged/defrag": single_hugepage_flag(Sysctl.defrag),
    "khugepaged/full_scans": Attribute(show=full_scans_show),
    "khugepaged/max_ptes_none": number(Sysctl.khugepaged_max_ptes_none, max_ptes_store),
    "khugepaged/max_ptes_shared": number(Sysctl.khugepaged_max_ptes_shared, max_ptes_store),
    "khugepaged/max_ptes_swap": number(Sysctl.khugepaged_max_ptes_swap, max_ptes_store),
    "khugepaged/pages_collapsed": Attribute(show=pages_collapsed_show),
    "khugepaged/pages_to_scan": number(Sysctl.khugepaged_pages_to_scan, pages_to_scan_store),
    "khugepaged/scan_sleep_millisecs": number(Sysctl.khugepaged_scan_sleep_millisecs, sleep_millisecs_store),
}
