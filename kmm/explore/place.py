"""Places: the locations that more than one task touches, and when two accesses to them depend on each other."""

from __future__ import annotations

from typing import Final, TypeAlias

READ: Final = 0
"""Depends on writes and shares: a load, a failing trylock, an IPI that looks at a CPU."""
WRITE: Final = 1
"""Depends on everything: a store, an atomic operation, an exclusive lock taken or given up."""
SHARE: Final = 2
"""Depends on reads and writes, not on its like: a shared lock taken or given up."""

Footprint: TypeAlias = tuple[tuple[str, int], ...]
"""What one step touches: names of places, each with READ, WRITE or SHARE. The same in every execution of a program."""

Touch: TypeAlias = tuple[str, str, bool, bool]
"""For KCSAN: who touches a place, in which kernel function, by a plain access or a marked one, writing or not."""

MANY: Final = object()
"""Several tasks have read a place and none has written it."""


def dependent(a: Footprint, b: Footprint) -> bool:
    """Whether two steps with these footprints, by different tasks, may not be swapped."""
    for place, kind in a:
        for other, how in b:
            if place == other and (kind != how or kind == WRITE):
                return True
    return False


class Local:
    """One location that no two tasks have fought over yet.

    :param field: as the location is called within its object
    """

    __slots__ = ("field", "toucher", "written")

    shared = False

    def __init__(self, field: str) -> None:
        self.field = field
        self.toucher: object = None
        """The only task so far, or :data:`MANY`."""
        self.written = False


class Place:
    """One location of which an earlier execution has seen two tasks at it, one of them writing.

    :param name: the same in every execution
    :param obj: where its value is: an attribute of this,
    :param slot: of this name; empty for what is no memory
    :param index: and of that this element; -1 for all of it
    """

    __slots__ = (
        "drops",
        "history",
        "index",
        "last",
        "life",
        "name",
        "obj",
        "plain_writes",
        "prints",
        "reader_sync",
        "reads",
        "shares",
        "slot",
        "sync",
        "takes",
        "touches",
    )

    shared = True

    def __init__(self, name: str, obj: object = None, slot: str = "", index: int = -1) -> None:
        self.name = name
        self.obj = obj
        self.slot = slot
        self.index = index
        self.prints: tuple[Footprint, Footprint, Footprint] = (((name, READ),), ((name, WRITE),), ((name, SHARE),))
        self.life: Place | None = None
        """Stands for the object's being there, if some task frees it."""
        self.last = -1
        """Event of the last WRITE."""
        self.reads: list[int] = []
        """READ events since then."""
        self.shares: list[int] = []
        """SHARE events since then."""
        self.history: list[tuple[int, object]] = []
        """Of memory: every WRITE event with the value before it."""
        self.takes: list[tuple[int, bool]] = []
        """Of a lock: every event that took it, and whether exclusively."""
        self.drops: dict[int, int] = {}
        """Of a lock: the event that took it to the one that gave it up."""
        self.sync = 0
        """KCSAN: what whoever acquires from here comes after."""
        self.reader_sync = 0
        """KCSAN: what only an exclusive holder comes after."""
        self.plain_writes: dict[Touch, int] = {}
        """KCSAN: the last plain write of each task and function,"""
        self.touches: dict[Touch, int] = {}
        """and the last of its other accesses of each kind."""

    def get(self) -> object:
        """The value in memory."""
        value: object = getattr(self.obj, self.slot)
        if self.index < 0:
            return value
        assert isinstance(value, list)
        return value[self.index]

    def set(self, value: object) -> None:
        """Change the value in memory."""
        if self.index < 0:
            setattr(self.obj, self.slot, value)
        else:
            getattr(self.obj, self.slot)[self.index] = value
