"""Knobs: settings of transparent hugepages, named and refused as in sysfs."""

from __future__ import annotations

import re
from typing import Final

import attrs

from kmm.scenario.checks import MIN_MTHP_ORDER
from kmm.scenario.errors import BadInputError
from kmm.scenario.model import GLOBAL_MODES, ORDER_MODES, Geometry, Tunables

LIMITS: Final = ("max_ptes_none", "max_ptes_shared", "max_ptes_swap")
_DIRECTORY: Final = "khugepaged/"
_ORDER: Final = re.compile(r"hugepages-([0-9]{1,9})kB(?:/enabled)?")


class KnobError(BadInputError):
    """A knob that the kernel does not have, or a value that it refuses."""


@attrs.frozen(kw_only=True)
class Setting:
    """What one column of a prediction sets.

    :param knobs: (file, value), written in this order; none: everything as captured
    """

    knobs: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The knobs as they may be given again."""
        return ",".join(f"{file}={value}" for file, value in self.knobs) or "as captured"

    def on(self, tunables: Tunables, geometry: Geometry) -> Tunables:
        """``tunables`` after the writes.

        :raises KnobError: the kernel refuses one
        """
        for file, value in self.knobs:
            tunables = _written(tunables, geometry, file, value)
        return tunables


def parse_setting(text: str) -> Setting:
    """The setting that ``FILE=VALUE[,FILE=VALUE...]`` stands for.

    :raises KnobError: it has another form
    """
    knobs = []
    for part in text.split(","):
        file, equals, value = (word.strip() for word in part.partition("="))
        if not (file and equals and value):
            raise KnobError(
                f'"{part.strip()}" is not a knob and its value', "write it as max_ptes_none=0, several with commas between", text
            )
        knobs.append((_short(file), value))
    return Setting(knobs=tuple(knobs))


def spelled(tunables: Tunables, geometry: Geometry) -> str:
    """Tunables as knobs; hugepage sizes that are ``never`` are left out."""
    limits = [f"{name}={getattr(tunables, name)}" for name in LIMITS]
    sizes = [f"hugepages-{size}kB={mode}" for size, mode in zip(_sizes(geometry), tunables.hugepages, strict=True) if mode != "never"]
    return ",".join([f"enabled={tunables.enabled}", f"defrag={int(tunables.defrag)}", *limits, *sizes])


def _short(file: str) -> str:
    """A file's name without what need not be said."""
    return file.removeprefix(_DIRECTORY).removesuffix("/enabled")


def _sizes(geometry: Geometry) -> list[int]:
    """kB of each order, from the smallest on."""
    return [geometry.page_size >> 10 << order for order in range(MIN_MTHP_ORDER, geometry.pmd_order + 1)]


def _written(tunables: Tunables, geometry: Geometry, file: str, value: str) -> Tunables:
    if file in LIMITS:
        _accept(value.isdecimal() and value.isascii() and int(value) < geometry.ptes, file, value, f"0 to {geometry.ptes - 1}")
        limits = {name: getattr(tunables, name) for name in LIMITS} | {file: int(value)}
        return attrs.evolve(
            tunables,
            max_ptes_none=limits["max_ptes_none"],
            max_ptes_shared=limits["max_ptes_shared"],
            max_ptes_swap=limits["max_ptes_swap"],
        )
    if file == "enabled":
        _accept(value in GLOBAL_MODES, file, value, _either(GLOBAL_MODES))
        return attrs.evolve(tunables, enabled=value)
    if file == "defrag":
        _accept(value in ("0", "1"), file, value, "0 or 1")
        return attrs.evolve(tunables, defrag=value == "1")
    size = _ORDER.fullmatch(file)
    sizes = _sizes(geometry)
    if size is None or int(size[1]) not in sizes:
        known = f"enabled, defrag, {', '.join(LIMITS)}, or hugepages-NkB with N {sizes[0]}, {sizes[1]} ... {sizes[-1]}"
        raise KnobError("the kernel answers ENOENT (no such file)", f"use {known}", f"{file}={value}")
    _accept(value in ORDER_MODES, file, value, _either(ORDER_MODES))
    index = sizes.index(int(size[1]))
    return attrs.evolve(tunables, hugepages=(*tunables.hugepages[:index], value, *tunables.hugepages[index + 1 :]))


def _accept(good: bool, file: str, value: str, allowed: str) -> None:
    if not good:
        raise KnobError("the kernel answers EINVAL (invalid argument)", f"write {allowed}", f"{file}={value}")


def _either(modes: tuple[str, ...]) -> str:
    return f"{', '.join(modes[:-1])} or {modes[-1]}"
