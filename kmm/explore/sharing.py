"""Which locations more than one task fights over: learnt from one execution to the next."""

from __future__ import annotations

from collections.abc import Iterable

from kmm.explore.place import MANY, Local


class Sharing:
    """What is known of a program.

    A location that an execution took for one task's own, and that turns out not to be, is remembered; the search then begins again.

    :param places: names of what is known already
    """

    __slots__ = ("fields", "grown")

    def __init__(self, places: Iterable[str] = ()) -> None:
        self.fields: dict[str, set[str]] = {}
        """For each object's name the fields that tasks fight over."""
        self.grown = False
        """Something was added."""
        self.add(places)
        self.grown = False

    def learn(self, obj: str, field: str) -> None:
        """Tasks fight over this."""
        fields = self.fields.setdefault(obj, set())
        if field not in fields:
            fields.add(field)
            self.grown = True

    def add(self, places: Iterable[str]) -> None:
        """Tasks fight over these."""
        for place in places:
            obj, _, field = place.rpartition(".")
            self.learn(obj, field)

    def places(self) -> tuple[str, ...]:
        """Names of all that is known, sorted."""
        return tuple(sorted(f"{obj}.{field}" for obj, fields in self.fields.items() for field in fields))

    def read(self, obj: str, local: Local, who: object) -> None:
        """A task that is not the only one so far reads."""
        if local.toucher is None:
            local.toucher = who
        elif local.written:
            self.learn(obj, local.called)
        else:
            local.toucher = MANY

    def write(self, obj: str, local: Local, who: object) -> None:
        """A task writes."""
        if local.toucher is None:
            local.toucher = who
        elif local.toucher is not who:
            self.learn(obj, local.called)
        local.written = True
