"""The code that runs is the variant's, for every driver."""

from __future__ import annotations

import attrs
import pytest

from kmm.kernel.ref import Ref
from kmm.mm.khugepaged.scan import collapse_scan_bitmap, collapse_scan_pmd, collapse_single_pmd
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.variant import Variant
from kmm.scenario.model import Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.run import run
from refactors import v12

GEOMETRY = Geometry(ptes=8)
DRIVERS = [
    Driver(kind=DriverKind.KHUGEPAGED),
    Driver(kind=DriverKind.MADVISE),
    Driver(kind=DriverKind.DIRECT, order=3),
    Driver(kind=DriverKind.DIRECT, order=2, offset=4, mmap_locked=False),
]


def scenario(driver: Driver) -> Scenario:
    """Eight private pages."""
    return Scenario(geometry=GEOMETRY, tunables=Tunables.default(GEOMETRY), vmas=(Vma(pages="a" * 8),), driver=driver)


@pytest.mark.parametrize("driver", DRIVERS, ids=str)
def test_every_driver_reaches_the_variants_collapse_huge_page(driver: Driver) -> None:
    calls: list[tuple[int, int]] = []

    def collapse_huge_page(
        mm: MmStruct, pmd_address: int, referenced: int, unmapped: int, cc: CollapseControl, mmap_locked: Ref[bool], order: int, offset: int
    ) -> ScanResult:
        calls.append((order, offset))
        return v12.collapse_huge_page(mm, pmd_address, referenced, unmapped, cc, mmap_locked, order, offset)

    run(scenario(driver), Variant(name="spy", collapse_huge_page=collapse_huge_page))
    assert calls == [(driver.order if driver.order is not None else 3, driver.offset)]


@pytest.mark.parametrize("driver", DRIVERS[:2], ids=str)
def test_every_scan_goes_through_each_link(driver: Driver) -> None:
    calls: list[str] = []

    def single(addr: int, vma: VmAreaStruct, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
        calls.append("collapse_single_pmd")
        return collapse_single_pmd(addr, vma, mmap_locked, cc)

    def scan(mm: MmStruct, vma: VmAreaStruct, start_addr: int, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
        calls.append("collapse_scan_pmd")
        return collapse_scan_pmd(mm, vma, start_addr, mmap_locked, cc)

    def bitmap(mm: MmStruct, address: int, referenced: int, unmapped: int, cc: CollapseControl, mmap_locked: Ref[bool], orders: int) -> int:
        calls.append("collapse_scan_bitmap")
        return collapse_scan_bitmap(mm, address, referenced, unmapped, cc, mmap_locked, orders)

    variant = attrs.evolve(v12.VARIANT, collapse_single_pmd=single, collapse_scan_pmd=scan, collapse_scan_bitmap=bitmap)
    run(scenario(driver), variant)
    assert calls == ["collapse_single_pmd", "collapse_scan_pmd", "collapse_scan_bitmap"]
