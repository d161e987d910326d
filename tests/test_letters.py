"""Every letter of the alphabet is put into a table, looked at bit by bit, and read back; and every letter is drawn by a strategy."""

from __future__ import annotations

from typing import Final

import attrs
import pytest
from hypothesis import given, settings

from kmm.mm.folio import FOLIO_FLAGS, Folio, PG_anon_exclusive
from kmm.mm.pte import pte_t
from kmm.report.entries import state_of
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.build import World, build
from kmm.scenario.fits import fitting_flags
from kmm.scenario.model import Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import Kind, Lru, PageState
from kmm.scenario.quiescence import slots_in_use
from kmm.scenario.strategies import generate, page_states
from refactors import v12
from tests.helpers import table

GEOMETRY: Final = Geometry()
LETTERS: Final = pytest.mark.parametrize("letter", ALPHABET)

BITS: Final = {
    0: "present",
    1: "write",
    5: "young",
    6: "dirty",
    8: "protnone",
    9: "special",
    10: "uffd_wp",
    11: "soft_dirty",
}
"""x86-64: the bits of a present entry that a letter decides (user and no-execute are the VMA's)."""

_A: Final = "present write young dirty soft_dirty"
PRESENT: Final = {
    **dict.fromkeys("apkxbmFLlRd23456789", _A),
    "o": "present write dirty soft_dirty",
    "f": "present write dirty soft_dirty",
    "Y": "present write dirty soft_dirty",
    "T": "present write dirty soft_dirty",
    "c": "present write young",
    "F": "present write young soft_dirty",
    **dict.fromkeys("rnsthS", "present young dirty soft_dirty"),
    "u": "present young dirty soft_dirty uffd_wp",
    "N": "protnone young dirty soft_dirty",
    "K": "present young soft_dirty",
    "z": "present special",
    "Z": "present special dirty",
    "i": "present special young",
}
"""Letters whose entry is present, and its bits."""

NON_PRESENT: Final = {
    "w": (0, {"exclusive"}),
    "v": (0, {"exclusive"}),
    "y": (0, set[str]()),
    "q": (0, {"exclusive", "uffd_wp"}),
    "H": (23, set[str]()),
    "M": (26, {"soft_dirty"}),
    "D": (27, {"soft_dirty"}),
    "P": (31, set[str]()),
    "U": (31, set[str]()),
    "g": (31, set[str]()),
}
"""Letters whose entry is neither none nor present: swap type (hwpoison, migration, device and marker have their own), and bits 1 to 3."""

MARKERS: Final = {"U": 1, "P": 2, "g": 4}

SMALL: Final = {"uptodate", "swapbacked", "lru"}
FOLIOS: Final = {
    **dict.fromkeys("aocrnstpumSTYNR23456789", SMALL),
    "f": {*SMALL, "referenced"},
    "h": {*SMALL, "swapcache"},
    "k": {*SMALL, "locked"},
    "x": SMALL - {"lru"},
    "b": SMALL - {"lru"},
    "d": SMALL - {"lru"},
    **dict.fromkeys("FL", SMALL - {"swapbacked"}),
    "l": {*SMALL, "mlocked", "unevictable"},
    "K": SMALL,
}
"""Letters with a mapped folio, and its flags."""

ONE_MAPPING: Final = {**dict.fromkeys(FOLIOS, 1), "s": 2, "t": 3, "S": 2, "K": 2}
"""How many entries, the siblings' included, map one page."""


def with_one(letter: str) -> World:
    """A table that has the letter once, or one folio of it, and else holes."""
    page = ALPHABET[letter]
    size = 1 << page.order
    at = size if size < GEOMETRY.ptes else 0
    pages = "." * at + letter * size + "." * (GEOMETRY.ptes - at - size)
    vma = Vma(pages=pages, flags=fitting_flags([page]))
    s = Scenario(tunables=Tunables.default(GEOMETRY), vmas=(vma,), driver=Driver(kind=DriverKind.KHUGEPAGED))
    return build(s, v12.VARIANT)


def where(letter: str) -> range:
    """The pages that :func:`with_one` gives the letter."""
    size = 1 << ALPHABET[letter].order
    return range(size, 2 * size) if size < GEOMETRY.ptes else range(size)


def entries(letter: str) -> list[pte_t]:
    """The letter's entries."""
    found = table(with_one(letter))._entries
    return [found[index] for index in where(letter)]


def folio(world: World, letter: str) -> Folio:
    """The folio behind the letter's entry."""
    return world.system.mem_map[table(world)._entries[where(letter)[0]] >> 12 & (1 << 40) - 1].folio


@LETTERS
def test_letter_to_entry_to_letter(letter: str) -> None:
    world = with_one(letter)
    found = table(world)._entries
    for index in range(GEOMETRY.ptes):
        young = world.system.base + index * GEOMETRY.page_size in world.mm._secondary_young
        expected = ALPHABET[letter] if index in where(letter) else ALPHABET["."]
        assert state_of(world.system, found[index], secondary_young=young) == expected, index


@LETTERS
def test_the_other_letters_are_something_else(letter: str) -> None:
    same = [other for other, page in ALPHABET.items() if page == ALPHABET[letter]]
    assert same == [letter]


def test_every_letter_is_in_one_table() -> None:
    assert {".", *PRESENT, *NON_PRESENT} == set(ALPHABET)
    assert not set(PRESENT) & set(NON_PRESENT)
    assert set(FOLIOS) == set(PRESENT) - set("zZi")


def test_none() -> None:
    assert entries(".") == [0]


@pytest.mark.parametrize("letter", PRESENT)
def test_bits_of_a_present_entry(letter: str) -> None:
    for pte in entries(letter):
        assert {name for bit, name in BITS.items() if pte >> bit & 1} == set(PRESENT[letter].split())
        assert pte >> 63 & 1, "not executable"


@pytest.mark.parametrize("letter", NON_PRESENT)
def test_bits_of_an_entry_that_is_not_present(letter: str) -> None:
    (pte,) = entries(letter)
    assert not pte & 0x101
    swap_type, bits = NON_PRESENT[letter]
    assert pte >> 59 == swap_type
    assert {name for bit, name in ((1, "soft_dirty"), (2, "uffd_wp"), (3, "exclusive")) if pte >> bit & 1} == bits
    offset = ~(pte >> 9) & (1 << 50) - 1
    if letter in MARKERS:
        assert offset == MARKERS[letter]
    elif swap_type == 0:
        assert offset in slots_in_use(with_one(letter).system)
    else:
        assert (offset & (1 << 40) - 1) in with_one(letter).system.mem_map
    assert (offset >> 40 & 3) == (3 if letter == "M" else 0), "the migration entry is young and dirty"


@pytest.mark.parametrize("letter", FOLIOS)
def test_folios(letter: str) -> None:
    world = with_one(letter)
    found, page = folio(world, letter), ALPHABET[letter]
    nr = 1 << page.order
    assert {name for name, flag in FOLIO_FLAGS.items() if found._flags & flag} == FOLIOS[letter]
    assert (found.order, found.nid, found.zone_device) == (page.order, {"m": 1, "R": 3}.get(letter, 0), letter == "d")
    assert found._mapcount == ONE_MAPPING[letter] * nr
    assert found._refcount == found._mapcount + (letter in "pbh")
    exclusive = {bool(each._flags & PG_anon_exclusive) for each in found.pages}
    assert exclusive == {letter not in "nstSK"}
    assert [each._contents for each in found.pages] == [index + 1 for index in where(letter)]
    assert (found in world.system.per_cpu[0]._lru_add) == (letter == "b")
    assert found._mapping is not None
    assert (found._mapping.label == "ksm") == (letter == "K")


@LETTERS
def test_counters(letter: str) -> None:
    world = with_one(letter)
    nr = 1 << ALPHABET[letter].order
    anon, swap = (nr, 0) if letter in FOLIOS or letter in "MD" else (0, 1) if letter in "wvyq" else (0, 0)
    assert world.mm._rss_stat == [anon, swap]
    stat = world.system.node_stat
    assert stat.get("nr_mlock", 0) == (letter == "l")
    assert stat.get("nr_isolated_anon", 0) == (letter == "M")
    assert stat.get("nr_anon_mapped", 0) == (nr if letter in FOLIOS or letter == "D" else 0)
    assert (stat.get("ksm_zero_pages", 0), world.mm._ksm_zero_pages) == ((1, 1) if letter == "Z" else (0, 0))
    assert len(world.mm._secondary_young) == (letter == "Y")
    assert sum(folio._pincount for folio in world.system.folios) == (letter in "pH")
    assert len(world.system.migrations._under_way) == (letter == "M")
    used = slots_in_use(world.system)
    assert {slot._count for slot in used.values()} == {"w": {1}, "v": {1}, "q": {1}, "y": {2}, "h": {0}}.get(letter, set())
    assert [slot._cached is not None for slot in used.values()] == [letter in "vh"] * (letter in "wvyqh")


def test_a_strategy_draws_every_letter() -> None:
    drawn: set[str] = set()
    for s in generate(GEOMETRY, 400, 0):
        drawn |= set(s.pages)
    assert set(ALPHABET) - drawn == set()


VALUES: Final[dict[str, set[object]]] = {
    "kind": set(Kind),
    "lru": set(Lru),
    "order": {0, 2, 3},
    "index": {None, *range(8)},
    "mapped_by": {0, 1, 2, 3},
    "pins": {0, 1, 8},
    "node": {0, 1, 3},
    "contents": {None},
    **{field.name: {False, True} for field in attrs.fields(PageState) if field.default is False},
}
"""What each field of a page state is drawn from."""

_ENTRY: Final = ("write", "exclusive", "uffd_wp", "soft_dirty")
SAID_OF: Final = {
    Kind.PRESENT: tuple(field.name for field in attrs.fields(PageState) if field.name not in ("kind", "contents")),
    Kind.ZERO: ("young", "dirty"),
    Kind.SWAP: ("exclusive", "uffd_wp", "soft_dirty", "swapcache", "mapped_by"),
    Kind.DEVICE: ("young", "dirty", *_ENTRY),
    Kind.DEVICE_PRIVATE: _ENTRY,
    Kind.MIGRATION: ("young", "dirty", "mapped_by", "node", *_ENTRY),
}
"""What may be said of a page, by kind."""


def test_a_strategy_draws_every_value_of_every_field() -> None:
    seen: dict[str, set[object]] = {name: set() for name in VALUES}
    said: dict[Kind, set[str]] = {kind: set() for kind in Kind}

    @settings(max_examples=3000, database=None)
    @given(page_states())
    def look(page: PageState) -> None:
        for field in attrs.fields(PageState):
            value = getattr(page, field.name)
            seen[field.name].add(value)
            if field.name != "kind" and value != field.default:
                said[page.kind].add(field.name)

    look()
    assert seen == VALUES
    assert said == {kind: set(SAID_OF.get(kind, ())) for kind in Kind}
