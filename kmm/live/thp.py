"""The settings of transparent hugepages, as sysfs shows them."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from kmm.live.errors import CaptureError
from kmm.scenario.checks import MIN_MTHP_ORDER
from kmm.scenario.model import GLOBAL_MODES, ORDER_MODES, Geometry, Tunables

LIMITS = ("max_ptes_none", "max_ptes_shared", "max_ptes_swap")


def read_tunables(geometry: Geometry, root: Path = Path("/")) -> tuple[Tunables, tuple[str, ...]]:
    """The settings, and the names of those that this kernel does not show and that took their default.

    Limits are clipped to what the geometry allows.

    :raises CaptureError: the kernel's PMD size is not that of ``geometry``
    """
    thp = root / "sys/kernel/mm/transparent_hugepage"
    default = Tunables.default(geometry)
    if not thp.is_dir():
        return default, ("tunables",)
    _check_pmd_size(thp, geometry)
    missing: list[str] = []
    limits = {name: _number(thp / "khugepaged" / name) for name in LIMITS}
    values = {name: min(max(value, 0), geometry.ptes - 1) for name, value in limits.items() if value is not None}
    reclaim = _number(root / "proc/sys/vm/zone_reclaim_mode")
    switches = {"defrag": _number(thp / "khugepaged" / "defrag"), "shrink_underused": _number(thp / "shrink_underused")}
    enabled = _mode(thp / "enabled", GLOBAL_MODES)
    missing += sorted(name for name, value in (limits | switches | {"node_reclaim": reclaim}).items() if value is None)
    if enabled is None:
        missing.append("enabled")
    tunables = attrs.evolve(
        default,
        max_ptes_none=values.get("max_ptes_none", default.max_ptes_none),
        max_ptes_shared=values.get("max_ptes_shared", default.max_ptes_shared),
        max_ptes_swap=values.get("max_ptes_swap", default.max_ptes_swap),
        enabled=enabled or default.enabled,
        hugepages=_order_modes(thp, geometry, default),
        defrag=_switch(switches["defrag"], default.defrag),
        shrink_underused=_switch(switches["shrink_underused"], default.shrink_underused),
        node_reclaim=_switch(reclaim, default.node_reclaim),
    )
    return tunables, tuple(sorted(missing))


def _order_modes(thp: Path, geometry: Geometry, default: Tunables) -> tuple[str, ...]:
    """The per-order switches; a kernel without one for an order behaves like the default, off below PMD order."""
    kib = {order: geometry.page_size // 1024 << order for order in range(MIN_MTHP_ORDER, geometry.pmd_order + 1)}
    found = (_mode(thp / f"hugepages-{size}kB" / "enabled", ORDER_MODES) for size in kib.values())
    return tuple(mode or fallback for mode, fallback in zip(found, default.hugepages, strict=True))


def _check_pmd_size(thp: Path, geometry: Geometry) -> None:
    size = _number(thp / "hpage_pmd_size")
    expected = geometry.page_size * geometry.ptes
    if size not in (None, expected):
        raise CaptureError(f"this kernel's PMD maps {size} bytes", f"capture on a kernel where it maps {expected}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _read(path)
    return int(text) if text.isdecimal() else None


def _mode(path: Path, modes: tuple[str, ...]) -> str | None:
    """The bracketed word of ``always [madvise] never``."""
    chosen = re.search(r"\[(\w+)\]", _read(path))
    return chosen.group(1) if chosen and chosen.group(1) in modes else None


def _switch(value: int | None, default: bool) -> bool:
    return default if value is None else value != 0
