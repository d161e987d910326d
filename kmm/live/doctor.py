"""What this machine can do: one table of parts, each with the probe that looks for it.

Nothing is changed, nothing is waited for without a limit, and nothing but the standard library is needed, so that the answer
comes also where a library is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from typing import Final, NamedTuple

from kmm.live import doctor_capture, doctor_kernel, doctor_python, doctor_tools
from kmm.live.doctor_host import Finding, Host, State, limited

SCHEMA: Final = 1
CORE: Final = "core"
AREAS: Final = {
    CORE: "what every command needs",
    "development": "tests, documentation, a checkout",
    "capture": "what kmm capture reads",
    "witness": "live kernels as witnesses (not in this version)",
}
"""Each area, and what it is for, in the order of the table."""


class Part(NamedTuple):
    """Something that a machine has or has not.

    :param key: short name that stays the same
    :param area: one of :data:`AREAS`
    :param gives: what it is for
    """

    key: str
    area: str
    gives: str
    probe: Callable[[Host], Finding]


class Row(NamedTuple):
    """A part, and how it stands on this machine."""

    part: Part
    finding: Finding


PARTS: Final = (
    Part("python", CORE, "every command", doctor_python.python),
    Part("libraries", CORE, "every command", doctor_python.libraries),
    Part("fork", CORE, "worker processes, in which check, run and replay execute variants", doctor_python.fork),
    Part("workers", CORE, "speed of check: it uses one worker process a CPU", doctor_python.workers),
    Part("terminal", CORE, "colour, progress, lines as wide as the window", doctor_python.terminal),
    Part("git", "development", "a checkout, and patches made of a variant", doctor_tools.git),
    Part("make", "development", "make, make test, make docs, make bench", doctor_tools.make),
    Part("pytest", "development", "make test", doctor_python.tests),
    Part("pyright", "development", "the test of the Python API with a second type checker", doctor_python.pyright),
    Part("docs", "development", "make docs", doctor_python.docs),
    Part("browser", "development", "screenshots of reports (not in this version)", doctor_tools.browser),
    Part("kernel", "capture", "any live process at all", doctor_capture.kernel),
    Part("page-size", "capture", "ranges of 512 pages, the only ones that are captured", doctor_capture.page_size),
    Part("privileges", "capture", "processes of other users, and what the parts below need", doctor_capture.privileges),
    Part("pagemap", "capture", "which pages are present, swapped, uffd-wp, guards", doctor_capture.pagemap),
    Part("pfns", "capture", "which pages belong to one folio", doctor_capture.pfns),
    Part("kpageflags", "capture", "zero page, folio order, LRU, lock, referenced, swap cache", doctor_capture.kpageflags),
    Part("kpagecount", "capture", "how many address spaces map a page", doctor_capture.kpagecount),
    Part("soft-dirty", "capture", "the soft-dirty bit of each page", doctor_capture.soft_dirty),
    Part("thp", "capture", "the settings of this kernel, instead of the defaults", doctor_capture.thp),
    Part("mthp", "capture", "the setting of each order", doctor_capture.mthp),
    Part("khugepaged-mthp", "witness", "the collapse that kmm models, in the running kernel", doctor_kernel.khugepaged_mthp),
    Part("madv-collapse", "witness", "collapse on demand", doctor_kernel.madv_collapse),
    Part("tracefs", "witness", "the trace events of a real collapse", doctor_kernel.tracefs),
    Part("userfaultfd", "witness", "ranges that are armed for it", doctor_kernel.userfaultfd),
    Part("swap", "witness", "pages that are swapped out", doctor_kernel.swap),
    Part("memcg", "witness", "charges that are refused", doctor_kernel.memcg),
    Part("ksm", "witness", "merged pages", doctor_kernel.ksm),
    Part("qemu", "witness", "other kernels than the running one", doctor_tools.qemu),
    Part("kernel-image", "witness", "a kernel to boot in QEMU", doctor_tools.kernel_image),
)


def examine(host: Host | None = None, parts: Sequence[Part] = PARTS) -> list[Row]:
    """Look for each part; never raises.

    :param host: default: this machine
    """
    here = host or Host()
    return [Row(part, _look(part, here)) for part in parts]


def exit_code(rows: Sequence[Row]) -> int:
    """0 when the core is there, 2 when a part of it is missing."""
    return 2 if any(row.part.area == CORE and row.finding.state is State.MISSING for row in rows) else 0


def to_json(rows: Sequence[Row]) -> dict[str, object]:
    """The rows as in :func:`schema`."""
    return {"schema": SCHEMA, "exit_code": exit_code(rows), "parts": [_part(row) for row in rows]}


def schema() -> str:
    """The JSON Schema of what ``kmm doctor --format json`` prints."""
    return resources.files("kmm.live").joinpath("doctor.schema.json").read_text(encoding="utf-8")


def _part(row: Row) -> dict[str, object]:
    return {
        "key": row.part.key,
        "area": row.part.area,
        "state": row.finding.state.value,
        "found": row.finding.found,
        "gives": row.part.gives,
        "remedy": row.finding.remedy or None,
    }


def _look(part: Part, host: Host) -> Finding:
    try:
        return part.probe(host)
    except Exception as error:  # a probe that fails tells about itself only
        return limited(f"could not be looked at ({type(error).__name__}: {error})", "look at it by hand")
