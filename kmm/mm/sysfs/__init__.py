"""The files under ``/sys/kernel/mm/transparent_hugepage/``: what they show, what they accept (mm/huge_memory.c, mm/khugepaged.c)."""

from __future__ import annotations

from typing import Final

from kmm.mm.geometry import HPAGE_PMD_ORDER, KHUGEPAGED_MIN_MTHP_ORDER, PAGE_SIZE
from kmm.mm.kstrtox import c_string
from kmm.mm.sysfs.attribute import Attribute
from kmm.mm.sysfs.hugepage import HUGEPAGE_ATTRS
from kmm.mm.sysfs.khugepaged import KHUGEPAGED_ATTRS
from kmm.mm.sysfs.thpsize import thpsize_attribute, thpsize_directory, thpsize_files

__all__ = ["SysfsError", "sysfs_files", "sysfs_files_of", "sysfs_path", "sysfs_read", "sysfs_write"]

_ATTRS: Final = {**HUGEPAGE_ATTRS, **KHUGEPAGED_ATTRS}
_LIMITS: Final = ("max_ptes_none", "max_ptes_shared", "max_ptes_swap")


class SysfsError(Exception):
    """A file cannot be read; the text is the errno's name."""


def sysfs_files_of(page_size: int, pmd_order: int) -> tuple[str, ...]:
    """Every file of a machine, by its path.

    :param page_size: bytes
    """
    return *HUGEPAGE_ATTRS, *KHUGEPAGED_ATTRS, *thpsize_files(page_size, pmd_order)


def sysfs_files() -> tuple[str, ...]:
    """Every file of the machine that runs, by its path relative to ``transparent_hugepage/``."""
    return sysfs_files_of(PAGE_SIZE(), HPAGE_PMD_ORDER())


def sysfs_path(name: str) -> str:
    """The path of a file that an event names in short: a limit without its directory, or ``hugepages-N`` with N the order."""
    if name in _LIMITS:
        return f"khugepaged/{name}"
    order = name.removeprefix("hugepages-")
    if order != name and order.isascii() and order.isdecimal() and KHUGEPAGED_MIN_MTHP_ORDER <= int(order) <= HPAGE_PMD_ORDER():
        return f"{thpsize_directory(PAGE_SIZE(), int(order))}/enabled"
    return name


def sysfs_read(path: str) -> str:
    """Read one file.

    :param path: relative to ``transparent_hugepage/``, or short as in :func:`sysfs_path`
    :returns: its text, with the newline
    :raises SysfsError: ENOENT, or EISDIR
    """
    attribute = _lookup(path)
    if attribute is None:
        raise SysfsError(_missing(path))
    return attribute.show()


def sysfs_write(path: str, value: str) -> str:
    """Write to one file, as root and in one piece. May sleep.

    :param path: relative to ``transparent_hugepage/``, or short as in :func:`sysfs_path`
    :param value: a NUL ends it; nothing at all is accepted and changes nothing
    :returns: the errno's name, empty when the write was accepted: ENOENT, EISDIR, EACCES for a file that is only read, EINVAL or ERANGE
        for a value that is refused. A refused write changes nothing
    """
    attribute = _lookup(path)
    if attribute is None:
        return _missing(path)
    if attribute.store is None:
        return "EACCES"
    return attribute.store(c_string(value)) if value else ""


def _lookup(path: str) -> Attribute | None:
    full = sysfs_path(path)
    return _ATTRS.get(full) or thpsize_attribute(full)


def _missing(path: str) -> str:
    return "EISDIR" if any(file.startswith(f"{path}/") for file in sysfs_files()) else "ENOENT"
