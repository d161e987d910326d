"""The files of each size, under ``hugepages-<N>kB/`` (mm/huge_memory.c). Those of shmem are left out, and with them the order 1."""

from __future__ import annotations

from functools import partial
from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, Field
from kmm.mm import system
from kmm.mm.geometry import KHUGEPAGED_MIN_MTHP_ORDER
from kmm.mm.khugepaged.daemon import start_stop_khugepaged
from kmm.mm.kstrtox import ULONG_MAX
from kmm.mm.sysfs.attribute import Attribute, choices, chosen_by
from kmm.mm.system import Sysctl
from kmm.mm.vmstat import MTHP_STATS

ORDER_MODES: Final = ("always", "inherit", "madvise", "never")

_MASKS: Final[dict[str, Field[int]]] = {
    "always": Sysctl.huge_anon_orders_always,
    "madvise": Sysctl.huge_anon_orders_madvise,
    "inherit": Sysctl.huge_anon_orders_inherit,
}
_STATS: Final = "stats/"


def thpsize_directory(page_size: int, order: int) -> str:
    """The directory of an order.

    :param page_size: bytes
    """
    return f"hugepages-{(page_size << order) >> 10}kB"


def thpsize_files(page_size: int, pmd_order: int) -> tuple[str, ...]:
    """Every file of every size, from the smallest one on.

    :param page_size: bytes
    """
    names = ("enabled", *sorted(_STATS + name for name in MTHP_STATS))
    orders = range(KHUGEPAGED_MIN_MTHP_ORDER, pmd_order + 1)
    return tuple(f"{thpsize_directory(page_size, order)}/{name}" for order in orders for name in names)


def thpsize_attribute(path: str) -> Attribute | None:
    """The file of a size, if there is one of that path."""
    directory, _, name = path.partition("/")
    machine = current.machine
    for order in range(KHUGEPAGED_MIN_MTHP_ORDER, machine.pmd_order + 1):
        if directory == thpsize_directory(machine.page_size, order):
            return _attribute(order, name)
    return None


def _attribute(order: int, name: str) -> Attribute | None:
    if name == "enabled":
        return Attribute(show=partial(anon_enabled_show, order), store=partial(anon_enabled_store, order))
    stat = name.removeprefix(_STATS)
    if name == _STATS + stat and stat in MTHP_STATS:
        return Attribute(show=partial(stat_show, order, stat))
    return None


def anon_enabled_show(order: int) -> str:
    """The switch of an order."""
    read, sysctl = current.machine.read, system.this.sysctl
    modes = (mode for mode in ORDER_MODES if mode in _MASKS and read(sysctl, _MASKS[mode], ONCE) & 1 << order)
    return choices(ORDER_MODES, next(modes, "never"))


def anon_enabled_store(order: int, buf: str) -> str:
    """Set the switch of an order, and start or end khugepaged."""
    chosen = chosen_by(buf, ORDER_MODES)
    if not chosen:
        return "EINVAL"
    bit = 1 << order
    for mode, field in _MASKS.items():
        current.machine.rmw(system.this.sysctl, field, bit.__or__ if mode == chosen else (~bit).__and__, ONCE)
    return start_stop_khugepaged()


def stat_show(order: int, name: str) -> str:
    """One statistic of an order: an ``unsigned long``."""
    return f"{system.this.mthp_stats.get((order, name), 0) & ULONG_MAX}\n"
