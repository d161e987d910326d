"""What the tests of the judge share: small scenarios, and variants with one line changed."""

from __future__ import annotations

from pathlib import Path

from kmm.judge.variants import LoadedVariant, load_variant
from kmm.scenario.families import Family
from kmm.scenario.model import Driver, DriverKind, Event, Failure, Geometry, Scenario, Tunables, Vma

ROOT = Path(__file__).parent.parent
REVIEWED = ROOT / "refactors" / "reviewed.py"

V12 = load_variant(str(ROOT / "refactors" / "v12.py"))


def small(
    pages: str,
    *orders: int,
    driver: Driver | None = None,
    flags: tuple[str, ...] = ("read", "write"),
    events: tuple[Event, ...] = (),
    failures: tuple[Failure, ...] = (),
) -> Scenario:
    """A scenario at 8 PTEs."""
    geometry = Geometry(ptes=8, lru_batch=3)
    return Scenario(
        geometry=geometry,
        tunables=Tunables.default(geometry).with_orders(geometry, *(orders or (2, 3))),
        vmas=(Vma(pages=pages, flags=flags),),
        driver=driver or Driver(kind=DriverKind.KHUGEPAGED),
        events=events,
        failures=failures,
    )


def family(*scenarios: Scenario, name: str = "tests", kind: str = "exhaustive") -> Family:
    """A family of just these."""
    return Family(name=name, kind=kind, words="what a test wants", scenarios=lambda: iter(scenarios))


def variant(path: Path, body: str) -> LoadedVariant:
    """A variant that does ``body`` and then what v12 does.

    :param path: file to write
    :param body: lines of the function, without indentation
    """
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    path.write_text(
        "import os, sys, time\n"
        "from kmm.kernel.stop import NotApplicable\n"
        "from kmm.mm.variant import Variant\n"
        "from refactors.v12 import collapse_huge_page as v12\n\n\n"
        "def changed(mm, pmd_address, referenced, unmapped, cc, mmap_locked, order, offset):\n"
        f"{lines}\n"
        "    return v12(mm, pmd_address, referenced, unmapped, cc, mmap_locked, order, offset)\n\n\n"
        'VARIANT = Variant(name="changed", collapse_huge_page=changed)\n'
    )
    return load_variant(str(path))


def mutant(path: Path, old: str, new: str) -> LoadedVariant:
    """``reviewed`` with one text replaced.

    :param path: file to write
    """
    source = REVIEWED.read_text()
    assert source.count(old) == 1, f"{source.count(old)} places have {old!r}"
    path.write_text(source.replace(old, new))
    return load_variant(str(path))
