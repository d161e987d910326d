"""The factors of the covering sets, and the scenario of a row."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Final, TypeVar

import attrs

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.canvas import fitting_letters
from kmm.scenario.checks import MIN_MTHP_ORDER, THP_DISABLE
from kmm.scenario.covering import Plan, Row, covering_rows
from kmm.scenario.families import Family
from kmm.scenario.layout import lay_out
from kmm.scenario.model import GLOBAL_MODES, ORDER_MODES, POINTS, Config, Driver, DriverKind, Event, Failure, Geometry, Scenario, Tunables
from kmm.scenario.page import HOLES, UNMAPPED

T = TypeVar("T")

LIMITS: Final = ("max_ptes_none", "max_ptes_swap", "max_ptes_shared")
LEVELS: Final = ("0", "n-1", "n", "NR-1")
"""Values of a limit; n is how many pages of the map it is about."""

FLAGS: Final[tuple[tuple[str, ...], ...]] = (
    ("read", "write"),
    ("hugepage", "read", "write"),
    ("nohugepage", "read", "write"),
    ("read",),
    ("read", "uffd_wp"),
    ("read", "uffd_wp", "write"),
    ("read", "uffd_missing", "write"),
    ("locked", "mergeable", "read", "write"),
    ("locked", "mergeable", "mixedmap", "read", "uffd_wp", "write"),
)
BATCHES: Final = (1, 3, 31)
PAGE_SIZES: Final = (4096, 65536)
COVERING_LAYOUTS: Final = ("whole", "wide", "split")
"""Those in which every page has a VMA."""

EITHER: Final = (True, False)


def limited(letter: str) -> str:
    """Name of the limit that a page of this letter counts against, or nothing."""
    page = ALPHABET[letter]
    if page.kind in HOLES:
        return "max_ptes_none"
    if page.kind in UNMAPPED:
        return "max_ptes_swap"
    return "max_ptes_shared" if page.mapped_by else ""


def drivers(geometry: Geometry) -> tuple[Driver, ...]:
    """Both scans, and every direct attempt: order, offset, whose limits, and whether the lock is held."""
    attempts = (
        Driver(kind=DriverKind.DIRECT, order=order, offset=offset, is_khugepaged=khugepaged, mmap_locked=locked)
        for order in range(geometry.pmd_order, MIN_MTHP_ORDER - 1, -1)
        for offset in range(0, geometry.ptes, 1 << order)
        for khugepaged, locked in product((True, False), repeat=2)
    )
    return Driver(kind=DriverKind.KHUGEPAGED), Driver(kind=DriverKind.MADVISE), *attempts


@attrs.frozen
class Disturbance:
    """One failure, one event, or nothing."""

    failures: tuple[Failure, ...] = ()
    events: tuple[Event, ...] = ()


def disturbances(geometry: Geometry, times: int) -> tuple[Disturbance, ...]:
    """Nothing, every failure, and every operation at every sleeping point.

    :param times: what is counted happens at its first, its second ... its ``times``-th occasion
    """
    occasions = range(1, times + 1)
    pages = range(geometry.ptes)
    failures = (
        *(Failure(kind=kind, nth=nth) for kind in ("alloc", "charge") for nth in occasions),
        *(Failure(kind=kind, page=page) for kind in ("poison", "swapin_error", "swapin_retry", "migration_again") for page in pages),
    )
    events = (attrs.evolve(event, before=point, nth=nth) for event in _operations(geometry) for point in POINTS for nth in occasions)
    return Disturbance(), *(Disturbance(failures=(f,)) for f in failures), *(Disturbance(events=(e,)) for e in events)


def _operations(geometry: Geometry) -> Iterator[Event]:
    middle = geometry.ptes // 2
    orders = range(MIN_MTHP_ORDER, geometry.pmd_order + 1)
    writes = [(f"hugepages-{order}", "never") for order in orders] + [("enabled", "never"), *((name, "0") for name in LIMITS)]
    for name, value in writes:
        yield Event(op="sysfs", before="alloc", name=name, value=value)
    for op in ("munmap", "replace_vma", "free_table", "exit", "prctl"):
        yield Event(op=op, before="alloc")
    yield Event(op="prctl", before="alloc", value="except_advised")
    for op, page in (("replace_vma", middle), ("pin", 0), ("pin", middle), ("zap", 0), ("zap", middle)):
        yield Event(op=op, before="alloc", page=page)


@functools.lru_cache(256)
def _config(*values: bool | str) -> Config:
    return Config(**dict(zip(CONFIG, values, strict=True)))  # type: ignore[arg-type]


CONFIG: Final[dict[str, tuple[bool | str, ...]]] = {
    "debug_vm": EITHER,
    "split_ptlocks": EITHER,
    "tlb": ("broadcast", "ipi"),
    "arch": ("x86", "walking"),
    "highpte": EITHER,
    "pt_reclaim": EITHER,
    "sparsemem_vmemmap": EITHER,
}
"""Every switch of the configuration, and its values."""


class Factors:
    """What a covering set combines; a value is named by its index.

    :param letters: of the map; at least one page that no limit counts and any VMA takes, and one such for each limit
    :param times: as in :func:`disturbances`
    """

    def __init__(self, geometry: Geometry, letters: tuple[str, ...], times: int) -> None:
        self.geometry = geometry
        self.letters = letters
        self.disturbances = disturbances(geometry, times)
        self.drivers = drivers(geometry)
        self.rooms = (None, 0, geometry.ptes // 2, geometry.ptes)
        self._orders = geometry.pmd_order - MIN_MTHP_ORDER + 1
        self._first_page = 1
        self._driver = self._first_page + geometry.ptes
        self._flags = self._driver + 1
        self._limits = self._flags + 1
        alphabet = {letter: ALPHABET[letter] for letter in letters}
        self._fits = [frozenset(map(letters.index, fitting_letters(alphabet, geometry, flags))) for flags in FLAGS]
        self._limited = [limited(letter) for letter in letters]
        for name in ("", *LIMITS):
            if not any(self._limited[v] == name for v in frozenset.intersection(*self._fits)):
                raise ValueError(f"no letter that every VMA takes counts against {name or 'nothing'}")

    def sizes(self) -> tuple[int, ...]:
        """How many values each factor has.

        The disturbance, the pages, the driver, the VMA's flags, limits, switches, configuration, geometry, surroundings.
        """
        switches = (*(len(ORDER_MODES),) * self._orders, len(GLOBAL_MODES), 2, 2, 2)
        pages = (len(self.letters),) * self.geometry.ptes
        limits = (len(LEVELS),) * len(LIMITS)
        config = tuple(len(values) for values in CONFIG.values())
        surroundings = (len(COVERING_LAYOUTS), len(THP_DISABLE), len(self.rooms), 2)
        first = (len(self.disturbances), *pages, len(self.drivers), len(FLAGS))
        return (*first, *limits, *switches, *config, len(BATCHES), len(PAGE_SIZES), *surroundings)

    def possible(self, values: Mapping[int, int]) -> bool:
        """Whether the letters fit the flags, and no limit is one less than none, or all pages of the table."""
        pages = [v for f, v in values.items() if self._first_page <= f < self._driver]
        flags = values.get(self._flags)
        if flags is not None and not self._fits[flags].issuperset(pages):
            return False
        free = self.geometry.ptes - len(pages)
        wanted = 0
        for number, name in enumerate(LIMITS):
            level = values.get(self._limits + number)
            if level is not None and LEVELS[level] in ("n-1", "n"):
                counted = sum(self._limited[v] == name for v in pages)
                wanted += LEVELS[level] == "n-1" and not counted
                if LEVELS[level] == "n" and counted == self.geometry.ptes:
                    return False
        return wanted <= free

    def asked(self) -> frozenset[int]:
        """The factors that :meth:`possible` looks at: pages, flags and limits."""
        return frozenset((*range(self._first_page, self._driver), *range(self._flags, self._limits + len(LIMITS))))

    def scenario(self, row: Row) -> Scenario:
        """The scenario of a row."""
        rest = iter(row)

        def take(values: tuple[T, ...]) -> T:
            return values[next(rest)]

        disturbance = take(self.disturbances)
        pages = "".join([take(self.letters) for _ in range(self.geometry.ptes)])
        driver, flags = take(self.drivers), take(FLAGS)
        none, swap, shared = (self._limit(name, take(LEVELS), row) for name in LIMITS)
        tunables = Tunables(
            max_ptes_none=none,
            max_ptes_swap=swap,
            max_ptes_shared=shared,
            hugepages=tuple([take(ORDER_MODES) for _ in range(self._orders)]),
            enabled=take(GLOBAL_MODES),
            defrag=take(EITHER),
            shrink_underused=take(EITHER),
            node_reclaim=take(EITHER),
        )
        return Scenario(
            config=_config(*[take(values) for values in CONFIG.values()]),
            geometry=attrs.evolve(self.geometry, lru_batch=take(BATCHES), page_size=take(PAGE_SIZES)),
            tunables=tunables,
            vmas=lay_out(take(COVERING_LAYOUTS), pages, self.geometry.ptes // 2, flags, ALPHABET, anon_vma=True),
            driver=driver,
            events=disturbance.events,
            failures=disturbance.failures,
            thp_disable=take(THP_DISABLE),
            memcg_room=take(self.rooms),
            deposited=take((0, 1)),
        )

    def _limit(self, name: str, level: str, row: Row) -> int:
        n = sum(self._limited[v] == name for v in row[self._first_page : self._driver])
        return {"0": 0, "n-1": n - 1, "n": n, "NR-1": self.geometry.ptes - 1}[level]


def covering_family(name: str, factors: Factors, strength: int, seed: int) -> Family:
    """A covering set of scenarios.

    :param seed: breaks ties
    """
    plan = Plan(factors.sizes(), strength, factors.possible, factors.asked())
    nr = factors.geometry.ptes
    each = (
        f"the letter of each of {nr} pages out of {' '.join(factors.letters)}",
        f"max_ptes_none, max_ptes_swap and max_ptes_shared (0, n-1, n, {nr - 1}, where n pages of the map count)",
        "each order switch, the global switch, defrag, shrink_underused and node_reclaim",
        "each configuration switch, the LRU batch (1, 3, 31) and the page size (4 and 64 KiB)",
        f"one of {len(factors.disturbances) - 1} failures and events or none",
        f"{len(factors.drivers)} drivers",
        f"{len(FLAGS)} sets of VMA flags",
        f"one VMA, one that goes on on both sides, or two that meet at page {nr // 2}",
        "PR_SET_THP_DISABLE, room in the cgroup (any, none, half a table, a table), a deposited table or none",
    )

    def words() -> str:
        allowed, forbidden = plan.count()
        return f"every allowed combination of {strength} values ({allowed:,}; {forbidden:,} are forbidden) of: {'; '.join(each)}"

    def scenarios() -> Iterator[Scenario]:
        return map(factors.scenario, covering_rows(plan, seed))

    return Family(name, "covering", words, scenarios)
