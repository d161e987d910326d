"""``migrate_folio``: what a migration leaves when nobody runs beside it. Expected values are the reference's (12.11)."""

from __future__ import annotations

import attrs
import pytest

from kmm.kernel import current
from kmm.mm.migrate_folio import migrate_folio
from kmm.mm.pte import FLAG_BITS, pte_t
from kmm.mm.swap import lru_add_drain_all
from kmm.mm.system import Injected
from kmm.scenario.build import World
from kmm.scenario.quiescence import check_quiescence
from kmm.scenario.run import run
from kmm.scenario.step import Step
from refactors import v12
from tests.concurrent.making import alone
from tests.helpers import folio_of, make, running
from tests.port.reclaiming import bits, entries, ptes, said

CARRIED = ({"write"}, {"young"}, {"dirty"}, {"dirty", "soft_dirty"}, set[str]())


def at_rest(world: World) -> list[str]:
    """What the sanitizers say then."""
    lru_add_drain_all()
    check_quiescence(world)
    return said(world)


@pytest.mark.parametrize("lost", CARRIED, ids=lambda lost: " ".join(sorted(lost)))
def test_the_entry_keeps_its_bits(lost: set[str]) -> None:
    with running(make("aaaaaaaa")) as world:
        old = folio_of(world, 3)
        ptes(world)[3] = pte_t(ptes(world)[3] & ~sum(FLAG_BITS[bit] for bit in lost))
        before, contents = bits(world, 3), old.pages[0]._contents
        assert migrate_folio(old) == ""
        new = folio_of(world, 3)
        assert (new is old, old.freed_by, bits(world, 3), new.pages[0]._contents) == (False, "folio_put", before, contents)
        assert (new._mapcount, new._memcg, old._memcg) == (1, world.mm.memcg, None)
        assert world.system.vm_events == {"pgmigrate_success": 1}
        assert at_rest(world) == []


def test_a_page_that_others_have_too() -> None:
    """Both entries lead to the new page, and it is not exclusive."""
    with running(make("saaaaaaa")) as world:
        old = folio_of(world, 0)
        assert migrate_folio(old) == ""
        new = folio_of(world, 0)
        assert (old.freed_by, new._mapcount, new.pages[0]._flags) == ("folio_put", 2, 0)
        assert at_rest(world) == []


def test_a_pinned_page_stays() -> None:
    with running(make("aaaaaaaa")) as world:
        old = folio_of(world, 0)
        before = ptes(world)[0]
        current.machine.fetch_add(old, type(old).pincount, 1)
        current.machine.fetch_add(old, type(old).refcount, 1)
        assert migrate_folio(old) == "EAGAIN", "its references are seen before it is isolated"
        assert (ptes(world)[0], old._refcount) == (before, 2)
        assert world.system.vm_events == {}
        assert at_rest(world) == []


def test_without_memory_it_stays() -> None:
    with running(make("aaaaaaaa")) as world:
        world.system.injected = Injected(alloc=frozenset({1}))
        old = folio_of(world, 0)
        assert migrate_folio(old) == "ENOMEM"
        assert (folio_of(world, 0), world.system.vm_events) == (old, {"pgmigrate_fail": 1})
        assert at_rest(world) == []


def test_off_the_lru_it_stays() -> None:
    with running(make("baaaaaaa")) as world:
        assert migrate_folio(folio_of(world, 0)) == "EAGAIN"


def test_a_huge_page_stays_huge() -> None:
    with running(make("........", pmd="huge")) as world:
        old = world.system.folios[0]
        contents = [page._contents for page in old.pages]
        assert migrate_folio(old) == ""
        new = world.system.folios[-1]
        assert (new.order, new._entire_mapcount, new._mapcount, old.freed_by) == (3, 1, 1, "folio_put")
        assert [page._contents for page in new.pages] == contents
        assert world.system.vm_events == {"pgmigrate_success": 1, "thp_migration_success": 1}
        assert at_rest(world) == []


def test_a_large_folio_stays_large() -> None:
    with running(make("2222aaaa")) as world:
        old = folio_of(world, 0)
        assert migrate_folio(old) == ""
        new = folio_of(world, 0)
        assert (new.order, new._mapcount, entries(world)[:4]) == (old.order, 4, [f"{new.label}[{i}]" for i in range(4)])
        assert at_rest(world) == []


def test_the_swap_cache_knows_the_new_page() -> None:
    """Its references: a mapping, the swap cache, the LRU batch."""
    page = Step(op="swapin", page=0), Step(op="drain"), Step(op="migrate", page=0)
    done = run(attrs.evolve(alone("drain", pages="yaaaaaaa"), actors=(), steps=page), v12.VARIANT)
    cached = done.world.system.swap[1]._cached
    assert cached is not None
    assert (done.steps, cached, cached._refcount, cached.freed_by) == (("done",) * 3, folio_of(done.world, 0), 3, "")
    assert done.world.system.machine.reports == []
