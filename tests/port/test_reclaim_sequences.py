"""Whatever splitting, reclaim and users do after one another, in any configuration, the sanitizers have nothing to say."""

from __future__ import annotations

from random import Random
from typing import Final

import pytest

from kmm.kernel.task import Task
from kmm.mm.deferred_split import deferred_split_scan
from kmm.mm.folio import folio_get, folio_test_large, folio_trylock, folio_unlock
from kmm.mm.madvise_reclaim import madvise_cold_range, madvise_pageout_range
from kmm.mm.page_alloc import folio_put
from kmm.mm.split import split_folio, split_huge_pmd
from kmm.mm.swap import lru_add_drain_all
from kmm.mm.system import Injected
from kmm.mm.uaccess import user_load, user_store
from kmm.mm.vmscan import folio_referenced, swap_out_folio
from kmm.scenario.build import World
from kmm.scenario.model import Config
from tests.helpers import make, running
from tests.port.reclaiming import address, madvise_free_range, said, slot, zero

CONFIGS: Final = (
    Config(),
    Config(split_ptlocks=False),
    Config(highpte=True),
    Config(arch="walking"),
    Config(tlb="ipi"),
)
FLAGS: Final = ("mergeable", "read", "uffd_wp", "write")


def some_pages(rng: Random, ptes: int) -> str:
    """A map: small pages one by one, large folios in whole blocks, of which some pages may be missing."""
    out = ""
    while len(out) < ptes:
        block = rng.choice(["small", "small", "S", "2", "T", "3"])
        size = {"small": 1, "3": 8}.get(block, 4)
        if len(out) % size or len(out) + size > ptes:
            continue
        if block == "small":
            out += rng.choice("..zZaaocrnstwvyhpbumFLKY")
        else:
            out += "".join(block if rng.random() < 0.9 else "." for _ in range(size))
    return out


def use(world: World, rng: Random) -> None:
    """A process reads or writes a page."""
    mm = rng.choice(world.system.mms)
    at = address(world, rng.randrange(world.system.machine.ptes))
    with world.system.running(Task("user", world.system.machine.cpus[1], mm.ident)):
        outcome = user_store(mm, at, rng.randrange(1000, 10**6)) if rng.random() < 0.5 else user_load(mm, at)
    assert outcome in ("", "userfault")


def step(world: World, rng: Random) -> None:
    """One operation."""
    this, ptes = world.system, world.system.machine.ptes
    live = [folio for folio in this.folios if not folio.freed_by]
    first = rng.randrange(ptes)
    first, end = address(world, first), address(world, rng.randint(first + 1, ptes))
    match rng.randrange(12):
        case 0:
            madvise_free_range(world.vma, first, end)
        case 1:
            madvise_cold_range(world.vma, first, end)
        case 2:
            madvise_pageout_range(world.vma, first, end)
        case 3:
            deferred_split_scan()
        case 4:
            lru_add_drain_all()
        case 5 if live:
            swap_out_folio(rng.choice(live), force=rng.random() < 0.7)
        case 6 if live:
            folio_referenced(rng.choice(live), is_locked=False)
        case 7 | 8 | 9 | 10:
            use(world, rng)
        case _:
            split_huge_pmd(world.vma, slot(world), first)
            large = [folio for folio in live if folio_test_large(folio)]
            if large:
                folio = rng.choice(large)
                folio_get(folio)
                assert folio_trylock(folio)
                split_folio(folio)
                folio_unlock(folio)
                folio_put(folio)


@pytest.mark.parametrize("seed", range(120))
def test_no_sequence_breaks_anything(seed: int) -> None:
    rng = Random(seed)
    ptes = rng.choice([8, 16])
    huge = rng.random() < 0.2
    pages = "." * ptes if huge else some_pages(rng, ptes)
    scenario = make(
        pages,
        pmd="huge" if huge else "table",
        none=rng.randrange(ptes),
        flags=("read", "write") if huge else FLAGS,
        config=CONFIGS[seed % len(CONFIGS)],
        lru_batch=rng.choice([1, 3, 31]),
    )
    with running(scenario) as world:
        world.system.injected = Injected(swap_slots=frozenset(rng.sample(range(1, 20), 4)))
        for folio in [each for each in world.system.folios if each.order and rng.random() < 0.3]:
            zero(world, folio, *[i for i in range(1 << folio.order) if rng.random() < 0.5])
        for _ in range(rng.randint(1, 20)):
            step(world, rng)
            assert said(world) == []
        lru_add_drain_all()
        assert said(world) == []


@pytest.mark.parametrize(("pages", "pmd"), [("." * 512, "huge"), ("a" * 256 + "8" * 256, "table")])
def test_real_geometry(pages: str, pmd: str) -> None:
    with running(make(pages, pmd=pmd, none=0)) as world:
        madvise_free_range(world.vma, address(world, 3), address(world, 300))
        madvise_pageout_range(world.vma, address(world, 0), address(world, 512))
        lru_add_drain_all()
        assert world.mm._rss_stat == [0, 512 - 297]
        assert said(world) == []
