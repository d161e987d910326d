"""Turns the recordings of a 6.18 kernel into scenario files, once: ``python -m tests.data.oracle.convert RECORDING``.

Writes beside itself a scenario file for each recorded scenario that can be said, ``recorded.json`` (what the kernel did there and what
had been done before, in the words of the recording) and ``left_out.toml`` (the others, with the reason). What one table can say is said so,
the rest with steps.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.model import Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import Lru, PageState
from kmm.scenario.step import Step
from kmm.scenario.toml import render
from tests.data.oracle.program import NR, LeftOutError, Memory

HERE: Final = Path(__file__).parent
Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"

_SPARE: Final = "ABCEGIJOQVWX"
_FIELDS: Final = ("event", "status", "ret", "swapped_in", "referenced", "none_or_zero", "unmapped", "scan_index")
_LIMITS: Final = ("max_ptes_none", "max_ptes_swap", "max_ptes_shared")
_NO_ROOM: Final = NR - 1

WITH_STEPS: Final = {"kh_pages_to_scan_1": 1, "kh_two_pmds": 2, "no_drain": 1, "pmd_mapped_shared": 1}
"""Ranges of the scenarios that need steps though they have one table, or no range in their call."""
QUOTA_OF_1: Final = Step(op="sysfs", name="khugepaged/pages_to_scan", value="1")
HARNESS: Final = {"kh_always_noflag": 3}
"""Scans of a huge page of the harness's own, which the switch ``always`` lets khugepaged see too: so many page_pmd_mapped are not ours."""
_TURNS: Final = {"kh_pages_to_scan_1": 2}
"""Turns of khugepaged's main loop that make a full scan, if not one: with a quota of 1, the first ends behind the table."""
_DISK: Final = "a read from the disk is under way when the call comes; when it ends is a matter of time"


@attrs.frozen(kw_only=True)
class Case:
    """One scenario file and what was recorded for it.

    :param file: name of the scenario file
    :param first: first page of the table, from the first one that was read back
    :param ranges: tables of a scenario with steps; 0: the driver is that of one table
    :param calls: the measured calls, one after the other, of which the file has all
    """

    file: str
    id: str
    description: str
    program: list[str]
    environment: dict[str, str]
    first: int
    ranges: int
    calls: list[dict[str, Json]]


def text_of(case: Case) -> str:
    """The scenario file of a case, from its program alone."""
    return render(scenario_of(case))


def scenario_of(case: Case) -> Scenario:
    """The scenario of a case, from its program alone.

    :raises LeftOutError: it cannot be said
    """
    memory, measured = _set_up(case.program, case.environment)
    _undrained(memory, case)
    first = memory.window + case.first
    tables = range(first // NR, first // NR + max(case.ranges, 1))
    letters = _Letters()
    pmds = [memory.huge.get(number, "table" if number in memory.tables else "none") for number in tables]
    return Scenario(
        geometry=Geometry(ranges=len(tables)),
        tunables=_tunables(case.environment),
        vmas=tuple(_vmas(memory, range(first, first + NR * len(tables)), letters)),
        letters=tuple(sorted(letters.new.items())),
        pmd=pmds[0] if len(set(pmds)) == 1 else " ".join(pmds),
        driver=Driver(kind=DriverKind.STEPS) if case.ranges else _driver(measured),
        steps=tuple(_steps(case, memory, measured)) if case.ranges else (),
        thp_disable=memory.thp_disable,
        memcg_room=_NO_ROOM if memory.limited else None,
        name=case.id,
        remark=case.description,
    )


def _driver(measured: list[str]) -> Driver:
    if measured[0].startswith("khuge"):
        return Driver(kind=DriverKind.KHUGEPAGED, passes=_full_scans(measured[0]))
    return Driver(kind=DriverKind.MADVISE, passes=len(measured))


def _full_scans(call: str) -> int:
    return int(call.split()[2])


def _steps(case: Case, memory: Memory, measured: list[str]) -> Iterator[Step]:
    """The measured calls as steps, behind what the first state cannot say."""
    if case.id == "kh_pages_to_scan_1":
        yield QUOTA_OF_1
    if memory.shared_huge:
        yield Step(op="fork")
    for call in measured:
        op, *words = call.split()
        if op == "khuge":
            yield from [Step(op="khugepaged")] * (_full_scans(call) * _TURNS.get(case.id, 1))
        else:
            first, end = int(words[0]), int(words[1])
            yield Step(op="madvise", page=first, length=end - first, value="collapse")


def _undrained(memory: Memory, case: Case) -> None:
    """Without a drain some pages are in an LRU batch still; the program does not tell which."""
    if "drain" in case.program or not case.ranges:
        return
    pages = case.calls[0]["before"]
    assert isinstance(pages, list)
    index = 0
    for run in pages:
        assert isinstance(run, list)
        count, marks = run
        assert isinstance(count, int)
        if "nolru" in str(marks):
            memory.change(range(index, index + count), lambda page: attrs.evolve(page, lru=Lru.BATCH))
        index += count


def _set_up(program: list[str], environment: dict[str, str]) -> tuple[Memory, list[str]]:
    """The memory at the first measured call, and the measured calls; the program ends with them."""
    memory = Memory(swap=environment.get("swap", ""), large="hugepages-64kB/enabled" in environment)
    measured: list[str] = []
    for step in program:
        if step.startswith("!"):
            measured.append(step[1:])
        elif measured:
            raise LeftOutError("something is done between two calls")
        else:
            memory.do(step)
    return memory, measured


class _Letters:
    """Letters for page states: those of the default alphabet, else new ones."""

    def __init__(self) -> None:
        self.new: dict[str, PageState] = {}

    def of(self, page: PageState) -> str:
        for alphabet in (ALPHABET, self.new):
            for letter, state in alphabet.items():
                if state == page:
                    return letter
        letter = next(each for each in _SPARE if each not in ALPHABET and each not in self.new)
        self.new[letter] = page
        return letter


def _vmas(memory: Memory, table: range, letters: _Letters) -> Iterator[Vma]:
    """The VMAs in a range of pages: those of one area with the same flags, as far as they reach."""
    mapped = sorted(memory.areas)
    runs = groupby(mapped, key=lambda index: (id(memory.areas[index]), memory.flags[index]))
    for (_, flags), run in runs:
        pages = list(run)
        inside = [index for index in pages if index in table]
        if not inside:
            continue
        whole = len(inside) == len(table)
        yield Vma(
            pages="".join(letters.of(memory.pages[index]) for index in inside),
            flags=tuple(sorted(flags)),
            anon_vma=memory.areas[pages[0]].anon_vma,
            start=None if whole else inside[0] - table.start,
            before=sum(index < table.start for index in pages),
            after=sum(index >= table.stop for index in pages),
        )


def _tunables(environment: dict[str, str]) -> Tunables:
    default = Tunables.default(Geometry())
    hugepages = ("never", "never", environment.get("hugepages-64kB/enabled", "never"), *default.hugepages[3:])
    limits = {name: int(environment[name]) for name in _LIMITS if name in environment}
    return attrs.evolve(default, enabled=environment.get("enabled", "madvise"), hugepages=hugepages, **limits)  # type: ignore[arg-type]


def cases_of(recorded: dict[str, Json]) -> Iterator[Case]:
    """The cases of one recorded scenario: one, or one for each call when something is done in between.

    :raises LeftOutError: it cannot be said
    """
    ident, group = str(recorded["id"]), str(recorded["group"])
    given = recorded["input"]
    calls = recorded["steps"]
    assert isinstance(given, dict)
    assert isinstance(calls, list)
    program = [str(step) for step in given["program"]] if isinstance(given["program"], list) else []
    environment = {str(k): str(v) for k, v in given["environment"].items()} if isinstance(given["environment"], dict) else {}
    if group == "fileio":
        raise LeftOutError(_DISK)
    for part, programs in _parts(program):
        measured = [step.split() for step in programs if step.startswith("!")]
        ranges = WITH_STEPS.get(ident) or _ranges(measured[0])
        here = calls[: len(measured)]
        calls = calls[len(measured) :]
        case = Case(
            file=f"{ident}{part}.toml",
            id=f"{ident}{part}",
            description=str(recorded["description"]),
            program=programs,
            environment=environment,
            first=0 if ranges else _first_page(measured[0]) - _set_up(programs, environment)[0].window,
            ranges=ranges,
            calls=[_call(ident, each) for each in here if isinstance(each, dict)],
        )
        scenario_of(case)
        yield case


def _parts(program: list[str]) -> list[tuple[str, list[str]]]:
    """Cut a program behind a measured call after which something is done; what came before stays, without the measuring.

    Only a refused call may be followed by something: it leaves the memory as it was.
    """
    measured = [at for at, step in enumerate(program) if step.startswith("!")]
    if measured == list(range(measured[0], len(program))):
        return [("", program)]
    parts = []
    for number, at in enumerate(measured, 1):
        before = [step for step in program[:at] if not step.startswith("!")]
        parts.append((f"-{number}", [*before, program[at]]))
    return parts


def _first_page(call: list[str]) -> int:
    """The first page of the one table that a call is about."""
    return 0 if call[0] == "!khuge" else int(call[1]) // NR * NR


def _ranges(call: list[str]) -> int:
    """Tables of the range of a call, if it is not about the whole of one VMA in one table; else 0."""
    if call[0] == "!khuge":
        return 0
    if "odd" in call:
        raise LeftOutError("an address inside a page cannot be said")
    first, end = int(call[1]), int(call[2])
    alone = end - first == NR or (first, end) in ((1, 512), (0, 511), (0, 768))
    return 0 if alone else -(-end // NR)


def _call(ident: str, call: dict[str, Json]) -> dict[str, Json]:
    """What is kept of a recorded call."""
    events = call["events"]
    before, after = call["before"], call["after"]
    delta = call["mm_delta_kb"]
    assert isinstance(events, list)
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert isinstance(delta, dict)
    kept: list[Json] = [{name: event[name] for name in _FIELDS if name in event} for event in events if isinstance(event, dict)]
    for _ in range(HARNESS.get(ident, 0)):
        kept.remove(next(each for each in kept if isinstance(each, dict) and each.get("status") == "page_pmd_mapped"))
    return {
        "call": call["op"],
        "errno": "" if call["errno"] == "OK" else call["errno"],
        "before": before["pages"],
        "events": kept,
        "after": after["pages"],
        "RssAnon": delta["RssAnon"],
    }


def read_cases(path: Path) -> list[Case]:
    """The cases of ``recorded.json``."""
    return [Case(**each) for each in json.loads(path.read_text(encoding="utf-8"))]


def convert(recording: dict[str, Json]) -> tuple[list[Case], list[tuple[str, str, str]]]:
    """The cases, and (name, description, reason) of the scenarios that are left out."""
    cases, left_out = [], []
    scenarios = recording["scenarios"]
    assert isinstance(scenarios, list)
    for each in scenarios:
        assert isinstance(each, dict)
        try:
            cases += list(cases_of(each))
        except LeftOutError as error:
            left_out.append((str(each["id"]), str(each["description"]), str(error)))
    return cases, left_out


def main(path: str) -> None:
    """Write everything."""
    cases, left_out = convert(json.loads(Path(path).read_text(encoding="utf-8")))
    for case in cases:
        (HERE / case.file).write_text(text_of(case), encoding="utf-8")
    lines = ",\n".join(json.dumps(attrs.asdict(case)) for case in cases)
    (HERE / "recorded.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    tables = [f"[[left_out]]\nid = {json.dumps(i)}\ndescription = {json.dumps(d)}\nreason = {json.dumps(r)}\n" for i, d, r in left_out]
    (HERE / "left_out.toml").write_text("\n".join(tables), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
