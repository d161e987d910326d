"""From scenarios to canonical TOML: fixed order, defaults left out."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import tomli_w

from kmm.scenario.model import MIN_MTHP_ORDER, Config, Geometry, Scenario, Tunables, Vma
from kmm.scenario.toml_read import FORMAT, REPLAY_KEYS

_LINE: Final = 64
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def write_scenario(s: Scenario, prefix: str = "", *, people: bool = True) -> str:
    """A scenario without the format line.

    :param prefix: what leads to its tables, such as ``scenario.``
    :param people: write name and remark
    """
    top = _differing(s, Scenario(tunables=s.tunables, vmas=s.vmas, driver=s.driver, geometry=s.geometry))
    plain = {key: top[key] for key in ("name", "remark", "contract", "pmd", "assumed") if key in top}
    if people:
        plain |= {key: value for key in ("name", "remark") if (value := getattr(s, key))}
    parts = [
        _values({key: plain[key] for key in ("name", "remark", "contract", "pmd", "assumed") if key in plain}),
        _table(f"{prefix}geometry", _differing(s.geometry, Geometry())),
        _table(f"{prefix}config", _differing(s.config, Config())),
        _tunables(s, prefix),
        *(_table(f"{prefix}letters.{_key(letter)}", _differing(state)) for letter, state in sorted(s.letters)),
        _table(f"{prefix}driver", _differing(s.driver)),
        *(_array(f"{prefix}vma", _vma(vma)) for vma in s.vmas),
        *(_array(f"{prefix}event", _differing(event)) for event in s.events),
        *(_array(f"{prefix}failure", _differing(failure)) for failure in s.failures),
    ]
    return "".join(parts)
