"""The strategies: valid by construction, varied, and deterministic."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import storage_directory
from hypothesis.errors import InvalidArgument

from kmm.scenario import strategies
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.canvas import Canvas, count_pages, fitting_letters
from kmm.scenario.checks import GAP, PMD_STATES, THP_DISABLE
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import (
    EVENT_OPS,
    FAILURE_KINDS,
    OF_STEPS,
    POINTS,
    VMA_FLAGS,
    Config,
    Driver,
    DriverKind,
    Geometry,
    Scenario,
    Tunables,
)
from kmm.scenario.page import Kind, PageState
from kmm.scenario.strategies import generation
from kmm.scenario.strategies.draw import drawn, member, pick
from kmm.scenario.toml import canonical_bytes

ROOT = Path(__file__).parent.parent
TINY = Geometry(ptes=8, lru_batch=1)
TAIL = PageState(kind=Kind.PRESENT, order=2, index=3)
PINNED = PageState(kind=Kind.PRESENT, order=2, pins=1)
BIG = Geometry(page_size=65536, ptes=8192)

DIGEST = """
import hashlib
from kmm.scenario.model import Geometry
from kmm.scenario.strategies import generate
from kmm.scenario.toml import canonical_bytes
found = generate(Geometry(), 150, 3)
print(hashlib.sha256(b"".join(map(canonical_bytes, found))).hexdigest())
"""


def digest(scenarios: list[Scenario]) -> str:
    return hashlib.sha256(b"".join(map(canonical_bytes, scenarios))).hexdigest()


def shape(found: list[Scenario], has: Callable[[Scenario], bool]) -> float:
    """The share of scenarios that have something."""
    return sum(map(has, found)) / len(found)


@given(strategies.scenarios(BIG))
@settings(max_examples=10)
def test_the_largest_geometry(s: Scenario) -> None:
    assert len(s.pages) == 8192
    assert sum(len(vma.pages) for vma in s.vmas) == 8192 - s.pages.count(GAP)


@given(st.data())
def test_scenarios_follow_their_options(data: st.DataObject) -> None:
    drawn = strategies.scenarios(
        TINY,
        flags=["write", "read"],
        letters={"A": PageState(kind=Kind.PRESENT, pins=8)},
        kinds=[DriverKind.MADVISE],
        with_events=False,
        with_failures=False,
    )
    s = data.draw(drawn)
    assert s.geometry == TINY
    assert s.vmas[0].flags == ("read", "write")
    assert s.driver.kind is DriverKind.MADVISE
    assert (s.events, s.failures, s.contract) == ((), (), "checked")
    assert bool(s.letters) == ("A" in s.vmas[0].pages)


@given(st.data())
def test_parts(data: st.DataObject) -> None:
    assert isinstance(data.draw(strategies.configs()), Config)
    assert isinstance(data.draw(strategies.page_states()), PageState)
    assert data.draw(strategies.drivers(TINY, kinds=[DriverKind.DIRECT])).order in (2, 3)
    assert data.draw(strategies.events(TINY, ops=["pin"], at=[5])).page == 5
    assert data.draw(strategies.failures(TINY, at=[5])).page in (5, None)
    assert set(data.draw(strategies.page_maps(TINY, {"r": ALPHABET["r"], "z": ALPHABET["z"]}))) <= {"r", "z"}
    vma = data.draw(strategies.vmas(TINY, flags=[]))
    assert not any(ALPHABET[letter].write or ALPHABET[letter].uffd_wp for letter in vma.pages)


@given(strategies.tunables(Geometry(), near={"max_ptes_none": [0, 7, 900]}))
def test_limits_lie_at_the_counts(t: Tunables) -> None:
    assert t.max_ptes_none in (0, 6, 7, 511)
    assert t.max_ptes_swap in (0, 64, 511)
    assert t.max_ptes_shared in (0, 256, 511)


def test_limits_meet_both_sides_of_a_count() -> None:
    for value in (6, 7):
        limits = strategies.tunables(Geometry(), near={"max_ptes_swap": [7]}).map(lambda t: t.max_ptes_swap)
        assert find(limits, value.__eq__) == value


def test_counts() -> None:
    driver = Driver(kind=DriverKind.DIRECT, order=2, offset=4)
    assert count_pages("..wsz.ya", ALPHABET, TINY, driver) == {
        "max_ptes_none": [4, 2 << 1],
        "max_ptes_swap": [2, 1],
        "max_ptes_shared": [1, 0],
    }
    assert count_pages("." * 8, ALPHABET, TINY, Driver(kind=DriverKind.MADVISE))["max_ptes_none"] == [8]


def test_painting() -> None:
    canvas = Canvas(8, {"a": ALPHABET["a"], "2": ALPHABET["2"], "A": TAIL, "P": PINNED})
    canvas.paint("a", 6, 4)
    assert canvas.text() == "......aa"
    canvas.paint("2", 2, 4)
    assert canvas.text() == "2222..aa"
    canvas.paint("2", 5, 1)
    assert canvas.text() == "2222.2aa"
    canvas.paint("A", 1, 8)
    assert canvas.text() == "222A.2aA"
    canvas.paint("P", 0, 2)
    assert canvas.text() == "222A.2aA"
    canvas.paint("P", 0, 4)
    assert canvas.text() == "PPPP.2aA"


def test_fitting_letters() -> None:
    assert "".join(sorted(fitting_letters(ALPHABET, TINY, ()))) == ".HNPSghnrstvwyz"
    assert set(fitting_letters(ALPHABET, TINY, ("read", "uffd_wp", "write"))) == set(ALPHABET) - set("456789lKZi")


GENERATED = strategies.generate(Geometry(), 500, 1)


def test_generate_gives_distinct_scenarios() -> None:
    assert len(GENERATED) == 500
    assert len({canonical_bytes(s) for s in GENERATED}) == 500
    assert {s.geometry for s in GENERATED} == {Geometry()}


def test_generate_repeats_itself() -> None:
    assert digest(strategies.generate(Geometry(), 150, 1)) == digest(GENERATED[:150])
    assert digest(strategies.generate(Geometry(), 150, 2)) != digest(GENERATED[:150])
    assert strategies.generate(TINY, 0, 1) == []


def test_generate_does_not_depend_on_the_process(tmp_path: Path) -> None:
    """Neither on the hash seed, nor on constants in local source, nor on what an earlier run left behind."""
    numbers = ", ".join(map(str, [*range(600), 100, 4096]))
    (tmp_path / "candidate.py").write_text(f"NUMBERS = [{numbers}]\nWORDS = ['alloc', '.']\n")
    seen = {digest(strategies.generate(Geometry(), 150, 3))}
    for hash_seed, before in (("0", ""), ("1", "import candidate\n"), ("4242", "import kmm.scenario.build\n")):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
        done = subprocess.run([sys.executable, "-c", before + DIGEST], env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
        seen.add(done.stdout.strip())
    assert len(seen) == 1
    assert sorted(each.name for each in tmp_path.iterdir() if each.name != "__pycache__") == ["candidate.py"]


def test_generate_says_when_there_are_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "scenarios", lambda _geometry: st.just(GENERATED[0]))
    with pytest.raises(ScenarioError, match="only 1 distinct scenarios were found; ask for fewer"):
        strategies.generate(TINY, 2, 1)


def test_generate_leaves_hypothesis_as_it_was() -> None:
    before = storage_directory().path
    strategies.generate(TINY, 1, 1)
    assert storage_directory().path == before


@pytest.mark.parametrize(
    ("what", "has", "least", "most"),
    [
        ("khugepaged", lambda s: s.driver.kind is DriverKind.KHUGEPAGED, 0.2, 0.5),
        ("madvise", lambda s: s.driver.kind is DriverKind.MADVISE, 0.2, 0.5),
        ("direct", lambda s: s.driver.kind is DriverKind.DIRECT, 0.2, 0.5),
        ("an attempt below PMD order", lambda s: s.driver.order not in (None, 9), 0.1, 0.5),
        ("no table", lambda s: s.pmd != "table", 0.01, 0.2),
        ("events", lambda s: bool(s.events), 0.2, 0.6),
        ("failures", lambda s: bool(s.failures), 0.2, 0.6),
        ("no anon_vma", lambda s: not s.vmas[0].anon_vma, 0.005, 0.2),
        ("armed", lambda s: "uffd_wp" in s.vmas[0].flags, 0.05, 0.5),
        ("nothing that stops a scan", lambda s: not set("pkxbuqUdi") & set(s.pages), 0.4, 0.9),
        ("swap", lambda s: bool(set("wvyq") & set(s.pages)), 0.1, 0.6),
        ("a whole large folio", lambda s: "4" * 16 in s.pages, 0.02, 0.4),
        ("part of a folio", lambda s: bool(partial(s.pages)), 0.05, 0.6),
        ("mostly runs", lambda s: runs(s.pages) <= 16, 0.9, 1.0),
        ("a deviating page", lambda s: bool(lone(s.pages)), 0.2, 0.9),
    ],
)
def test_what_is_generated(what: str, has: Callable[[Scenario], bool], least: float, most: float) -> None:
    assert least <= shape(GENERATED, has) <= most, what


def runs(pages: str) -> int:
    return 1 + sum(a != b for a, b in itertools.pairwise(pages))


def lone(pages: str) -> list[int]:
    """Pages unlike both neighbours."""
    return [i for i in range(1, len(pages) - 1) if pages[i - 1] != pages[i] != pages[i + 1]]


def partial(pages: str) -> list[int]:
    """Blocks that a large folio maps only in part."""
    out = []
    for letter in sorted(set(pages) - {GAP}):
        size = 1 << ALPHABET[letter].order
        blocks = (pages[start : start + size] for start in range(0, len(pages), size))
        out += [block for block in blocks if 0 < block.count(letter) < size]
    return [len(block) for block in out]


def test_every_event_failure_point_and_pmd_state_is_generated() -> None:
    found = [s for seed in range(3) for s in strategies.generate(TINY, 500, seed)]
    assert {e.op for s in found for e in s.events} == set(EVENT_OPS)
    assert {e.before for s in found for e in s.events} == set(POINTS)
    assert {f.kind for s in found for f in s.failures} == set(FAILURE_KINDS) - set(OF_STEPS)
    assert {s.pmd for s in found} == set(PMD_STATES)
    assert {s.thp_disable for s in found} == set(THP_DISABLE)
    assert {s.deposited for s in found} == {0, 1, 2}
    assert {s.memcg_room for s in found} == {None, 0, 2, 7, 8, 9}
    assert {(len(s.vmas), bool(s.vmas[0].first), s.vmas[-1].end < 8) for s in found} >= {
        (1, False, False), (1, True, False), (1, False, True), (2, False, False)
    }  # fmt: skip
    assert {e.name for s in found for e in s.events} == {
        "", "enabled", "hugepages-2", "hugepages-3", "max_ptes_none", "max_ptes_swap", "max_ptes_shared"
    }  # fmt: skip
    assert {f for s in found for vma in s.vmas for f in vma.flags} == set(VMA_FLAGS)


def test_failures_at_pages_hit_what_they_name() -> None:
    found = strategies.generate(TINY, 500, 0)
    named = [(f, s.pages[f.page]) for s in found for f in s.failures if f.page is not None]
    at = [(f.kind, ALPHABET[letter].kind) for f, letter in named if letter != GAP]
    assert {kind for name, kind in at if name == "poison"} == {Kind.PRESENT}
    assert {kind for name, kind in at if name.startswith("swapin")} == {Kind.SWAP}
    assert {kind for name, kind in at if name == "migration_again"} <= {Kind.MIGRATION}


@given(st.integers(1, 10_000), st.data())
@settings(suppress_health_check=list(HealthCheck), max_examples=50)
def test_any_member_is_drawn(size: int, data: st.DataObject) -> None:
    @st.composite
    def members(draw: st.DrawFn) -> int:
        return member(draw, range(size))

    assert 0 <= data.draw(members()) < size


def test_the_last_member_is_drawn() -> None:
    @st.composite
    def members(draw: st.DrawFn) -> int:
        return member(draw, range(1000))

    assert find(members(), lambda n: n == 999, settings=settings(max_examples=100_000, database=None)) == 999


def test_only_short_sequences_are_picked_from() -> None:
    with pytest.raises(InvalidArgument, match="100 values to pick from; give 1 to 99"):
        find(drawn(lambda draw: pick(draw, range(100))), bool)


@st.composite
def with_own_letters(draw: st.DrawFn) -> tuple[dict[str, PageState], Scenario]:
    letters = {letter: draw(strategies.page_states()) for letter in "ABCE"}
    return letters, draw(strategies.scenarios(letters=letters))


@given(with_own_letters())
def test_own_letters(drawn: tuple[dict[str, PageState], Scenario]) -> None:
    letters, s = drawn
    assert s.letters == tuple((letter, letters[letter]) for letter in "ABCE" if letter in s.pages)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: strategies.scenarios(8), "geometry is 8; give a kmm.scenario.model.Geometry"),  # type: ignore[arg-type]
        (lambda: strategies.page_maps(None), "geometry is None"),  # type: ignore[arg-type]
        (lambda: strategies.page_maps(TINY, {}), "no letter fits"),
        (lambda: strategies.page_maps(TINY, {"9": ALPHABET["9"]}), "no letter fits"),
        (lambda: strategies.page_maps(TINY, at=[]), "give one or more of 0 to 7"),
        (lambda: strategies.page_maps(TINY, at=[8]), "at must name pages of the table"),
        (lambda: strategies.vmas(TINY, flags=["red"]), "are not VMA flags; give some of dontcopy, dontdump"),
        (lambda: strategies.vmas(TINY, flags="read"), "are not VMA flags"),
        (lambda: strategies.vmas(TINY, flags=["hugepage", "nohugepage"]), "both hugepage and nohugepage; drop one"),
        (lambda: strategies.vmas(TINY, flags=["read"], letters={"a": ALPHABET["a"]}), "no letter fits"),
        (lambda: strategies.tunables(TINY, near={"max_ptes": [1]}), '"max_ptes" is not a limit; use max_ptes_none'),
        (lambda: strategies.drivers(TINY, kinds=[]), "give one or more DriverKind, but STEPS"),
        (lambda: strategies.drivers(TINY, kinds=["direct"]), "are not kinds of driver"),  # type: ignore[list-item]
        (lambda: strategies.events(TINY, ops=["nap"]), "are not events; give one or more of sysfs"),
        (lambda: strategies.failures(TINY, at=[-1]), "at must name pages"),
        (lambda: strategies.scenarios(letters={"a": ALPHABET["a"]}), "of the default alphabet; choose other letters"),
        (lambda: strategies.generate(TINY, -1, 0), "count = -1 is negative; give 0 or more"),
        (lambda: strategies.generate(TINY, 1.5, 0), "count is 1.5; give a whole number"),  # type: ignore[arg-type]
        (lambda: strategies.generate(TINY, 1, "x"), "seed is 'x'; give a whole number"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments(make: Callable[[], object], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says.replace("(", r"\(")):
        make()
