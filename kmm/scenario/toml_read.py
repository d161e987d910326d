"""From TOML to scenarios: typed, strict, and every error with its line."""

from __future__ import annotations

import difflib
import enum
import functools
import itertools
import re
import tomllib
import types
from collections.abc import Callable, Mapping
from typing import Final, NoReturn, TypeAlias, TypeVar, get_type_hints

import attrs

from kmm.scenario.checks import MIN_MTHP_ORDER
from kmm.scenario.errors import ScenarioError
from kmm.scenario.lines import Path, line_of
from kmm.scenario.model import Config, Driver, Event, Failure, Geometry, Process, Scenario, Tunables, Vma
from kmm.scenario.page import PageState
from kmm.scenario.recorded import Deviation, Recorded
from kmm.scenario.step import Step

T = TypeVar("T")
Table: TypeAlias = dict[str, object]

FORMAT: Final = 1
REPLAY_KEYS: Final = (
    "candidate",
    "candidate_tree",
    "candidate_rev",
    "candidate_patches",
    "baseline",
    "baseline_tree",
    "baseline_rev",
    "baseline_patches",
    "expect",
)
TOML_NAME: Final = {
    "pages": "map",
    "vmas": "vma",
    "processes": "process",
    "steps": "step",
    "actors": "actor",
    "deviations": "deviation",
    "events": "event",
    "failures": "failure",
}
_PLAIN_KEYS: Final = ("name", "remark", "contract", "pmd", "deposited", "thp_disable", "memcg_room", "assumed")
_PARTS: Final = ("geometry", "config", "tunables", "letters", "driver", "vma", "process", "step", "actor", "event", "failure")


@attrs.frozen
class Node:
    """One table of a file, and where it is.

    :param path: keys and indices that lead to it
    :param source: name of the file
    :param text: all of the file
    """

    table: Table
    path: Path
    source: str
    text: str

    def where(self, *path: str | int) -> str:
        """File and line of something in this table."""
        return f"{self.source}:{line_of(self.text, self.path + path)}"

    def fail(self, problem: str, remedy: str, *path: str | int) -> NoReturn:
        """Raise an error with its line."""
        raise ScenarioError(problem, remedy, self.where(*path)) from None

    def allow(self, *names: str) -> None:
        """Refuse every other key."""
        for key in self.table:
            if key not in names:
                near = difflib.get_close_matches(key, names, 1)
                self.fail(f'unknown key "{key}"', f'did you mean "{near[0]}"?' if near else f"use {', '.join(names)}", key)

    def value(self, key: str, hint: object) -> object:
        """The value of a key that is there, as the type that ``hint`` names."""
        raw = self.table[key]
        expected, value = _convert(hint, raw)
        if expected:
            self.fail(f"{key} has the wrong value {_show(raw)}", f"write {expected}", key)
        return value

    def child(self, key: str) -> Node:
        """A table in this one; empty where there is none."""
        return self._node(self.table.get(key, {}), f"write [{key}]", key)

    def children(self, key: str) -> list[Node]:
        """An array of tables; empty where there is none."""
        raw = self.table.get(key, [])
        if not isinstance(raw, list):
            self.fail(f"{key} must be an array of tables", f"write [[{key}]]", key)
        return [self._node(item, f"write [[{key}]]", key, index) for index, item in enumerate(raw)]

    def _node(self, raw: object, remedy: str, *path: str | int) -> Node:
        if not isinstance(raw, dict):
            self.fail(f"{path[0]} must be a table", remedy, *path)
        return Node(raw, self.path + path, self.source, self.text)

    def make(self, build: Callable[..., T], values: Mapping[str, object]) -> T:
        """Build a part; an error that it raises gets the line of the key that it names, else of this table."""
        try:
            return build(**values)
        except ScenarioError as error:
            raise error.at(self.where(*_culprit(error.problem, self.table))) from None


def _convert(hint: object, raw: object) -> tuple[str, object]:
    """What was expected instead ("" where ``raw`` fits), and the value."""
    kind = hint
    if isinstance(hint, types.UnionType):
        kind = next(each for each in hint.__args__ if each is not types.NoneType)
    if kind is bool:
        return ("" if isinstance(raw, bool) else "true or false"), raw
    if kind is int:
        return ("" if isinstance(raw, int) and not isinstance(raw, bool) else "a whole number"), raw
    if kind is str:
        return ("" if isinstance(raw, str) else "a string"), raw
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        found = next((each for each in kind if each.value == raw), None)
        return ("" if found else "one of " + ", ".join(f'"{each.value}"' for each in kind)), found
    strings = isinstance(raw, list) and all(isinstance(item, str) for item in raw)
    return ("", tuple(raw)) if isinstance(raw, list) and strings else ("a list of strings", raw)


def _show(raw: object) -> str:
    """A value, short enough for a line."""
    if isinstance(raw, dict | list):
        return "(a table)" if isinstance(raw, dict) else "(a list)"
    text = f'"{raw}"' if isinstance(raw, str) else str(raw).lower() if isinstance(raw, bool) else str(raw)
    return text if len(text) <= 40 else text[:37] + "..."


def _culprit(problem: str, table: Table) -> Path:
    """The path, in ``table``, of the key or value with which ``problem`` begins."""
    for key, value in table.items():
        if key in ("name", "remark", "assumed"):
            continue
        quoted = [f'"{item}" ' for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
        if problem.startswith((f"{key} = ", *quoted)) or (key == "page" and problem.startswith(f"page {value} ")):
            return (key,)
        if isinstance(value, dict) and (inner := _culprit(problem, value)):
            return (key, *inner)
        if isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, dict) and (inner := _culprit(problem, item)):
                    return (key, index, *inner)
    return ()


@functools.cache
def _hints(cls: type[object]) -> dict[str, object]:
    return {TOML_NAME.get(name, name): hint for name, hint in get_type_hints(cls).items()}


def _fields(cls: type[attrs.AttrsInstance], node: Node, *required: str) -> dict[str, object]:
    """The keys of a table, by the names of ``cls``'s fields."""
    names = {TOML_NAME.get(a.name, a.name): a.name for a in attrs.fields(cls)}
    node.allow(*names)
    for key in required:
        if key not in node.table:
            node.fail(f"{key} is missing", f"add {key} = ...")
    hints = _hints(cls)
    return {names[key]: node.value(key, hints[key]) for key in node.table}


def document(text: str, source: str) -> Node:
    """Read TOML and check its format number.

    :raises ScenarioError: it is not TOML, or not this format
    """
    try:
        root = Node(tomllib.loads(text), (), source, text)
    except RecursionError:
        raise ScenarioError("the file is nested too deeply", "write a scenario", f"{source}:1") from None
    except ValueError as error:
        raise _syntax_error(str(error), text, source) from None
    if "format" not in root.table:
        root.fail("format is missing", f"begin the file with format = {FORMAT}")
    number = root.value("format", int)
    if number != FORMAT:
        root.fail(f"format = {number} is not known", f"write format = {FORMAT}, or use a newer kmm", "format")
    return root


def _syntax_error(message: str, text: str, source: str) -> ScenarioError:
    at = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    line = int(at[1]) if at and at[1] else max(1, len(text.splitlines())) if at else 1
    problem = message[: at.start()] if at else message
    return ScenarioError(f"not valid TOML ({problem})", "mend the line", f"{source}:{line}")


def read_scenario(node: Node, *extra: str) -> Scenario:
    """A scenario from its table.

    :param extra: further keys that may be there
    :raises ScenarioError: with file and line
    """
    node.allow(*_PLAIN_KEYS, *_PARTS, *extra)
    hints = _hints(Scenario)
    values: dict[str, object] = {key: node.value(key, hints[key]) for key in _PLAIN_KEYS if key in node.table}
    geometry = _part(Geometry, node.child("geometry"))
    if "driver" not in node.table:
        node.fail("the scenario has no driver", 'add [driver] with kind = "khugepaged", "madvise", "direct" or "steps"')
    if "vma" not in node.table:
        node.fail("the scenario has no VMA", "add [[vma]] with its map")
    values |= {
        "geometry": geometry,
        "config": _part(Config, node.child("config")),
        "tunables": _tunables(node.child("tunables"), geometry),
        "letters": _letters(node.child("letters")),
        "driver": _part(Driver, node.child("driver"), "kind"),
        "vmas": tuple(_vma(child) for child in node.children("vma")),
        "processes": tuple(_process(child) for child in node.children("process")),
        "steps": tuple(_part(Step, child, "op") for child in node.children("step")),
        "actors": tuple(_part(Step, child, "op") for child in node.children("actor")),
        "events": tuple(_part(Event, child, "op", "before") for child in node.children("event")),
        "failures": tuple(_part(Failure, child, "kind") for child in node.children("failure")),
    }
    try:
        return Scenario(**values)  # type: ignore[arg-type]
    except ScenarioError as error:
        raise error.at(node.where(*_scenario_culprit(error.problem, node.table))) from None


def _scenario_culprit(problem: str, table: Table) -> Path:
    """Where to look for an error that no single part could see; nearly all of these are about the map."""
    if "unaligned" in problem:
        return ("driver",)
    which = re.search(r" \((?:process (\d+), )?VMA (\d+)\)$", problem)
    if which:
        own = ("process", int(which[1]) - 2) if which[1] and which[1] != "1" else ()
        return (*own, "vma", int(which[2]) - 1, "map")
    step = re.match(r"(step|actor) (\d+) ", problem)
    if step:
        return (step[1], int(step[2]) - 1)
    if problem.startswith(("steps and", "several ranges")):
        return ("driver",)
    if problem.startswith("an event"):
        return ("event", 0)
    if problem.endswith(("is not one letter", "of the default alphabet")):
        return ("letters", problem.split('"')[1])
    return _culprit(problem, table) or ("vma", 0, "map")


def _part(cls: type[T], node: Node, *required: str) -> T:
    return node.make(cls, _fields(cls, node, *required))  # type: ignore[arg-type]


def _vma(node: Node) -> Vma:
    values = _fields(Vma, node, "map")
    values["pages"] = "".join(str(values["pages"]).split())
    flags = values.get("flags")
    if isinstance(flags, tuple):
        values["flags"] = ordered = tuple(sorted(flags))
        for flag, after in itertools.pairwise(ordered):
            if flag == after:
                node.fail(f'flag "{flag}" is given twice', "drop one", "flags")
    return node.make(Vma, values)


def _process(node: Node) -> Process:
    node.allow("vma", "pmd", "thp_disable")
    hints = _hints(Process)
    values: dict[str, object] = {key: node.value(key, hints[key]) for key in ("pmd", "thp_disable") if key in node.table}
    return node.make(Process, {**values, "vmas": tuple(_vma(child) for child in node.children("vma"))})


def _letters(node: Node) -> tuple[tuple[str, PageState], ...]:
    letters: list[tuple[str, PageState]] = []
    for letter in sorted(node.table):
        if len(letter) != 1:
            node.fail(f'"{letter}" is not one letter', "use one printable ASCII character", letter)
        letters.append((letter, _part(PageState, node.child(letter), "kind")))
    return tuple(letters)


def _tunables(node: Node, geometry: Geometry) -> Tunables:
    default = Tunables.default(geometry)
    plain = Node({key: value for key, value in node.table.items() if key != "hugepages"}, node.path, node.source, node.text)
    values = _fields(Tunables, plain)
    modes = list(default.hugepages)
    orders = node.child("hugepages")
    orders.allow(*(str(order) for order in range(MIN_MTHP_ORDER, geometry.pmd_order + 1)))
    for order in orders.table:
        modes[int(order) - MIN_MTHP_ORDER] = str(orders.value(order, str))
    return node.make(functools.partial(attrs.evolve, default), {**values, "hugepages": tuple(modes)})


def read_replay(node: Node) -> dict[str, str]:
    """The strings of a ``[replay]`` table; empty where there is none."""
    replay = node.child("replay")
    replay.allow(*REPLAY_KEYS)
    return {key: str(replay.value(key, str)) for key in REPLAY_KEYS if key in replay.table}


def read_schedule(node: Node) -> Recorded | None:
    """The ``[schedule]`` table; ``None`` where there is none."""
    if "schedule" not in node.table:
        return None
    table = node.child("schedule")
    hints = _hints(Recorded)
    table.allow("deviation", *(name for name in hints if name != "deviations"))
    for key in ("side", "others"):
        if key not in table.table:
            table.fail(f"the schedule has no {key}", f"add {key} = ...")
    values = {key: table.value(key, hints[key]) for key in table.table if key != "deviation"}
    deviations = tuple(_part(Deviation, child, "task", "function", "primitive", "to") for child in table.children("deviation"))
    return table.make(Recorded, {**values, "deviations": deviations})
