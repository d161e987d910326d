"""Steps: what processes, khugepaged, reclaim and the administrator do, one whole operation after the other."""

from __future__ import annotations

import enum
from typing import Final

import attrs

from kmm.scenario.errors import require


class Takes(enum.Flag):
    """What a step says besides its operation."""

    NOTHING = 0
    PROCESS = enum.auto()
    PAGE = enum.auto()
    LENGTH = enum.auto()
    TO = enum.auto()
    NAME = enum.auto()
    VALUE = enum.auto()
    RANGE = PROCESS | PAGE | LENGTH


STEP_OPS: Final[dict[str, tuple[Takes, str]]] = {
    "khugepaged": (Takes.NOTHING, "khugepaged runs once through its main loop: it scans up to pages_to_scan pages, then it sleeps"),
    "load": (Takes.RANGE, "the process reads each page"),
    "store": (Takes.RANGE, "the process writes each page"),
    "mmap": (Takes.RANGE | Takes.VALUE, "an anonymous private mapping at fixed pages; `value`: its VMA flags"),
    "munmap": (Takes.RANGE, "unmap what is mapped there"),
    "mremap": (Takes.RANGE | Takes.TO, "move the pages to page `to`"),
    "mprotect": (Takes.RANGE | Takes.VALUE, "`value`: the access flags, or `none`"),
    "madvise": (Takes.RANGE | Takes.VALUE, "`value`: the advice"),
    "mlock": (Takes.RANGE, "lock the pages in memory, and populate them"),
    "munlock": (Takes.RANGE, "unlock the pages"),
    "fork": (Takes.PROCESS, "the child is the process with the next free number"),
    "exit": (Takes.PROCESS, "the process ends"),
    "prctl": (Takes.PROCESS | Takes.VALUE, "PR_SET_THP_DISABLE; `value`: `no`, `yes` or `except_advised`"),
    "pin": (Takes.RANGE, "somebody takes a long-lived reference to each page"),
    "unpin": (Takes.RANGE, "the reference is given back"),
    "gup": (
        Takes.RANGE | Takes.VALUE,
        "each page is pinned, without locks if that is possible; a device reads it or, with `write`, writes it",
    ),
    "gup_fast": (Takes.RANGE | Takes.VALUE, "`gup` that gives up where locks would be needed"),
    "uffd_register": (Takes.RANGE | Takes.VALUE, "userfaultfd watches the pages; `value`: `missing`, `wp`, or `missing wp`"),
    "uffd_unregister": (Takes.RANGE, "userfaultfd watches them no more"),
    "uffd_wp": (
        Takes.RANGE | Takes.VALUE,
        "the monitor write-protects the pages; `value`: `protect`, `protect unpopulated` (holes, too), or `resolve`",
    ),
    "uffd_copy": (
        Takes.RANGE | Takes.VALUE,
        "the monitor fills holes; `value`: `wp` to protect the pages, or `zero` for zeros",
    ),
    "secondary_fault": (
        Takes.RANGE | Takes.VALUE,
        "a guest, whose MMU follows the process's tables, reads each page or, with `write`, writes it",
    ),
    "swapout": (Takes.RANGE, "reclaim swaps each page out, whether it is used or not"),
    "swapin": (Takes.RANGE, "the process reads pages that are swapped out"),
    "age": (Takes.RANGE, "reclaim looks who uses each page, and clears its young bits"),
    "migrate": (Takes.RANGE, "compaction moves what each page holds to another page of the node"),
    "split": (Takes.RANGE, "the large folios that map the pages are split"),
    "ksm": (Takes.RANGE | Takes.VALUE, "ksmd merges equal pages; with `use_zero_pages`, pages of zeros with the zero page"),
    "memory_failure": (
        Takes.RANGE | Takes.VALUE,
        "the memory of each page fails, and is taken from whoever uses it; with `early_kill`, who maps it gets its SIGBUS at once",
    ),
    "shrink": (Takes.NOTHING, "the shrinker splits what waits on the deferred-split queue"),
    "drain": (Takes.NOTHING, "every CPU's LRU batches are drained"),
    "sysfs": (Takes.NAME | Takes.VALUE, "the administrator writes a file under `transparent_hugepage/`"),
    "cgroup": (Takes.NAME | Takes.VALUE, "the administrator writes a file of the cgroup, such as `memory.max`"),
    "read": (Takes.NAME, "the administrator reads a file under `transparent_hugepage/` or of the cgroup; what stands there is the outcome"),
}
"""Each operation: what it says, and what it does."""

BY_RECLAIM: Final = ("age", "memory_failure", "migrate", "split", "swapout")
"""Operations on pages of a process that no thread of it does: beside others they keep nothing of it alive."""
ADVICE: Final = ("cold", "collapse", "dodump", "dofork", "dontdump", "dontfork", "dontneed", "free", "hugepage", "nohugepage", "pageout")
_ACCESSES: Final = ("", "read", "write")
VALUES: Final = {
    "madvise": ADVICE,
    "prctl": ("no", "yes", "except_advised"),
    "gup": _ACCESSES,
    "gup_fast": _ACCESSES,
    "ksm": ("", "use_zero_pages"),
    "memory_failure": ("", "early_kill"),
    "uffd_register": ("missing", "wp", "missing wp"),
    "uffd_wp": ("protect", "protect unpopulated", "resolve"),
    "uffd_copy": ("", "wp", "zero"),
    "secondary_fault": _ACCESSES,
}
"""Operation: the values that it knows."""
_ACCESS: Final = ("exec", "read", "write")


@attrs.frozen(kw_only=True)
class Step:
    """One whole operation.

    :param op: out of :data:`STEP_OPS`
    :param process: number of the process, from 1; forked ones get the next free numbers
    :param page: index of the first page
    :param length: number of pages
    :param to: index of the page to which ``mremap`` moves the first one
    :param name: ``sysfs``: the file, relative to ``transparent_hugepage/``; ``cgroup``: the file; ``read``: one of either
    :param value: ``sysfs``, ``cgroup``: the new text; ``madvise``, ``prctl``, ``mprotect``, ``mmap``: see the operation
    """

    op: str
    process: int = 1
    page: int | None = None
    length: int = 1
    to: int | None = None
    name: str = ""
    value: str = ""

    def __attrs_post_init__(self) -> None:
        require(self.op in STEP_OPS, f'op = "{self.op}" is not a step', "use " + ", ".join(STEP_OPS))
        takes = STEP_OPS[self.op][0]
        require(1 <= self.process <= 99, f"process = {self.process} is out of range", "use 1 to 99")
        require(Takes.PROCESS in takes or self.process == 1, f"process = {self.process} does not belong to {self.op}", "drop it")
        require((self.page is not None) == (Takes.PAGE in takes), *_needs(self.op, "page", needed=Takes.PAGE in takes))
        require(self.length >= 1, f"length = {self.length} is out of range", "use 1 or more pages")
        require(Takes.LENGTH in takes or self.length == 1, f"length = {self.length} does not belong to {self.op}", "drop it")
        require((self.to is not None) == (Takes.TO in takes), *_needs(self.op, "to", needed=Takes.TO in takes))
        require(bool(self.name) == (Takes.NAME in takes), *_needs(self.op, "name", needed=Takes.NAME in takes))
        require(not self.value or Takes.VALUE in takes, f'value = "{self.value}" does not belong to {self.op}', "drop it")
        self._check_value()

    def _check_value(self) -> None:
        known = VALUES.get(self.op)
        require(known is None or self.value in known, f'value = "{self.value}" is not known to {self.op}', _use(known or ()))
        if self.op == "mprotect":
            words = self.value.split()
            good = words == ["none"] or (bool(words) and words == sorted(set(words) & set(_ACCESS)))
            require(good, f'value = "{self.value}" is not an access', 'use some of "exec read write" in this order, or "none"')


def _use(known: tuple[str, ...]) -> str:
    return "use " + ", ".join(filter(None, known)) + (", or drop it" if "" in known else "")


def _needs(op: str, key: str, *, needed: bool) -> tuple[str, str]:
    return (f"{op} needs {key}", f"add {key} = ...") if needed else (f"{op} takes no {key}", f"drop {key}")


def said(step: Step, number: int, what: str = "step") -> str:
    """A step in a few words.

    :param number: from 1
    :param what: ``step`` or ``actor``
    """
    takes = STEP_OPS[step.op][0]
    words = [f"{what} {number}: {step.op}"]
    if step.name:
        words.append(step.name)
    if step.value:
        words.append(f'"{step.value.encode("unicode_escape").decode("ascii")}"')
    if step.page is not None:
        words.append(f"page {step.page}" if step.length == 1 else f"pages {step.page} to {step.page + step.length - 1}")
    if step.to is not None:
        words.append(f"to page {step.to}")
    if Takes.PROCESS in takes:
        words.append(f"of process {step.process}")
    return " ".join(words)
