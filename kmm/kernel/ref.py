"""An out-parameter."""

from __future__ import annotations

from typing import Generic, TypeVar, cast

T = TypeVar("T")


def NULL(kind: type[T]) -> T:
    """A null pointer to ``kind``. As in C its type does not tell it from others; touching it ends the task."""
    return cast(T, None)


class Ref(Generic[T]):
    """``T *``: a private variable that a callee may set."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value
