"""A captured range in the form in which khugepaged comes to it."""

from __future__ import annotations

from typing import Final

import attrs

from kmm.live.predict_knobs import Setting
from kmm.scenario.model import Driver, DriverKind, Scenario, Vma
from kmm.scenario.page import Lru

_KHUGEPAGED: Final = Driver(kind=DriverKind.KHUGEPAGED)
_SKIPPED_FLAGS: Final = ("dontexpand", "hugetlb", "io", "mixedmap", "pfnmap", "temporary_stack")
"""Flags of VMAs that khugepaged passes over."""


def form(s: Scenario, setting: Setting) -> Scenario:
    """The range under ``setting``, with every LRU batch drained, as a pass begins.

    Names and what was only assumed are removed: they make no two ranges distinct.

    :raises KnobError: the kernel refuses the setting
    """
    tunables = setting.on(s.tunables, s.geometry)
    return attrs.evolve(_drained(s), name="", remark="", tunables=tunables, driver=_KHUGEPAGED, assumed=())


def _drained(s: Scenario) -> Scenario:
    """Without LRU batches. A capture does not tell them from pages off the LRU, which are far rarer."""
    waiting = (Lru.BATCH, Lru.OFF) if "lru" in s.assumed else (Lru.BATCH,)
    alphabet = s.alphabet()
    odd = [letter for letter in sorted(set(s.pages) & alphabet.keys()) if alphabet[letter].lru in waiting]
    if not odd:
        return s
    known = {state: letter for letter, state in reversed(alphabet.items())}
    letters, other = dict(s.letters), {}
    for letter in odd:
        state = attrs.evolve(alphabet[letter], lru=Lru.LIST)
        if state in known:
            other[ord(letter)] = known[state]
        else:
            letters[letter] = state
    vmas = tuple(attrs.evolve(vma, pages=vma.pages.translate(other)) for vma in s.vmas)
    return attrs.evolve(s, vmas=vmas, letters=tuple(sorted(letters.items())))


def why_not_scanned(s: Scenario) -> str:
    """Why khugepaged passes the range over; what the settings cannot change comes first."""
    covering = next((vma for vma in s.vmas if len(vma.pages) == s.geometry.ptes), None)
    if covering is None:
        return "no VMA covers the range"
    return _ineligible(s, covering) or "no order is enabled"


def _ineligible(s: Scenario, vma: Vma) -> str:
    if "nohugepage" in vma.flags:
        return "VM_NOHUGEPAGE"
    if s.thp_disable == "yes" or (s.thp_disable == "except_advised" and "hugepage" not in vma.flags):
        return "PR_SET_THP_DISABLE"
    skipped = [flag for flag in _SKIPPED_FLAGS if flag in vma.flags]
    if skipped:
        return f"VMA is {', '.join(skipped)}"
    return "" if vma.anon_vma else "VMA without anon_vma"
