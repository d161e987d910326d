"""The tables of the scenario format, out of the code that reads it."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Final, get_type_hints

import attrs

from docs._ext.docstrings import fields, plain
from docs._ext.table import Table, code
from kmm.scenario import checks, model, page
from kmm.scenario.alphabet import ALPHABET, MEANING
from kmm.scenario.boundary import AREAS, BOUNDARY
from kmm.scenario.model import Config, Driver, DriverKind, Event, Failure, Geometry, Process, Scenario, Tunables, Vma
from kmm.scenario.page import Kind, PageState
from kmm.scenario.scope import generated
from kmm.scenario.step import ADVICE, STEP_OPS, Step, Takes
from kmm.scenario.toml_read import FORMAT, TOML_NAME

WORDS: Final[dict[tuple[type[object], str], tuple[str, ...]]] = {
    (Config, "tlb"): ("broadcast", "ipi"),
    (Config, "arch"): ("x86", "walking"),
    (Tunables, "enabled"): model.GLOBAL_MODES,
    (Vma, "flags"): model.VMA_FLAGS,
    (Driver, "kind"): tuple(kind.value for kind in DriverKind),
    (Event, "op"): model.EVENT_OPS,
    (Event, "before"): model.POINTS,
    (Failure, "kind"): model.FAILURE_KINDS,
    (Scenario, "pmd"): checks.PMD_STATES,
    (Scenario, "thp_disable"): checks.THP_DISABLE,
    (Step, "op"): tuple(STEP_OPS),
    (Process, "pmd"): checks.PMD_STATES,
    (Process, "thp_disable"): checks.THP_DISABLE,
    (Scenario, "contract"): ("checked", "unchecked"),
}
"""The strings that a key takes, where not any string will do."""

SAID_HERE: Final[dict[tuple[type[object], str], str]] = {
    (Driver, "kind"): "who calls: khugepaged, ``MADV_COLLAPSE``, or a direct attempt at one order and offset",
    (Failure, "nth"): "which one fails, from 1",
    (Failure, "page"): "PTE index",
    (Vma, "map"): "one letter a page, of those inside the range; white space is ignored",
}
"""What a key means, where the docstring of the class says it elsewhere or for Python."""

TABLES_OF_THEIR_OWN: Final = ("geometry", "config", "tunables", "vmas", "letters", "driver", "processes", "steps", "events", "failures")


def alphabet() -> Table:
    """Every letter, what it stands for, and how one would spell it out."""
    rows = tuple((code(letter), MEANING[letter], _spelled(state)) for letter, state in ALPHABET.items())
    return Table(("letter", "the page", "spelled out"), rows, (1, 5, 8))


def _spelled(state: PageState) -> str:
    values = {field.name: getattr(state, field.name) for field in attrs.fields(PageState)}
    said = [f"{field.name} = {_toml(values[field.name])}" for field in attrs.fields(PageState) if values[field.name] != field.default]
    return ", ".join(code(each) for each in said)


def kinds() -> Table:
    """What an entry may hold, which keys then may be said, and the letters that are such."""
    rows = tuple(
        (code(kind.value), _allowed(kind), " ".join(code(c) for c, state in ALPHABET.items() if state.kind is kind)) for kind in Kind
    )
    return Table(("kind", "further keys", "letters"), rows, (3, 6, 4))


def _allowed(kind: Kind) -> str:
    if kind is Kind.PRESENT:
        return "all"
    return ", ".join(code(name) for name in page._FIELDS.get(kind, ())) or "none"


def keys(cls: type[attrs.AttrsInstance]) -> Table:
    """The keys of the table of a file that becomes a ``cls``."""
    said = fields(cls)
    hints = get_type_hints(cls)
    own = [a for a in attrs.fields(cls) if cls not in (Scenario, Process) or a.name not in TABLES_OF_THEIR_OWN]
    rows = [
        (code(key), SAID_HERE.get((cls, key)) or in_file(said.get(a.name, "")), _values(cls, a.name, hints[a.name]), default(cls, a))
        for a in own
        for key in [TOML_NAME.get(a.name, a.name)]
        if key != "hugepages"
    ]
    if cls is Scenario:
        rows.insert(0, (code("format"), "number of the format", code(str(FORMAT)), "must be given"))
    return Table(("key", "meaning", "value", "default"), tuple(rows), (3, 8, 5, 3))


def in_file(text: str) -> str:
    """What a docstring says of a field, for somebody who writes a file: ``None`` is what is left out."""
    return plain(text).replace("``None``", "left out")


def _values(cls: type[object], name: str, hint: object) -> str:
    if (cls, name) in WORDS:
        return ", ".join(code(word) for word in WORDS[cls, name])
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return ", ".join(code(each.value) for each in hint)
    if hint is bool:
        return f"{code('true')}, {code('false')}"
    if hint in (int, int | None):
        return "number"
    return "text" if hint is str else "list of texts"


def default(cls: type[attrs.AttrsInstance], field: attrs.Attribute[object]) -> str:
    """What a key is when a file leaves it out."""
    value = getattr(Tunables.default(Geometry()), field.name) if cls is Tunables else field.default
    if value is attrs.NOTHING:
        return "must be given"
    if value is None:
        return "left out"
    return code(_toml(value))


def _toml(value: object) -> str:
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def steps() -> Table:
    """Every step, what it needs, and what it does."""
    rows = tuple((code(op), _needed(op), said.replace("`", "``")) for op, (_, said) in STEP_OPS.items())
    return Table(("step", "keys", "what it does"), rows, (2, 4, 8))


def _needed(op: str) -> str:
    takes = STEP_OPS[op][0]
    names = {Takes.PROCESS: "process", Takes.PAGE: "page", Takes.LENGTH: "length", Takes.TO: "to", Takes.NAME: "name", Takes.VALUE: "value"}
    keys = [code(name) for flag, name in names.items() if flag in takes]
    return ", ".join(keys) + (f" ({', '.join(ADVICE)})" if op == "madvise" else "") or "none"


def boundary(area: str) -> Table:
    """What the model leaves out in one area."""
    rows = tuple((code(gap.key), gap.kernel, gap.model) for gap in BOUNDARY if gap.area == area)
    return Table(("key", "a kernel", "the model"), rows, (3, 7, 7))


def families(scope: str) -> Table:
    """The families of a scope; of the full one those that the quick one has not."""
    known = _families("quick") if scope == "full" else ()
    return Table(("family", "kind", "set"), tuple(each for each in _families(scope) if each not in known), (4, 3, 11))


@functools.cache
def _families(scope: str) -> tuple[tuple[str, str, str], ...]:
    return tuple((family.name, family.kind, family.set) for family in generated(scope, 0))


PARTS: Final[dict[str, type[attrs.AttrsInstance]]] = {
    "scenario": Scenario,
    "geometry": Geometry,
    "config": Config,
    "tunables": Tunables,
    "letters": PageState,
    "vma": Vma,
    "driver": Driver,
    "process": Process,
    "step": Step,
    "event": Event,
    "failure": Failure,
}


OTHERS: Final[dict[str, Callable[[], Table]]] = {
    "alphabet": alphabet,
    "kinds": kinds,
    "steps": steps,
    "quick": lambda: families("quick"),
    "full": lambda: families("full"),
}


def table(name: str) -> Table:
    """A table by its name in a page.

    :raises KeyError: there is no such table
    """
    if name in PARTS:
        return keys(PARTS[name])
    if name in AREAS:
        return boundary(name)
    return OTHERS[name]()
