"""Actors beside each other, without a collapse: no sanitizer speaks, but for what docs/findings.md says of the kernel itself."""

from __future__ import annotations

import re
from itertools import combinations_with_replacement
from typing import Final

import attrs
import pytest

from kmm.judge.outcomes import Outcomes
from kmm.mm.pte import pte_pfn
from kmm.scenario.model import Config, Scenario
from kmm.scenario.search import EXHAUSTIVE, SAMPLED
from kmm.scenario.small_concurrent import ACTORS
from refactors import v12
from tests.concurrent.making import alone, violations
from tests.helpers import table
from tests.port.merging import LETTERS

MORE: Final = (
    "store:3",
    "gup:3",
    "madvise:0-3:pageout",
    "madvise:0-7:nohugepage",
    "munmap:0-7",
    "split:4",
    "migrate:0",
    "pin:0",
    "khugepaged",
    "munlock",
    "secondary_fault:0:write",
    "secondary_fault:3",
    "uffd_copy:3",
    "uffd_register:0-7:missing wp",
    "uffd_unregister:0-7",
    "uffd_wp:0-7:protect unpopulated",
    "ksm:0-1",
    "memory_failure:0",
)
ALL: Final = (*ACTORS, *MORE)
PAGES: Final = "EEa.2222"
"""Two equal pages for KSM, one more, a hole, and a large folio to split."""
EQUAL: Final = tuple(each for each in LETTERS if each[0] == "E")
FLAGS: Final = ("mergeable", "read", "write")
WATCHED: Final = ("mergeable", "read", "uffd_missing", "uffd_wp", "write")
NEED_WATCHING: Final = ("uffd_copy", "uffd_wp")
ONCE_ONLY: Final = ("exit", "khugepaged")
"""A process ends once; khugepaged is one thread."""
ANSWERS: Final = {"memory_failure:0": "recovered, SIGBUS at the next access"}
KNOWN: Final = ("Sysctl.khugepaged_max_ptes_none", "in __folio_mark_uptodate of new")
"""F-02: the tunables are plain variables. F-03: a new page's flags are written plainly behind its barrier."""
CRASH: Final = re.compile(r"^(DEADLOCK|HANG|BUG)|\w in \w+:\d")
PAIRS: Final = [pair for pair in combinations_with_replacement(ALL, 2) if pair[0] != pair[1] or pair[0] not in ONCE_ONLY]
FEW: Final = (
    ("store:3", "store:3"),
    ("store:3", "madvise:0-7:dontneed"),
    ("load:3", "munmap:0-7"),
    ("gup:0:write", "fork"),
    ("swapout:0", "store:0"),
    ("mprotect:0-7:read", "store:0"),
    ("mremap:0-1>4", "load:3"),
    ("fork", "store:0"),
    ("mlock:0-7", "swapout:0"),
    ("drain", "exit"),
    ("secondary_fault:0:write", "swapout:0"),
    ("secondary_fault:3", "madvise:0-7:dontneed"),
    ("uffd_register:0-7:missing wp", "uffd_wp:0-7:protect unpopulated"),
    ("migrate:0", "load:0"),
    ("migrate:0", "store:0"),
    ("migrate:0", "swapout:0"),
    ("migrate:0", "fork"),
    ("migrate:0", "gup:0:write"),
    ("migrate:0", "madvise:0-7:dontneed"),
    ("migrate:0", "exit"),
    ("swapout:0", "exit"),
    ("split:4", "gup_fast:4:write"),
    ("split:4", "munmap:0-7"),
    ("uffd_copy:3", "uffd_wp:0-7:protect unpopulated"),
    ("ksm:0-1", "store:0"),
)


def ground(*actors: str) -> Scenario:
    """Actors where each of them has something to do."""
    watched = any(actor.startswith(NEED_WATCHING) for actor in actors)
    return alone(*actors, pages=PAGES, flags=WATCHED if watched else FLAGS, letters=EQUAL)


def unknown(pair: tuple[str, ...], found: Outcomes) -> list[str]:
    """Violations that are no finding, and tasks that did not return."""
    wrong = [each for each in violations(found) if not any(known in each for known in KNOWN)]
    for each in found.all:
        wrong += [f"{pair}: {said}" for said in found.observation(each).actors if CRASH.search(said)]
    return sorted(wrong)


@pytest.mark.parametrize("actor", ALL)
def test_each_alone(actor: str) -> None:
    found = Outcomes(ground(actor), v12.VARIANT, EXHAUSTIVE)
    assert found.exploration.traces == 1
    assert unknown((actor,), found) == []
    assert {found.observation(each).actors for each in found.all} == {(ANSWERS.get(actor, "done"),)}


def test_ksm_merges() -> None:
    found = Outcomes(ground("ksm:0-1"), v12.VARIANT, EXHAUSTIVE)
    entries = table(found.run(next(iter(found.all))).world)._entries
    assert pte_pfn(entries[0]) == pte_pfn(entries[1])


@pytest.mark.parametrize("pair", FEW, ids=" ".join)
def test_a_few_pairs(pair: tuple[str, str]) -> None:
    found = Outcomes(ground(*pair), v12.VARIANT, attrs.evolve(EXHAUSTIVE, budget=800))
    assert unknown(pair, found) == []


@pytest.mark.full
def test_all_pairs() -> None:
    for pair in PAIRS:
        found = Outcomes(ground(*pair), v12.VARIANT, SAMPLED)
        assert unknown(pair, found) == [], pair


@pytest.mark.soak
@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
def test_all_pairs_in_many_schedules(pair: tuple[str, str]) -> None:
    found = Outcomes(ground(*pair), v12.VARIANT, attrs.evolve(EXHAUSTIVE, budget=4_000))
    assert unknown(pair, found) == []


def test_a_fault_that_does_not_look_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded: freeing a table without a second look at its entries loses what a fault has put there.

    With one lock for all tables the lock of the slot cannot be had while that of the table is held.
    """
    from kmm.mm import zap

    monkeypatch.setattr(zap, "any", lambda _entries: False, raising=False)
    s = attrs.evolve(alone("store:3", "madvise:0-7:dontneed", pages="aaa.aaaa", flags=FLAGS), config=Config(split_ptlocks=False))
    found = Outcomes(s, v12.VARIANT, attrs.evolve(SAMPLED, budget=800))
    assert any("TRANSPARENCY" in each or "CONSERVATION" in each for each in violations(found))
