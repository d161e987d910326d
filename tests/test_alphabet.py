"""The default alphabet: what each letter is, and that it can be used and is drawn."""

from __future__ import annotations

import pytest

from kmm.scenario.alphabet import ALPHABET, MEANING
from kmm.scenario.checks import GAP
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import VMA_FLAGS, Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import Kind, Lru, PageState
from kmm.scenario.strategies import generate

ROOMY = Geometry()


def alone(letter: str, *, flags: tuple[str, ...], anon_vma: bool = True) -> Scenario:
    """A table of nothing but ``letter``."""
    return Scenario(
        geometry=ROOMY,
        tunables=Tunables.default(ROOMY),
        vmas=(Vma(pages=letter * ROOMY.ptes, flags=flags, anon_vma=anon_vma),),
        driver=Driver(kind=DriverKind.KHUGEPAGED),
    )


def test_every_letter_is_explained() -> None:
    assert list(MEANING) == list(ALPHABET)
    assert all(MEANING.values())


@pytest.mark.parametrize("letter", ALPHABET)
def test_every_letter_can_fill_a_table(letter: str) -> None:
    assert len(letter) == 1
    assert letter.isascii()
    assert letter.isprintable()
    page = ALPHABET[letter]
    flags = tuple(flag for flag in VMA_FLAGS if flag not in ("droppable", "hugepage", "hugetlb", "nohugepage"))
    assert alone(letter, flags=flags).alphabet()[letter] == page


@pytest.mark.parametrize("letter", ALPHABET)
def test_every_letter_asks_for_what_it_needs(letter: str) -> None:
    every = ("locked", "mergeable", "mixedmap", "read", "uffd_wp", "write")
    needed = {"locked": "l", "mergeable": "KZ", "mixedmap": "i", "read": "", "uffd_wp": "uqU", "write": "aofcpkxbmT23456789YFLlRMdD"}
    for flag, letters in needed.items():
        assert refused(letter, tuple(each for each in every if each != flag)) == (letter in letters), flag
    assert refused(letter, every, anon_vma=False) == (letter not in ".zZPUi")
    assert refused(letter, ("hugetlb", *every)) == (letter != ".")
    assert refused(letter, ("droppable", *(each for each in every if each != "locked"))) == (letter not in ".zZFLMHgPUdDi")
    assert not refused(letter, every)


def refused(letter: str, flags: tuple[str, ...], *, anon_vma: bool = True) -> bool:
    """No VMA with these flags may have the letter."""
    try:
        alone(letter, flags=tuple(sorted(flags)), anon_vma=anon_vma)
    except ScenarioError:
        return True
    return False


@pytest.mark.parametrize(
    ("letters", "kind"),
    [
        (".", Kind.NONE),
        ("zZ", Kind.ZERO),
        ("wvyq", Kind.SWAP),
        ("aofcrnsthpkxbumST23456789YNFLlKR", Kind.PRESENT),
        ("M", Kind.MIGRATION),
        ("H", Kind.HWPOISON),
        ("g", Kind.GUARD_MARKER),
        ("P", Kind.POISON_MARKER),
        ("U", Kind.UFFD_WP_MARKER),
        ("d", Kind.DEVICE),
        ("D", Kind.DEVICE_PRIVATE),
        ("i", Kind.SPECIAL),
    ],
)
def test_kinds(letters: str, kind: Kind) -> None:
    assert sorted(letter for letter, page in ALPHABET.items() if page.kind is kind) == sorted(letters)


def test_letters_deviate_as_their_meaning_says() -> None:
    def having(name: str, value: object) -> str:
        return "".join(sorted(letter for letter, page in ALPHABET.items() if getattr(page, name) == value))

    assert having("mapped_by", 1) == "KSsy"
    assert having("mapped_by", 2) == "t"
    assert having("pins", 1) == "p"
    assert having("locked", True) == "k"
    assert having("lru", Lru.OFF) == "x"
    assert having("lru", Lru.BATCH) == "b"
    assert having("node", 1) == "m"
    assert having("node", 3) == "R"
    assert having("ksm", True) == "K"
    assert having("lazyfree", True) == "FL"
    assert having("mlocked", True) == "l"
    assert having("prot_none", True) == "N"
    assert having("secondary_young", True) == "Y"
    assert having("swapcache", True) == "hv"
    assert having("referenced", True) == "f"
    assert having("order", 2) == "2ST"
    assert [ALPHABET[str(order)].order for order in range(2, 10)] == list(range(2, 10))
    assert not any(ALPHABET[letter].young for letter in "ofTzZY.")
    assert not any(ALPHABET[letter].dirty for letter in "cFK")
    assert ALPHABET["L"].dirty


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PageState(kind=Kind.NONE, dirty=True), "both none and dirty; drop dirty"),
        (lambda: PageState(kind=Kind.SWAP, young=True), "both swap and young; drop young"),
        (lambda: PageState(kind=Kind.PRESENT, write=True), "a writable page must be exclusive"),
        (lambda: PageState(kind=Kind.PRESENT, exclusive=True, mapped_by=1), "cannot be exclusive"),
        (lambda: PageState(kind=Kind.PRESENT, order=1), "order 1 do not exist"),
        (lambda: PageState(kind=Kind.PRESENT, order=2, lru=Lru.BATCH), "never held in an LRU batch"),
    ],
)
def test_impossible_states(make: object, says: str) -> None:
    assert callable(make)
    with pytest.raises(ScenarioError, match=says):
        make()


def test_every_letter_is_drawn_at_real_geometry() -> None:
    found = generate(Geometry(), 500, 0)
    assert {letter for s in found for letter in s.pages} - {GAP} == set(ALPHABET)


@pytest.mark.parametrize("ptes", [8, 16])
def test_every_letter_that_fits_is_drawn_at_tiny_geometries(ptes: int) -> None:
    found = generate(Geometry(ptes=ptes, lru_batch=1), 500, 0)
    fits = {letter for letter, page in ALPHABET.items() if 1 << page.order <= ptes}
    assert {letter for s in found for letter in s.pages} - {GAP} == fits
