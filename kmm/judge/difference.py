"""Which parts of two observations differ, with both values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from kmm.judge.observe import Observation, Value
from kmm.judge.words import flag_words, swp_type_word, trace_line

_ABSENT: Final = "absent"
_PARTS: Final[dict[str, tuple[str, ...]]] = {
    "address_spaces": ("mm", "mm_users", "flags", "rss_stat", "pgtables_bytes", "pmd", "deposited", "vmas", "entries"),
    "folios": (
        "folio",
        "order",
        "nid",
        "refcount",
        "mapcount",
        "entire_mapcount",
        "flags",
        "mlock_count",
        "index",
        "mapping",
        "swap",
        "charged",
        "mapped_shared",
        "batched",
        "deferred_split",
        "pages",
    ),
    "swap": ("offset", "count", "cached", "contents"),
}
"""Names of the parts of one element; the first one identifies it."""
_PRESENT: Final = 3
"""Parts of an entry that is present; one that stands for a page has more."""
_COUNTERS: Final = ("vm_events", "mthp_stats", "node_stat", "khugepaged")
_SETS: Final = ("violations", "warnings")


@attrs.frozen
class Difference:
    """One value that differs.

    :param where: the observable and the part of it
    """

    where: str
    baseline: str
    candidate: str


def differences(name: str, a: Observation, b: Observation) -> list[Difference]:
    """The differences in one observable.

    :param name: of the observable
    """
    x, y = getattr(a, name), getattr(b, name)
    if name in _COUNTERS:
        return list(_counters(name, x, y))
    if name in _PARTS:
        return list(_elements(name, x, y))
    if name in _SETS:
        return [Difference(name, *_either(each in x, _text(each))) for each in _union(x, y) if (each in x) != (each in y)]
    if isinstance(x, tuple) and isinstance(y, tuple):
        return list(_sequence(name, x, y))
    return [Difference(name, _text(x), _text(y))]


def _either(first: bool, text: str) -> tuple[str, str]:
    return (text, _ABSENT) if first else (_ABSENT, text)


def _union(x: tuple[Value, ...], y: tuple[Value, ...]) -> list[Value]:
    return [*x, *(each for each in y if each not in x)]


def _counters(name: str, x: tuple[Value, ...], y: tuple[Value, ...]) -> Iterator[Difference]:
    """Counters that are zero are not observed."""
    left, right = ({_key(each): _last(each) for each in side} for side in (x, y))
    for key in [*left, *(each for each in right if each not in left)]:
        if left.get(key) != right.get(key):
            yield Difference(f"{name} {key}", _text(left.get(key, 0)), _text(right.get(key, 0)))


def _key(counter: Value) -> str:
    """What is counted; for an order its statistic, as under its sysfs directory."""
    if not isinstance(counter, tuple):
        return str(counter)
    parts = counter[:-1]
    return f"order {parts[0]} {parts[1]}" if len(parts) == 2 else str(parts[0])


def _last(counter: Value) -> Value:
    return counter[-1] if isinstance(counter, tuple) else counter


def _elements(name: str, x: tuple[Value, ...], y: tuple[Value, ...]) -> Iterator[Difference]:
    """Elements that carry their identity, compared part by part."""
    left, right = (_by_identity(side) for side in (x, y))
    for key in [*left, *(each for each in right if each not in left)]:
        one, other = left.get(key), right.get(key)
        where = f"{name} {_identity(name, key)}"
        if one is None or other is None:
            yield Difference(where, *_either(one is not None, "there"))
        elif one != other:
            for part, p, q in zip(_PARTS[name], one, other, strict=False):
                yield from _part(f"{where} {part}", p, q)


def _by_identity(side: tuple[Value, ...]) -> dict[Value, tuple[Value, ...]]:
    return {each[0]: each for each in side if isinstance(each, tuple)}


def _identity(name: str, key: Value) -> str:
    return f"mm{key}" if name == "address_spaces" else f'"{key}"' if name == "folios" else f"slot {key}"


def _part(where: str, p: Value, q: Value) -> Iterator[Difference]:
    if p == q:
        return
    if isinstance(p, tuple) and isinstance(q, tuple) and p and q and isinstance(p[0], tuple | int) and where.endswith(("entries", "pages")):
        yield from _sequence(where, p, q)
    elif where.endswith("entries"):
        yield Difference(where, *(f"{len(side)} entries" if isinstance(side, tuple) and side else "none" for side in (p, q)))
    elif where.endswith(" pmd"):
        yield Difference(where, _pmd(p), _pmd(q))
    else:
        yield Difference(where, _text(p), _text(q))


def _pmd(value: Value) -> str:
    """What the PMD entry leads to."""
    if not isinstance(value, tuple):
        return "none"
    name, freed_by, bits = value
    words = flag_words(bits) if isinstance(bits, int) else []
    return " ".join([str(name), *words, *([f"(freed by {freed_by})"] if freed_by else [])])


def _sequence(where: str, x: tuple[Value, ...], y: tuple[Value, ...]) -> Iterator[Difference]:
    for i in range(max(len(x), len(y))):
        p, q = (side[i] if i < len(side) else None for side in (x, y))
        if p != q:
            yield Difference(f"{where}[{i}]", *(_item(where, side[i]) if i < len(side) else _ABSENT for side in (x, y)))


def _item(where: str, value: Value) -> str:
    if where == "trace" and isinstance(value, tuple):
        return trace_line(str(value[0]), value[1:])
    if where.endswith("entries") and isinstance(value, tuple):
        if len(value) > _PRESENT:
            return f"{swp_type_word(int(str(value[1])))} of {value[0]}"
        label, index, bits = value
        return " ".join([f"{label}[{index}]", *(flag_words(bits) if isinstance(bits, int) else ())])
    if where.endswith("entries") and isinstance(value, int):
        return "none" if not value else f"swap entry {value:#x}"
    return _text(value)


def _text(value: Value) -> str:
    if value in ("", ()):
        return "none"
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(each, str) for each in value):
        return f"{value[0]}: {value[1]}"
    return repr(value)
