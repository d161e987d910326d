"""From a scenario to what the predicate of an intended difference may ask about it."""

from __future__ import annotations

from collections import Counter
from typing import Final, NoReturn

from kmm.mm.intended import Case
from kmm.mm.khugepaged.limits import collapse_allowable_orders
from kmm.mm.variant import Variant
from kmm.scenario.build import build
from kmm.scenario.checks import GAP
from kmm.scenario.model import DriverKind, Scenario
from kmm.scenario.page import UNMAPPED, Kind


def _never(*_: object) -> NoReturn:
    raise AssertionError("nothing collapses while a scenario is looked at")


_NOBODY: Final = Variant(name="nobody", collapse_huge_page=_never)


def case_of(s: Scenario) -> Case:
    """The case that a scenario with one table is."""
    alphabet = s.alphabet()
    letters = Counter(letter for letter in s.pages if letter != GAP)
    pages = [(alphabet[letter], count) for letter, count in letters.items()]
    kinds: Counter[Kind] = Counter()
    for page, count in pages:
        kinds[page.kind] += count
    present = [(page, count) for page, count in pages if page.kind is Kind.PRESENT]
    covering = [vma for vma in s.vmas if vma.start is None]
    driver = s.driver
    is_khugepaged = driver.is_khugepaged if driver.kind is DriverKind.DIRECT else driver.kind is DriverKind.KHUGEPAGED
    return Case(
        driver=driver.kind.value,
        is_khugepaged=is_khugepaged,
        order=driver.order,
        offset=driver.offset,
        pmd_order=s.geometry.pmd_order,
        ptes=s.geometry.ptes,
        none=kinds[Kind.NONE],
        zero=kinds[Kind.ZERO],
        unmapped=sum(kinds[kind] for kind in UNMAPPED),
        swap=kinds[Kind.SWAP],
        migrating=kinds[Kind.MIGRATION],
        present=sum(count for _, count in present),
        shared=sum(count for page, count in present if page.mapped_by or (page.ksm and count > 1)),
        merged=sum(count for page, count in present if page.ksm and count > 1),
        lazyfree=sum(count for page, count in present if page.lazyfree),
        young=sum(count for page, count in present if page.young or page.referenced or page.secondary_young),
        armed=any({"uffd_missing", "uffd_wp"} & set(vma.flags) for vma in s.vmas),
        writable=any("write" in vma.flags for vma in covering or s.vmas),
        droppable=any("droppable" in vma.flags for vma in s.vmas),
        enabled_orders=_enabled_orders(s, is_khugepaged) if covering else 0,
        max_ptes_none=s.tunables.max_ptes_none,
        max_ptes_swap=s.tunables.max_ptes_swap,
        max_ptes_shared=s.tunables.max_ptes_shared,
        failures=tuple(failure.kind for failure in s.failures),
        events=tuple(event.op for event in s.events),
        actors=tuple(actor.op for actor in s.actors),
        pmd=s.pmd,
        memcg_limited=s.memcg_room is not None,
        passes=driver.passes,
        more=False,
        debug_vm=s.config.debug_vm,
        arch=s.config.arch,
        vmemmap=s.config.sparsemem_vmemmap,
    )


def _enabled_orders(s: Scenario, is_khugepaged: bool) -> int:
    world = build(s, _NOBODY)
    with world.system.running(world.task):
        return collapse_allowable_orders(world.vma, world.vma.vm_flags, is_khugepaged)
