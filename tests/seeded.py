"""Ten one-line bugs in ``refactors/reviewed.py``, and how to make and load such a copy."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Final
from unittest import mock

import attrs

from kmm.mm.variant import Variant
from kmm.scenario.model import Scenario
from refactors import reviewed
from tests.helpers import direct, make


def replace_line(source: str, old: str, new: str) -> str:
    """``source`` with its only line ``old`` (blanks at both ends do not count) replaced, indentation kept."""
    lines = source.split("\n")
    found = [i for i, line in enumerate(lines) if line.strip() == old.strip()]
    assert len(found) == 1, f"{old.strip()!r} stands {len(found)} times in the source"
    indent = lines[found[0]][: len(lines[found[0]]) - len(lines[found[0]].lstrip())]
    lines[found[0]] = indent + new.strip()
    return "\n".join(lines)


def load(source: str, name: str) -> Variant:
    """The variant that the text of a module exports."""
    module = ModuleType(name)
    with mock.patch.dict(sys.modules, {name: module}):  # dataclasses look their module up
        exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    variant = module.__dict__["VARIANT"]
    assert isinstance(variant, Variant)
    return variant


@attrs.frozen
class SeededBug:
    """One bug.

    :param name: file name and title
    :param old: a line of ``reviewed.py``
    :param new: what stands there instead
    :param shows: an observable that differs, or a sanitizer that reports on one side only
    :param scenario: one that shows it
    """

    name: str
    old: str
    new: str
    shows: str
    scenario: Scenario


_PMD: Final = make("aaaaaaaa", direct(3))
_LEFT: Final = make("aaaaaaaa", direct(2), orders=(2,))
_RIGHT: Final = make("aaaaaaaa", direct(2, 4), orders=(2,))

SEEDED_BUGS: Final = (
    SeededBug(
        "pmd_address_not_aligned",
        "pmd_address: Final = ALIGN_DOWN(mthp_address, HPAGE_PMD_SIZE())",
        "pmd_address: Final = mthp_address",
        "outcome",
        _RIGHT,
    ),
    SeededBug("pte_not_unmapped", "pte_unmap(pte)", "pass", "LOCKDEP", _PMD),
    SeededBug("table_not_put_back", "pmd_populate(mm, pmd, pgtable)", "pass", "TRANSPARENCY", _LEFT),
    SeededBug("one_reference_too_many", "folio_ref_add(folio, nr_pages - 1)", "folio_ref_add(folio, nr_pages)", "REFCOUNT", _LEFT),
    SeededBug(
        "swaps_in_at_the_start_of_the_table",
        "result = __collapse_huge_page_swapin(mm, vma, mthp_address, pmd, params.referenced, order)",
        "result = __collapse_huge_page_swapin(mm, vma, pmd_address, pmd, params.referenced, order)",
        "result",
        make("waaaaaaa", direct(2, 4), orders=(2,)),
    ),
    SeededBug(
        "last_entry_not_set",
        "set_ptes(vma.vm_mm, address, pte, entry, nr_pages)",
        "set_ptes(vma.vm_mm, address, pte, entry, nr_pages - 1)",
        "TRANSPARENCY",
        _LEFT,
    ),
    SeededBug("folio_put_after_success", "folio = NULL(Folio)", "pass", "REFCOUNT", _LEFT),
    SeededBug("no_table_deposited", "pgtable_trans_huge_deposit(mm, pmd, pgtable)", "pass", "CONSERVATION", _PMD),
    SeededBug(
        "window_of_the_wrong_range",
        "window: Final = MmuNotifierRange(mm, mthp_address, mthp_address + (PAGE_SIZE() << order))",
        "window: Final = MmuNotifierRange(mm, pmd_address, pmd_address + (PAGE_SIZE() << order))",
        "notifier",
        _RIGHT,
    ),
    SeededBug(
        "entry_not_writable",
        "entry: Final = maybe_mkwrite(pte_mkdirty(mk_pte(folio_page(folio, 0), vma.vm_page_prot)), vma)",
        "entry: Final = pte_mkdirty(mk_pte(folio_page(folio, 0), vma.vm_page_prot))",
        "address_spaces",
        _LEFT,
    ),
)


def mutate(bug: SeededBug) -> str:
    """The text of ``reviewed.py`` with the bug in it."""
    assert reviewed.__file__ is not None
    return replace_line(Path(reviewed.__file__).read_text(encoding="utf-8"), bug.old, bug.new)
