"""Places: the locations that more than one task touches, and when two accesses to them depend on each other."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from kmm.kernel.access import Field

READ: Final = 0
"""Depends on writes and shares: a load, a failing trylock, an IPI that looks at a CPU."""
WRITE: Final = 1
"""Depends on everything: a store, an atomic operation, an exclusive lock taken or given up."""
SHARE: Final = 2
"""Depends on reads and writes, not on its like: a shared lock taken or given up."""

Footprint: TypeAlias = tuple[tuple[str, int], ...]
"""What one step touches: names of places, each with READ, WRITE or SHARE. The same in every execution of a program."""

Prints: TypeAlias = tuple[Footprint, Footprint, Footprint]
"""Of a READ, a WRITE and a SHARE."""

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
    :param index: of this element of it; -1 for all of it
    """

    __slots__ = ("field", "index", "reader", "toucher", "writer", "written")

    def __init__(self, field: str, index: int = -1) -> None:
        self.field = field
        self.index = index
        self.toucher: object = None
        """The only task so far, or :data:`MANY`."""
        self.written = False
        self.reader: object = None
        """The task (:data:`MANY`: any) that can read again, and nothing is to be learnt from it."""
        self.writer: object = None
        """The task that can write again, and nothing is to be learnt from it."""

    @classmethod
    def of(cls, key: Field[Any] | tuple[Field[Any], int], owner: object, *, written: bool) -> Local:
        """A field, or an element of one, that only ``owner`` has touched so far."""
        field, index = key if isinstance(key, tuple) else (key, -1)
        local = cls(field.name, index)
        local.toucher = local.reader = owner
        local.written = written
        local.writer = owner if written else None
        return local

    @property
    def called(self) -> str:
        """Its name within its object."""
        return self.field if self.index < 0 else f"{self.field}[{self.index}]"


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
        "living",
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

    reader = writer = None

    def __init__(self, name: str, obj: object = None, slot: str = "", index: int = -1) -> None:
        self.name = name
        self.obj = obj
        self.slot = slot
        self.index = index
        self.prints: Prints = (((name, READ),), ((name, WRITE),), ((name, SHARE),))
        self.living: Prints = self.prints
        """The same with the object's being there."""
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

    def live(self, life: Place | None) -> None:
        """Depend on the object's being there."""
        self.life = life
        if life is not None:
            read, write, share = self.prints
            there = (life.name, READ)
            self.living = ((*read, there), (*write, there), (*share, there))

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
