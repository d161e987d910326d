"""Small scope: sets at 8 and 16 PTEs that can be written in one sentence, exhausted; then covering sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, combinations, product
from typing import Final

import attrs

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.checks import PMD_STATES, THP_DISABLE
from kmm.scenario.factors import Factors, covering_family, drivers
from kmm.scenario.families import Family
from kmm.scenario.fits import fitting_flags, misfit
from kmm.scenario.model import POINTS, VMA_FLAGS, Config, Driver, DriverKind, Event, Failure, Geometry, Scenario, Tunables, Vma
from kmm.scenario.state_tunables import state_tunables_family
from kmm.scenario.states import page_states

EIGHT: Final = Geometry(ptes=8)
SIXTEEN: Final = Geometry(ptes=16, lru_batch=3)
BATCHES: Final = (attrs.evolve(EIGHT, lru_batch=1), attrs.evolve(EIGHT, lru_batch=3), EIGHT)
KHUGEPAGED: Final = Driver(kind=DriverKind.KHUGEPAGED)
MADVISE: Final = Driver(kind=DriverKind.MADVISE)
_DEFAULT: Final = Tunables.default(EIGHT)
ALL_ORDERS: Final = _DEFAULT.with_orders(EIGHT, 2, 3)
LENIENT: Final = attrs.evolve(ALL_ORDERS, max_ptes_swap=7, max_ptes_shared=7)
LETTERS: Final = tuple(c for c in ALPHABET if 1 << ALPHABET[c].order <= EIGHT.ptes)
LETTERS_16: Final = tuple(c for c in ALPHABET if 1 << ALPHABET[c].order <= SIXTEEN.ptes)
READ_ONLY: Final = tuple(c for c in LETTERS if misfit(ALPHABET[c], ("read",)) is None)
FEW_LETTERS: Final = tuple(".orswp2u")
ATTEMPTS: Final = tuple(
    Driver(kind=DriverKind.DIRECT, order=order, offset=offset, is_khugepaged=khugepaged, mmap_locked=locked)
    for order, offset in ((3, 0), (2, 0), (2, 4))
    for khugepaged in (True, False)
    for locked in (True, False)
)
DRIVERS: Final = (KHUGEPAGED, MADVISE, ATTEMPTS[0], ATTEMPTS[5], ATTEMPTS[10])
MIXED: Final = ("aaaaaaaa", "aaaa....", "ww.aazsa", "2222saan", "hvaaaaao", "33333333", "22.2cfra", "....aaaw")
UNWRITABLE: Final = ("rrrrrrrr", ".....rrr")
HALVES: Final = ("rrrrrrrr", "rrrr....", "....rr..", "rrr.rr..", "rrr.rrr.")
_ARMED: Final = ("read", "uffd_wp", "write")


def _scenario(
    pages: str,
    driver: Driver,
    tunables: Tunables = ALL_ORDERS,
    *,
    geometry: Geometry = EIGHT,
    flags: tuple[str, ...] = ("read", "write"),
    config: Config = Config(),  # noqa: B008 (a frozen value)
    events: tuple[Event, ...] = (),
    failures: tuple[Failure, ...] = (),
) -> Scenario:
    return Scenario(
        geometry=geometry,
        config=config,
        tunables=tunables,
        vmas=(Vma(pages=pages, flags=flags),),
        driver=driver,
        events=events,
        failures=failures,
    )


def _fits(pages: str) -> tuple[str, ...]:
    """The flags of a writable VMA in which every letter of ``pages`` may stand."""
    return fitting_flags(ALPHABET[c] for c in pages)


def _maps(letters: str, driver: Driver, tunables: Tunables, flags: tuple[str, ...] = ("read", "write")) -> Iterator[Scenario]:
    for pages in product(letters, repeat=8):
        yield _scenario("".join(pages), driver, tunables, flags=flags)


def _deviations(geometries: Iterable[Geometry], drivers: Iterable[Driver]) -> Iterator[Scenario]:
    for geometry, driver, letter, at in product(geometries, drivers, LETTERS, range(8)):
        pages = "a" * at + letter + "a" * (7 - at)
        yield _scenario(pages, driver, LENIENT, geometry=geometry, flags=_fits(pages))


def _deviations_16() -> Iterator[Scenario]:
    lenient = attrs.evolve(Tunables.default(SIXTEEN).with_orders(SIXTEEN, 2, 3, 4), max_ptes_swap=15, max_ptes_shared=15)
    for driver, letter, at in product(drivers(SIXTEEN), LETTERS_16, range(16)):
        pages = "a" * at + letter + "a" * (15 - at)
        yield _scenario(pages, driver, lenient, geometry=SIXTEEN, flags=_fits(pages))


def _deviations_read_only() -> Iterator[Scenario]:
    for driver, letter, at in product(drivers(EIGHT), READ_ONLY, range(8)):
        yield _scenario("r" * at + letter + "r" * (7 - at), driver, LENIENT, flags=("read",))


def _states(held: bool) -> Iterator[Scenario]:
    for state in page_states(held=held):
        vma = Vma(pages="e" + "a" * 7, flags=fitting_flags([state]))
        yield Scenario(geometry=EIGHT, tunables=LENIENT, vmas=(vma,), letters=(("e", state),), driver=KHUGEPAGED)


def _pairs(places: Iterable[tuple[int, int]], driver: Driver) -> Iterator[Scenario]:
    for (i, j), first, second in product(places, LETTERS, LETTERS):
        pages = "a" * i + first + "a" * (j - i - 1) + second + "a" * (7 - j)
        yield _scenario(pages, driver, LENIENT, flags=_fits(pages))


_WRITES: Final = (
    ("hugepages-2", "never"),
    ("hugepages-3", "never"),
    ("hugepages-3", "inherit"),
    ("enabled", "never"),
    ("max_ptes_none", "0"),
    ("max_ptes_none", "8"),
    ("max_ptes_shared", "0"),
)
_EVENTS: Final = (
    *(Event(op="sysfs", before="alloc", name=name, value=value) for name, value in _WRITES),
    *(Event(op=op, before="alloc") for op in ("munmap", "replace_vma", "free_table", "exit", "prctl")),
    Event(op="prctl", before="alloc", value="except_advised"),
    *(Event(op=op, before="alloc", page=page) for op, page in (("replace_vma", 4), ("pin", 0), ("pin", 5), ("zap", 0), ("zap", 5))),
)


def _events() -> Iterator[Scenario]:
    for event, point, nth, pages, driver in product(_EVENTS, POINTS, (1, 2), MIXED, DRIVERS):
        yield _scenario(pages, driver, LENIENT, events=(attrs.evolve(event, before=point, nth=nth),))


def _failures() -> Iterator[Scenario]:
    by_count = [Failure(kind=kind, nth=nth) for kind in ("alloc", "charge") for nth in (1, 2, 3)]
    by_page = [Failure(kind=kind, page=page) for kind in ("poison", "swapin_error", "swapin_retry") for page in range(8)]
    for failure, pages, driver in product((*by_count, *by_page), MIXED, DRIVERS):
        yield _scenario(pages, driver, LENIENT, failures=(failure,))


def _tunables() -> Iterator[Scenario]:
    for none, swap, shared, pages, orders in product(range(8), (0, 1, 2, 7), (0, 1, 2, 7), MIXED, ((2,), (3,), (2, 3))):
        limits = attrs.evolve(_DEFAULT.with_orders(EIGHT, *orders), max_ptes_none=none, max_ptes_swap=swap, max_ptes_shared=shared)
        yield _scenario(pages, KHUGEPAGED, limits)


def _enables() -> Iterator[Scenario]:
    modes = ("always", "inherit", "madvise", "never")
    advice = (("read", "write"), ("hugepage", "read", "write"), ("nohugepage", "read", "write"))
    switches = product(product(modes, repeat=2), ("always", "madvise", "never"), (True, False), advice, DRIVERS, ("aaaaaaaa", "aaaa...."))
    for hugepages, enabled, defrag, flags, driver, pages in switches:
        tunables = attrs.evolve(_DEFAULT, hugepages=hugepages, enabled=enabled, defrag=defrag, shrink_underused=defrag)
        yield _scenario(pages, driver, tunables, flags=flags)


def _configs(drivers: Iterable[Driver]) -> Iterator[Scenario]:
    either = (True, False)
    switches = product(either, either, ("broadcast", "ipi"), ("x86", "walking"), either, either, either)
    for debug_vm, split_ptlocks, tlb, arch, highpte, pt_reclaim, vmemmap in switches:
        config = Config(
            debug_vm=debug_vm,
            split_ptlocks=split_ptlocks,
            tlb=tlb,
            arch=arch,
            highpte=highpte,
            pt_reclaim=pt_reclaim,
            sparsemem_vmemmap=vmemmap,
        )
        for pages, driver in product(MIXED, drivers):
            yield _scenario(pages, driver, LENIENT, config=config)


def _large_pages() -> Iterator[Scenario]:
    geometry = attrs.evolve(EIGHT, page_size=65536)
    for letter, at in product(LETTERS, range(8)):
        pages = "a" * at + letter + "a" * (7 - at)
        yield _scenario(pages, KHUGEPAGED, LENIENT, geometry=geometry, flags=_fits(pages))


def _without_pages() -> Iterator[Scenario]:
    for driver in (KHUGEPAGED, MADVISE, *ATTEMPTS):
        for pmd in PMD_STATES[1:]:
            yield attrs.evolve(_scenario("." * 8, driver), pmd=pmd)
        for letter in ".zU":
            vma = Vma(pages=letter * 8, flags=_fits(letter), anon_vma=False)
            yield Scenario(geometry=EIGHT, tunables=ALL_ORDERS, vmas=(vma,), driver=driver)


def _counted() -> Iterator[Scenario]:
    for driver, referenced, unmapped, pages in product(ATTEMPTS, (0, 1, 8), (0, 1), MIXED):
        yield _scenario(pages, attrs.evolve(driver, referenced=referenced, unmapped=unmapped), LENIENT)


def _deposited() -> Iterator[Scenario]:
    for deposited, pages, driver in product((1, 2), MIXED, DRIVERS):
        yield attrs.evolve(_scenario(pages, driver, LENIENT), deposited=deposited)


def _vma_edges() -> Iterator[Scenario]:
    for pages, driver in product(MIXED, DRIVERS):
        whole = _scenario(pages, driver, LENIENT)
        vma = whole.vmas[0]
        for first, end in combinations(range(9), 2):
            before, after = (0, 8)[: 1 + (first == 0)], (0, 8)[: 1 + (end == 8)]
            for beyond in product(before, after):
                start = None if (first, end) == (0, 8) else first
                cut = attrs.evolve(vma, pages=pages[first:end], start=start, before=beyond[0], after=beyond[1])
                yield attrs.evolve(whole, vmas=(cut,))


def _several_vmas() -> Iterator[Scenario]:
    for pages, driver, at, gap in product(MIXED, DRIVERS, range(1, 8), (0, 1)):
        whole = _scenario(pages, driver, LENIENT)
        if at + gap < 8:
            first = attrs.evolve(whole.vmas[0], pages=pages[:at], start=0, before=8)
            second = attrs.evolve(whole.vmas[0], pages=pages[at + gap :], start=at + gap, flags=("dontdump", "read", "write"), after=8)
            yield attrs.evolve(whole, vmas=(first, second))


def _vma_flags() -> Iterator[Scenario]:
    for flag, pages, driver in product(VMA_FLAGS, ("aaaaaaaa", "aaaa....", "FFFFFFF.", "........"), DRIVERS):
        flags = tuple(sorted({"read", "write", flag, *(("locked",) if flag == "lockonfault" else ())}))
        if all(misfit(ALPHABET[c], flags) is None for c in pages):
            yield _scenario(pages, driver, LENIENT, flags=flags)


def _processes() -> Iterator[Scenario]:
    advice = (("read", "write"), ("hugepage", "read", "write"))
    for thp_disable, flags, pages, driver in product(THP_DISABLE, advice, MIXED, DRIVERS):
        yield attrs.evolve(_scenario(pages, driver, LENIENT, flags=flags), thp_disable=thp_disable)


def _cgroups() -> Iterator[Scenario]:
    for room, pages, driver in product(range(10), MIXED, DRIVERS):
        yield attrs.evolve(_scenario(pages, driver, LENIENT), memcg_room=room)


def _nodes() -> Iterator[Scenario]:
    for some, node_reclaim, driver in product(product("amR", repeat=4), (True, False), (KHUGEPAGED, MADVISE)):
        yield _scenario("".join(some) + "aaaa", driver, attrs.evolve(LENIENT, node_reclaim=node_reclaim))


def _migrations() -> Iterator[Scenario]:
    again = [Failure(kind="migration_again", page=page) for page in (0, 1, 5)]
    for failures, pages, driver in product([(), *((each,) for each in again)], ("Maaaaaaa", "MMaaaMaa", "aDaaaMaw", "MMMMMMMM"), DRIVERS):
        yield _scenario(pages, driver, LENIENT, failures=failures)


def _passes() -> Iterator[Scenario]:
    creeping = ("aaa.....", "aaaa....", "a.a.a.a.", "aaa.aaa.")
    for kind, passes, none, pages, orders in product((KHUGEPAGED, MADVISE), (2, 3), range(8), (*MIXED, *creeping), ((3,), (2, 3))):
        limits = attrs.evolve(_DEFAULT.with_orders(EIGHT, *orders), max_ptes_none=none, max_ptes_swap=7, max_ptes_shared=7)
        yield _scenario(pages, attrs.evolve(kind, passes=passes), limits)


def _halves() -> Iterator[Scenario]:
    events = ((), *((event,) for event in _EVENTS if event.op in ("sysfs", "pin", "zap", "prctl")))
    for flags, pages, orders, none, some, before in product((("read",), ("read", "write")), HALVES, ((2,), (2, 3)), (3, 7), events, POINTS):
        limits = attrs.evolve(_DEFAULT.with_orders(EIGHT, *orders), max_ptes_none=none)
        yield _scenario(pages, KHUGEPAGED, limits, flags=flags, events=tuple(attrs.evolve(event, before=before) for event in some))


_FEW_PRESENT: Final = ("........", "wwwwwwww", "zw.z.w..", "vaaaaaaa")


def _few_present() -> Iterator[Scenario]:
    zaps = ((), *((Event(op="zap", before=point, page=0),) for point in POINTS))
    only_pmd = attrs.evolve(_DEFAULT.with_orders(EIGHT, 3), max_ptes_swap=7)
    for pages, driver, none, events, vmemmap in product(_FEW_PRESENT, (KHUGEPAGED, MADVISE), (0, 7), zaps, (True, False)):
        limits = attrs.evolve(only_pmd, max_ptes_none=none)
        yield _scenario(pages, driver, limits, config=Config(sparsemem_vmemmap=vmemmap), events=events)


_QUADS: Final = ("aaaa", "....", "a...", "oooo", "2222", "ssaa", "waaa")


def _quads(*several: tuple[int, ...]) -> Iterator[Scenario]:
    base = attrs.evolve(Tunables.default(SIXTEEN), max_ptes_swap=15, max_ptes_shared=15)
    for orders, quads in product(several, product(_QUADS, repeat=4)):
        yield _scenario("".join(quads), KHUGEPAGED, base.with_orders(SIXTEEN, *orders), geometry=SIXTEEN)


def _family(name: str, sentence: str, scenarios: Callable[[], Iterator[Scenario]]) -> Family:
    return Family(name, "exhaustive", sentence, scenarios)


_ROWS: Final = (
    (".aoz", "khugepaged with every order", KHUGEPAGED, ALL_ORDERS, ("read", "write")),
    ("aKZF", "khugepaged with every order in a VMA in which KSM merges", KHUGEPAGED, LENIENT, ("mergeable", "read", "write")),
    ("agMH", "khugepaged with every order, without swap limit", KHUGEPAGED, LENIENT, ("read", "write")),
    ("asw2", "khugepaged with every order, without swap and shared limits", KHUGEPAGED, LENIENT, ("read", "write")),
    (".w2s", "MADV_COLLAPSE", MADVISE, ALL_ORDERS, ("read", "write")),
    ("rn.s", "khugepaged with every order in a read-only VMA", KHUGEPAGED, ALL_ORDERS, ("read",)),
    ("au.q", "khugepaged with every order in a VMA armed for uffd-wp", KHUGEPAGED, LENIENT, _ARMED),
)
"""Letters that go together, and under whom they are judged."""


def _maps_of_halves() -> Family:
    """A part of the whole-map families over four letters."""
    each = "; ".join(f"{{{', '.join(letters)}}} under {who}" for letters, who, *_ in _ROWS)

    def scenarios() -> Iterator[Scenario]:
        for letters, _, driver, tunables, flags in _ROWS:
            for half in map("".join, product(letters, repeat=4)):
                for pages in dict.fromkeys((half * 2, half + half[::-1])):
                    yield _scenario(pages, driver, tunables, flags=flags)

    sentence = f"every map of 8 pages whose second half is the first one, or that in reverse, over {each}"
    return _family("repeated halves", sentence, scenarios)


def _map_families(letters: int) -> tuple[Family, ...]:
    """Whole-map families over the first ``letters`` of each row."""
    families = []
    for row, who, driver, tunables, flags in _ROWS:
        some = row[:letters]
        sentence = f"every map of 8 pages over {{{', '.join(some)}}} under {who}"

        def scenarios(
            some: str = some, driver: Driver = driver, limits: Tunables = tunables, flags: tuple[str, ...] = flags
        ) -> Iterator[Scenario]:
            return _maps(some, driver, limits, flags)

        families.append(_family(f"maps over {some}", sentence, scenarios))
    return tuple(families)


def _first_look() -> Family:
    orders = (LENIENT, LENIENT.with_orders(EIGHT, 2))
    drivers = f"khugepaged, MADV_COLLAPSE and {len(DRIVERS) - 2} direct attempts"
    return _family(
        "first look",
        f"the maps {' '.join(MIXED)}, and {' '.join(UNWRITABLE)} in a read-only VMA, under {drivers}, with orders 2 and 3 or 2 alone",
        lambda: chain(
            (_scenario(*each) for each in product(MIXED, DRIVERS, orders)),
            (_scenario(*each, flags=("read",)) for each in product(UNWRITABLE, DRIVERS, orders)),
        ),
    )


def _one_deviating_page() -> Family:
    return _family(
        "one deviating page",
        "every letter at every place of 8 private pages, under khugepaged and MADV_COLLAPSE with LRU batches of 1, 3 and 31, and under "
        "every attempt with one of 3",
        lambda: chain(_deviations(BATCHES, (KHUGEPAGED, MADVISE)), _deviations(BATCHES[1:2], ATTEMPTS)),
    )


def _one_deviating_page_more_batches() -> Family:
    return _family(
        "one deviating page, other LRU batches",
        "every letter at every place of 8 private pages, under every attempt with LRU batches of 1 and 31",
        lambda: _deviations((BATCHES[0], BATCHES[2]), ATTEMPTS),
    )


def first_families() -> tuple[Family, ...]:
    """Sets of some hundred scenarios, which both scopes begin with: a small set that shows a mistake shows it soon."""
    maps = f"the maps {' '.join(MIXED)}"
    mixed = f"{maps}, under khugepaged, MADV_COLLAPSE and {len(DRIVERS) - 2} direct attempts"
    return (
        _first_look(),
        _family(
            "no table",
            "every driver where there is no table, no PMD page, a huge page, the huge zero page, a huge page that is being migrated, or no "
            "anon_vma",
            _without_pages,
        ),
        _family("deposited tables", f"one or two tables that wait behind the PMD page, in {mixed}", _deposited),
        _family("64 KiB pages", "every letter at every place of 8 private pages of 64 KiB, under khugepaged", _large_pages),
        _family(
            "two VMAs",
            f"two VMAs that meet at page 1 to 7, or that leave out one page, and go on on both sides of the table, in {mixed}",
            _several_vmas,
        ),
        _family(
            "VMA flags",
            f"every VMA flag beside read and write, in the maps aaaaaaaa aaaa.... FFFFFFF. ........ that fit it, under khugepaged, "
            f"MADV_COLLAPSE and {len(DRIVERS) - 2} direct attempts",
            _vma_flags,
        ),
        _family(
            "process switches", f"PR_SET_THP_DISABLE not set, set, and set but for advised VMAs, advised or not, in {mixed}", _processes
        ),
        _family("cgroup limits", f"a cgroup that may be charged 0 to 9 pages more, in {mixed}", _cgroups),
        _family(
            "nodes",
            "every map of 4 pages over {a, m, R} before 4 private pages, with and without node reclaim, under khugepaged and MADV_COLLAPSE",
            _nodes,
        ),
        _family(
            "migrations",
            "migration of no page or of page 0, 1 or 5 beginning once more after it was waited for, in the maps Maaaaaaa MMaaaMaa aDaaaMaw "
            f"MMMMMMMM, under khugepaged, MADV_COLLAPSE and {len(DRIVERS) - 2} direct attempts",
            _migrations,
        ),
        _family(
            "few pages present",
            f"the maps {' '.join(_FEW_PRESENT)} with PMD order only, max_ptes_none 0 and 7, with and without a vmemmap, without an event "
            "and with page 0 zapped before each sleeping point, under khugepaged and MADV_COLLAPSE",
            _few_present,
        ),
        _family("counts", f"every direct attempt with referenced 0, 1 and 8 and unmapped 0 and 1 in {maps}", _counted),
    )


def _common() -> tuple[Family, ...]:
    maps = f"the maps {' '.join(MIXED)}"
    mixed = f"{maps}, under khugepaged, MADV_COLLAPSE and {len(DRIVERS) - 2} direct attempts"
    everything = (
        f"{len(_WRITES)} sysfs writes, munmap, replace_vma whole and from page 4, free_table, exit, both forms of prctl, pin and zap of "
        "pages 0 and 5"
    )
    return (
        _family("failures", f"the first to third allocation and charge, and every page read or swapped in, failing in {mixed}", _failures),
        _family("events", f"{everything}, each before the first and second passing of every sleeping point, in {mixed}", _events),
        _family(
            "limits",
            f"max_ptes_none 0 to 7, max_ptes_swap and max_ptes_shared 0, 1, 2 and 7, with orders 2, 3 or both, in {maps}, under khugepaged",
            _tunables,
        ),
        _family(
            "passes",
            "two and three passes by khugepaged and by MADV_COLLAPSE, with max_ptes_none 0 to 7 and order 3 or both orders, in "
            f"{maps} aaa..... aaaa.... a.a.a.a. aaa.aaa.",
            _passes,
        ),
        _family(
            "switches",
            "every combination of both order switches, the global switch, defrag with shrink_underused and the VMA's advice, in the maps "
            f"aaaaaaaa aaaa...., under khugepaged, MADV_COLLAPSE and {len(DRIVERS) - 2} direct attempts",
            _enables,
        ),
        _family(
            "VMA edges",
            f"every VMA that begins at page 0 to 7 and ends behind page 0 to 7, and where it reaches an end of the table also one that "
            f"goes on for 8 pages, in {mixed}",
            _vma_edges,
        ),
        _family(
            "quads",
            f"every map of 16 pages made of four out of {' '.join(_QUADS)}, under khugepaged with the orders 2 3 4",
            lambda: _quads((2, 3, 4)),
        ),
    )


def _half_maps() -> Family:
    return _family(
        "halves",
        f"the maps {' '.join(HALVES)}, read-only or not, with max_ptes_none 3 and 7 and order 2 or both orders, under khugepaged, without "
        "an event and with each sysfs write, pin, zap or prctl before each sleeping point",
        _halves,
    )


def _any_state(*, held: bool) -> Family:
    which = "pinned, locked, batched or off the LRU, or not" if held else "held by nobody"
    marks = "KSM, lazyfree, mlocked, PROT_NONE, young in a secondary MMU: one of these, on node 0, or none"
    states = f"every state that can exist ({which}; nodes 0 and 1; orders 0, 2 and 3; {marks})"
    return _family(
        "one page of any state",
        f"a page of {states} before 7 private pages, under khugepaged",
        lambda: _states(held),
    )


def quick_families(seed: int) -> tuple[Family, ...]:
    """The sets of the quick scope.

    :param seed: breaks ties in the covering sets
    """
    return (
        *first_families(),
        _one_deviating_page(),
        _family(
            "two deviating pages",
            "every two letters at the places 0 and 7, 1 and 2, 3 and 4 of 8 private pages, under khugepaged",
            lambda: _pairs(((0, 7), (1, 2), (3, 4)), KHUGEPAGED),
        ),
        _any_state(held=False),
        _family("configurations", f"every configuration in the maps {' '.join(MIXED)}, under khugepaged", lambda: _configs((KHUGEPAGED,))),
        *_common(),
        *(family for family in _map_families(3) if family.name == "maps over au."),
        _maps_of_halves(),
        _half_maps(),
        covering_family("pairs of factors", Factors(EIGHT, LETTERS, 1), 2, seed),
    )


def full_families(seed: int) -> tuple[Family, ...]:
    """The sets of the full scope, which contains the quick one.

    :param seed: breaks ties in the covering sets
    """
    places = [(i, j) for j in range(8) for i in range(j)]
    two = "every two letters at every two places of 8 private pages, under"
    return (
        *first_families(),
        _one_deviating_page(),
        _one_deviating_page_more_batches(),
        _family("two deviating pages", f"{two} khugepaged", lambda: _pairs(places, KHUGEPAGED)),
        _family("two deviating pages, MADV_COLLAPSE", f"{two} MADV_COLLAPSE", lambda: _pairs(places, MADVISE)),
        _family(
            "one deviating page of 16",
            "every letter at every place of 16 private pages, under every driver and attempt, with an LRU batch of 3",
            _deviations_16,
        ),
        _family(
            "one deviating page, read-only",
            "every letter that a read-only VMA takes at every place of 8 private pages in one, under every driver and attempt",
            _deviations_read_only,
        ),
        _any_state(held=True),
        _family(
            "configurations",
            f"every configuration in the maps {' '.join(MIXED)}, under khugepaged, MADV_COLLAPSE and {len(DRIVERS) - 2} direct attempts",
            lambda: _configs(DRIVERS),
        ),
        *_common(),
        _family(
            "quads, other orders",
            f"every map of 16 pages made of four out of {' '.join(_QUADS)}, under khugepaged with the orders 2 4 and 3",
            lambda: _quads((2, 4), (3,)),
        ),
        *_map_families(4),
        _maps_of_halves(),
        _half_maps(),
        covering_family("pairs of factors", Factors(EIGHT, LETTERS, 1), 2, seed),
        covering_family("pairs of factors, twice", Factors(EIGHT, LETTERS, 2), 2, seed),
        covering_family("pairs of factors, 16 PTEs", Factors(SIXTEEN, LETTERS_16, 2), 2, seed),
        state_tunables_family(EIGHT, LETTERS, seed),
        covering_family("triples of factors", Factors(EIGHT, FEW_LETTERS, 1), 3, seed),
    )
