"""Writes to the tunables under ``transparent_hugepage/`` (mm/khugepaged.c, mm/huge_memory.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN, Field
from kmm.mm import system
from kmm.mm.system import Sysctl

_LIMITS: dict[str, Field[int]] = {
    "max_ptes_none": Sysctl.khugepaged_max_ptes_none,
    "max_ptes_swap": Sysctl.khugepaged_max_ptes_swap,
    "max_ptes_shared": Sysctl.khugepaged_max_ptes_shared,
}
_MASKS: dict[str, Field[int]] = {
    "always": Sysctl.huge_anon_orders_always,
    "madvise": Sysctl.huge_anon_orders_madvise,
    "inherit": Sysctl.huge_anon_orders_inherit,
}


def sysfs_write(name: str, value: str) -> str:
    """Write one file.

    :param name: ``max_ptes_none`` and the like, ``enabled``, or ``hugepages-N`` with N the order
    :returns: the errno's name, empty when the write was accepted
    """
    machine, sysctl = current.machine, system.this.sysctl
    if name in _LIMITS:
        if not value.isdecimal() or int(value) >= machine.ptes:
            return "EINVAL"
        machine.write(sysctl, _LIMITS[name], int(value), PLAIN)
        return ""
    if name == "enabled":
        if value not in ("always", "madvise", "never"):
            return "EINVAL"
        machine.write(sysctl, Sysctl.enabled, value, ONCE)
        return ""
    order = name.removeprefix("hugepages-")
    if not order.isdecimal() or not 2 <= int(order) <= machine.pmd_order:
        return "ENOENT"
    return _write_order(int(order), value)


def _write_order(order: int, value: str) -> str:
    if value not in (*_MASKS, "never"):
        return "EINVAL"
    for mode, field in _MASKS.items():
        bit = 1 << order
        current.machine.rmw(system.this.sysctl, field, bit.__or__ if mode == value else (~bit).__and__, ONCE)
    return ""
