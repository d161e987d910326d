"""From scenarios to canonical TOML: fixed order, defaults left out."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Final

import attrs
import tomli_w

from kmm.scenario.checks import MIN_MTHP_ORDER
from kmm.scenario.model import Process, Scenario, Tunables, Vma
from kmm.scenario.recorded import Recorded
from kmm.scenario.toml_read import TOML_NAME

_LINE: Final = 64
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_FOR_PEOPLE: Final = ("name", "remark")
_PLAIN: Final = ("contract", "pmd", "deposited", "thp_disable", "memcg_room", "assumed")


def write_scenario(s: Scenario, prefix: str = "", *, people: bool = True) -> str:
    """A scenario without the format line.

    :param prefix: what leads to its tables, such as ``scenario.``
    :param people: write the name and the remark
    """
    top = _differing(s)
    keys = (*_FOR_PEOPLE, *_PLAIN) if people else _PLAIN
    parts = [
        _values({key: top[key] for key in keys if key in top}),
        write_table(f"{prefix}geometry", _differing(s.geometry)),
        write_table(f"{prefix}config", _differing(s.config)),
        _tunables(s, prefix),
        *(write_table(f"{prefix}letters.{_quoted(letter)}", _differing(state)) for letter, state in sorted(s.letters)),
        write_table(f"{prefix}driver", _differing(s.driver)),
        *(_item(f"{prefix}vma", _vma(vma)) for vma in s.vmas),
        *(_process(f"{prefix}process", process) for process in s.processes),
        *(_item(f"{prefix}step", _differing(step)) for step in s.steps),
        *(_item(f"{prefix}actor", _differing(actor)) for actor in s.actors),
        *(_item(f"{prefix}event", _differing(event)) for event in s.events),
        *(_item(f"{prefix}failure", _differing(failure)) for failure in s.failures),
    ]
    return "".join(parts)


def write_schedule(schedule: Recorded) -> str:
    """A ``[schedule]`` table."""
    plain = _differing(schedule)
    plain.pop("deviation", None)
    return write_table("schedule", plain) + "".join(_item("schedule.deviation", _differing(each)) for each in schedule.deviations)


def write_table(name: str, values: Mapping[str, object]) -> str:
    """A table with its header; nothing where it would be empty."""
    return f"\n[{name}]\n{_values(values)}" if values else ""


def _item(name: str, values: Mapping[str, object]) -> str:
    return f"\n[[{name}]]\n{_values(values)}"


def _values(values: Mapping[str, object]) -> str:
    """Keys and values; a text of several lines is written as such, a list on one line."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in values.items())


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    return tomli_w.dumps({"": value}, multiline_strings="\r" not in str(value)).removeprefix('"" = ').removesuffix("\n")


def _differing(part: attrs.AttrsInstance, default: attrs.AttrsInstance | None = None) -> dict[str, object]:
    """The fields that are not as in ``default``, or not at their own defaults, as TOML values."""
    out: dict[str, object] = {}
    for field in attrs.fields(type(part)):
        value = getattr(part, field.name)
        if value != (getattr(default, field.name) if default else field.default):
            plain = value.value if isinstance(value, enum.Enum) else list(value) if isinstance(value, tuple) else value
            out[TOML_NAME.get(field.name, field.name)] = plain
    return out


def _vma(vma: Vma) -> dict[str, object]:
    pages = vma.pages
    lines = [pages[i : i + _LINE] for i in range(0, len(pages), _LINE)]
    return {**_differing(vma), "map": pages if len(lines) == 1 else "\n".join([*lines, ""])}


def _process(name: str, process: Process) -> str:
    plain = _differing(process)
    plain.pop("vma", None)
    return _item(name, plain) + "".join(_item(f"{name}.vma", _vma(vma)) for vma in process.vmas)


def _tunables(s: Scenario, prefix: str) -> str:
    default = Tunables.default(s.geometry)
    plain = _differing(s.tunables, default)
    plain.pop("hugepages", None)
    modes = zip(s.tunables.hugepages, default.hugepages, strict=True)
    orders = {str(order): mode for order, (mode, usual) in enumerate(modes, MIN_MTHP_ORDER) if mode != usual}
    return write_table(f"{prefix}tunables", plain) + write_table(f"{prefix}tunables.hugepages", orders)


def _quoted(key: str) -> str:
    """A key as TOML writes it."""
    return key if _BARE.fullmatch(key) else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
