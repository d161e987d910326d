"""The files for all sizes (mm/huge_memory.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm import system
from kmm.mm.geometry import HPAGE_PMD_SIZE
from kmm.mm.khugepaged.daemon import start_stop_khugepaged
from kmm.mm.kstrtox import kstrtobool
from kmm.mm.sysfs.attribute import Attribute, choices, chosen_by, single_hugepage_flag, single_hugepage_flag_show
from kmm.mm.system import Sysctl

GLOBAL_MODES: Final = ("always", "madvise", "never")
DEFRAG_MODES: Final = ("always", "defer", "defer+madvise", "madvise", "never")


def enabled_show() -> str:
    """The global switch."""
    return choices(GLOBAL_MODES, current.machine.read(system.this.sysctl, Sysctl.enabled, ONCE))


def enabled_store(buf: str) -> str:
    """Set the global switch, and start or end khugepaged."""
    mode = chosen_by(buf, GLOBAL_MODES)
    if not mode:
        return "EINVAL"
    current.machine.write(system.this.sysctl, Sysctl.enabled, mode, ONCE)
    return start_stop_khugepaged()


def defrag_show() -> str:
    """How hard a page fault tries to get a huge page."""
    return choices(DEFRAG_MODES, current.machine.read(system.this.sysctl, Sysctl.defrag_fault, ONCE))


def defrag_store(buf: str) -> str:
    """Set how hard a page fault tries to get a huge page."""
    mode = chosen_by(buf, DEFRAG_MODES)
    if not mode:
        return "EINVAL"
    current.machine.write(system.this.sysctl, Sysctl.defrag_fault, mode, ONCE)
    return ""


def hpage_pmd_size_show() -> str:
    """Bytes of a huge page."""
    return f"{HPAGE_PMD_SIZE()}\n"


def split_underused_thp_show() -> str:
    """Whether huge pages that are mostly zeros may be split."""
    return single_hugepage_flag_show(Sysctl.shrink_underused)


def split_underused_thp_store(buf: str) -> str:
    """Set whether huge pages that are mostly zeros may be split."""
    err, value = kstrtobool(buf)
    if not err:
        current.machine.write(system.this.sysctl, Sysctl.shrink_underused, value, ONCE)
    return err


HUGEPAGE_ATTRS: Final = {
    "defrag": Attribute(show=defrag_show, store=defrag_store),
    "enabled": Attribute(show=enabled_show, store=enabled_store),
    "hpage_pmd_size": Attribute(show=hpage_pmd_size_show),
    "shrink_underused": Attribute(show=split_underused_thp_show, store=split_underused_thp_store),
    "use_zero_page": single_hugepage_flag(Sysctl.use_zero_page),
}
