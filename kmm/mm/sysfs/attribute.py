"""A file: how it is shown, and how it is written (include/linux/sysfs.h)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN, Field
from kmm.mm import system
from kmm.mm.kstrtox import kstrtoul, sysfs_streq


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """``struct kobj_attribute``.

    :param show: gives the file's text, with its newline
    :param store: takes what is written, gives the errno's name; ``None``: nobody may write to the file
    """

    show: Callable[[], str]
    store: Callable[[str], str] | None = None


def choices(words: Sequence[str], chosen: str) -> str:
    """The line of a file with one word out of several."""
    return " ".join(f"[{word}]" if word == chosen else word for word in words) + "\n"


def chosen_by(buf: str, words: Sequence[str]) -> str:
    """The word that was written; empty if it is none of ``words``."""
    return next((word for word in words if sysfs_streq(buf, word)), "")


def read_number(field: Field[int]) -> str:
    """The line of a file with a number."""
    return f"{current.machine.read(system.this.sysctl, field, PLAIN)}\n"


def number(field: Field[int], store: Callable[[Field[int], str], str]) -> Attribute:
    """A file with a number; ``store`` knows which ones are accepted."""
    return Attribute(show=partial(read_number, field), store=partial(store, field))


def single_hugepage_flag(field: Field[bool]) -> Attribute:
    """A file with 0 or 1."""
    return Attribute(show=partial(single_hugepage_flag_show, field), store=partial(single_hugepage_flag_store, field))


def single_hugepage_flag_show(field: Field[bool]) -> str:
    """The line of a file with 0 or 1."""
    return f"{int(current.machine.read(system.this.sysctl, field, ONCE))}\n"


def single_hugepage_flag_store(field: Field[bool], buf: str) -> str:
    """Take 0 or 1; alone among these files it tells a number that is too large for the parser (ERANGE) from others (EINVAL)."""
    err, value = kstrtoul(buf)
    if err:
        return err
    if value > 1:
        return "EINVAL"
    current.machine.write(system.this.sysctl, field, bool(value), ONCE)
    return ""
