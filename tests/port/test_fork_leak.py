"""fork, then whatever parent and child do, then the end of both in either order: nothing is left of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

import attrs
import pytest

from kmm.mm import exit as mm_exit
from kmm.mm import fork, fork_huge, fork_ptes, zap
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.checks import PMD_STATES
from kmm.scenario.fits import misfit, needed_flags
from kmm.scenario.model import Config, Driver, DriverKind, Failure, Geometry, Scenario, Tunables, Vma
from kmm.scenario.quiescence import slots_in_use
from kmm.scenario.run import Run, run
from kmm.scenario.step import STEP_OPS, Step, Takes
from refactors import v12
from tests.concurrent.making import alone, outcomes, violations
from tests.test_sanitizers import Change, changed

GEOMETRY: Final = Geometry(ptes=8, lru_batch=3, ranges=2)
BETWEEN: Final[dict[str, tuple[Step, ...]]] = {
    "nothing": (),
    "the child writes": (Step(op="store", process=2, page=0, length=8),),
    "the parent writes": (Step(op="store", page=0, length=8),),
    "both write": (Step(op="store", process=2, page=0, length=8), Step(op="store", page=0, length=16)),
    "the child zaps": (Step(op="madvise", process=2, page=0, length=8, value="dontneed"),),
    "the parent zaps": (Step(op="madvise", page=0, length=3, value="dontneed"),),
    "the child's pages may be forgotten": (Step(op="madvise", process=2, page=0, length=8, value="free"),),
    "the parent's pages may be forgotten": (Step(op="madvise", page=0, length=3, value="free"),),
    "the child unmaps": (Step(op="munmap", process=2, page=0, length=3),),
    "the parent unmaps": (Step(op="munmap", page=0, length=8),),
    "swapped out": (Step(op="swapout", page=0, length=8),),
    "swapped out and in": (Step(op="swapout", page=0, length=8), Step(op="load", process=2, page=0, length=8), Step(op="load", page=0)),
    "the child moves": (Step(op="mremap", process=2, page=0, length=8, to=8),),
    "the child locks": (Step(op="mlock", process=2, page=0, length=8),),
    "the parent locks": (Step(op="mlock", page=0, length=16),),
    "the parent protects": (Step(op="mprotect", page=0, length=3, value="read"),),
    "the child collapses": (Step(op="madvise", process=2, page=0, length=8, value="collapse"),),
    "khugepaged": (Step(op="khugepaged"),),
    "split": (Step(op="split", page=0, length=8),),
    "pinned": (Step(op="pin", page=0), Step(op="store", page=0), Step(op="fork")),
}
CONFIGS: Final = (Config(), Config(split_ptlocks=False, highpte=True), Config(pt_reclaim=True))


def starts() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """A map, what the PMD entries are, and the flags of the VMA: each letter as a run and alone, each PMD state."""
    for letter, page in ALPHABET.items():
        if 1 << page.order > GEOMETRY.ptes:
            continue
        flags = tuple(sorted({"read", "write", *needed_flags(page)}))
        if misfit(page, flags) is not None:
            flags = tuple(sorted({"read", *needed_flags(page)}))
        length = max(4, 1 << page.order)
        yield letter * length + "." * (GEOMETRY.pages - length), "table", flags
        if not page.order:
            yield letter + "." * (GEOMETRY.pages - 1), "table", flags
    for state in PMD_STATES:
        yield "." * GEOMETRY.pages, f"{state} table", ("read", "write")
    yield "." * GEOMETRY.pages, "huge huge", ("read", "write")


def system(pages: str, pmd: str, flags: tuple[str, ...], steps: tuple[Step, ...], config: Config = CONFIGS[0]) -> Scenario:
    return Scenario(
        geometry=GEOMETRY,
        config=config,
        tunables=Tunables.default(GEOMETRY).with_orders(GEOMETRY, 3),
        vmas=(Vma(pages=pages, flags=flags),),
        pmd=pmd,
        driver=Driver(kind=DriverKind.STEPS),
        steps=steps,
    )


def life(pages: str, between: tuple[Step, ...], *, child_first: bool) -> tuple[Step, ...]:
    """A fork, the steps between, the end of every process, and what frees the rest: khugepaged forgets them, batches are drained."""
    siblings = max(ALPHABET[letter].mapped_by for letter in pages)
    child = 2 + siblings
    named = [attrs.evolve(step, process=child) if step.process == 2 else step for step in between]
    last = child + sum(step.op == "fork" for step in named)
    everybody = range(1, last + 1)
    exits = [Step(op="exit", process=number) for number in (reversed(everybody) if child_first else everybody)]
    return (Step(op="fork"), *named, *exits, *(Step(op="khugepaged"),) * 2, Step(op="drain"))


def done(s: Scenario) -> Run:
    """A run of the steps without those that cannot happen."""
    while True:
        r = run(s, v12.VARIANT)
        if not r.outcome.startswith("impossible"):
            return r
        at = len(r.steps)
        s = attrs.evolve(s, steps=s.steps[:at] + s.steps[at + 1 :])


def left(r: Run) -> list[str]:
    """What there still is, without what somebody else holds: pages that are pinned, and those that are being migrated."""
    this = r.world.system
    found = [f"{each.check}: {each.text}" for each in this.machine.reports]
    held = [f for f in this.folios if not f.freed_by and (f._pincount or f.pfn in this.migrations._under_way)]
    found += [f"{f.label} with {f._refcount} references" for f in this.folios if not f.freed_by and f not in held]
    found += [f"{f.label} mapped {f._mapcount} times" for f in held if f._mapcount]
    found += [f"{f.label} with {f._refcount} references" for f in held if f._refcount > f._pincount + (f.pfn in this.migrations._under_way)]
    found += [table.name for table in this.tables.values() if not table.freed_by]
    found += [f"swap slot {offset}" for offset in slots_in_use(this)]
    for mm in this.mms:
        empty = not (mm._pgtables_bytes or any(mm._rss_stat) or mm._ksm_zero_pages or mm._vmas)
        entries = any(page is not None and (page.slot._val or page._deposited) for page in mm._pmds)
        if not empty or entries or mm.freed_by != "mmdrop":
            found.append(mm.name)
    charged = sum(1 << f.order for f in held)
    if this.mms[0].memcg._usage != charged:
        found.append(f"{this.mms[0].memcg._usage} pages charged, {charged} held")
    if any(cpu._lru_add or cpu._lru_lazyfree or cpu._mlock_fbatch for cpu in this.per_cpu):
        found.append("a batch")
    anon = {f.order for f in held if f.order}
    found += [name for (order, name), value in this.mthp_stats.items() if name.startswith("nr_") and value and order not in anon]
    found += [name for name in ("nr_anon_mapped", "nr_anon_thps", "nr_mlock", "ksm_zero_pages") if this.node_stat.get(name)]
    return found + (["shadow memory"] if this.shadow or this.lazyfree or this.leaving else [])


def survey(between: tuple[Step, ...], config: Config = CONFIGS[0], pinned: bool = False) -> list[str]:
    """What is left after all of these lives, each with its start."""
    found = []
    for (pages, pmd, flags), child_first in product(starts(), (True, False)):
        steps = life(pages, between, child_first=child_first)
        before, after = ((Step(op="pin", page=0),), (Step(op="unpin", page=0),)) if pinned else ((), ())
        r = done(system(pages, pmd, flags, (*before, *steps[: len(between) + 1], *after, *steps[len(between) + 1 :]), config))
        found += [f"{pages} {pmd} {child_first}: {what}" for what in (left(r) if r.outcome == "returned" else [r.outcome])]
    return found


@pytest.mark.parametrize("name", BETWEEN)
def test_nothing_is_left(name: str) -> None:
    assert survey(BETWEEN[name]) == []


@pytest.mark.full
@pytest.mark.parametrize("config", CONFIGS[1:], ids=("one lock, high memory", "tables are reclaimed"))
@pytest.mark.parametrize("pinned", [False, True])
def test_nothing_is_left_elsewhere_either(config: Config, pinned: bool) -> None:
    for between in BETWEEN.values():
        assert survey(between, config, pinned) == []


def failing(pages: str, *failures: Failure, pmd: str = "table") -> Scenario:
    """Pinned pages, which fork copies, and failures; the child ends if there is one."""
    pins = tuple(Step(op="pin", page=page) for page in (0, 2))
    back = tuple(Step(op="unpin", page=page) for page in (0, 2))
    steps = (*pins, Step(op="fork"), *back, *(Step(op="exit", process=n) for n in (1, 2)), *(Step(op="khugepaged"),) * 2, Step(op="drain"))
    return attrs.evolve(system(pages, pmd, ("read", "write"), steps), failures=failures)


@pytest.mark.parametrize(
    ("kind", "at"),
    [
        ("alloc", {"nth": 1}),
        ("alloc", {"nth": 2}),
        ("charge", {"nth": 1}),
        ("charge", {"nth": 2}),
        ("poison", {"page": 2}),
        ("slot", {"nth": 1}),
    ],
)
@pytest.mark.parametrize(("pages", "pmd"), [("aaaa" + "w" * 12, "table"), ("2222" + "." * 12, "table"), ("." * 16, "huge huge")])
def test_a_fork_that_fails_leaves_nothing(kind: str, at: dict[str, int], pages: str, pmd: str) -> None:
    r = done(failing(pages, Failure(kind=kind, **at), pmd=pmd))
    assert r.steps[2] == ("done" if kind == "slot" else "ENOMEM")
    assert set(r.steps[3:6]) == {"done"}
    assert left(r) == []


def test_the_batches_are_drained_when_the_last_process_has_gone() -> None:
    assert Takes.PROCESS not in STEP_OPS["drain"][0]
    assert done(system("b" * 16, "table", ("read", "write"), (Step(op="exit"), Step(op="drain")))).steps == ("done", "done")


UNPINNED: Final = alone("fork", "gup:0", pages="a.......")


def test_a_page_that_is_unpinned_while_its_copy_is_allocated_is_shared_and_nothing_is_left() -> None:
    """The folio for the copy is not needed then."""
    found = outcomes(UNPINNED)
    assert violations(found) == set()
    assert {len(found.observation(each).folios) for each in found.all} == {1, 2}
    with changed(Change("", fork._copy_ptes, "_put_unused(prealloc)", "prealloc.value = None", UNPINNED)):
        assert any("references at the end" in each for each in violations(outcomes(UNPINNED)))


SHARED: Final = ("a" * 16, "table", ("read", "write"))
HUGE: Final = ("." * 16, "huge table", ("read", "write"))
SWAPPED: Final = ("w" * 16, "table", ("read", "write"))
POISON: Final = failing("aaaa" + "." * 12, Failure(kind="poison", page=0))
STAYS: Final = attrs.evolve(POISON, steps=tuple(step for step in POISON.steps if step.process == 1))


def lives(start: tuple[str, str, tuple[str, ...]], name: str = "nothing") -> Scenario:
    return system(*start, life(start[0], BETWEEN[name], child_first=True))


@pytest.mark.parametrize(
    ("function", "old", "new", "s"),
    [
        (fork_ptes._share, "folio_get(folio)", "folio_get(folio); folio_get(folio)", lives(SHARED)),
        (fork_ptes._share, "folio_put(folio)", "pass", failing("aaaa" + "." * 12)),
        (fork._put_unused, "folio_put(prealloc.value)", "pass", POISON),
        (fork_huge.copy_huge_pmd, "pte_free(new.vm_mm, pgtable)", "pass", failing("." * 16, pmd="huge table")),
        (fork_huge._share_huge, "folio_put(folio)", "pass", failing("." * 16, pmd="huge table")),
        (fork_ptes._copy_nonpresent, "swap_duplicate(offset)", "swap_duplicate(offset); swap_duplicate(offset)", lives(SWAPPED)),
        (fork.dup_mm, "mmput(mm)", "pass", STAYS),
        (mm_exit.exit_mmap, "free_pgtables(tlb, start, end)", "pass", lives(SHARED)),
        (mm_exit.exit_mmap, "forget_pages(mm, start, end)", "pass", lives(SHARED)),
        (zap.zap_huge_pmd, 'current.machine.free(withdrawn, "zap_deposited_table")', "pass", lives(HUGE)),
    ],
    ids=lambda value: getattr(value, "__name__", "") if callable(value) else "",
)
def test_a_seeded_leak_is_found(function: object, old: str, new: str, s: Scenario) -> None:
    assert left(done(s)) == []
    with changed(Change("", function, old, new, s)):
        assert left(done(s)) != []
