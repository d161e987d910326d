"""How kernel code names shared state: fields of shared objects and orders of an access."""

from __future__ import annotations

import enum
from typing import Generic, Self, TypeVar, overload

from kmm.kernel import current

T = TypeVar("T")


class Order(enum.Enum):
    """Ordering of one access, as in the kernel's memory model."""

    PLAIN = "plain"
    ONCE = "once"
    ACQUIRE = "acquire"
    RELEASE = "release"


PLAIN, ONCE, ACQUIRE, RELEASE = Order.PLAIN, Order.ONCE, Order.ACQUIRE, Order.RELEASE


class Shared:
    """An object that more than one task may reach.

    Its storage has underscored names and is touched through the machine only; ``freed_by`` is the kernel function that freed the
    object, empty while it lives.
    """

    __slots__ = ("freed_by",)

    freed_by: str

    @property
    def name(self) -> str:
        """How reports and logs call the object."""
        return type(self).__name__


class Field(Generic[T]):
    """A field of a shared object: the first argument pair of every access.

    On an instance it reads: ``vma.vm_page_prot`` is one plain read through the machine. On the class it is the field itself, which
    ``machine.read(vma, VmAreaStruct.vm_flags, ONCE)`` takes. It cannot be assigned to.
    """

    __slots__ = ("name", "slot")

    name: str
    slot: str

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.slot = "_" + name

    @overload
    def __get__(self, obj: None, owner: type) -> Self: ...
    @overload
    def __get__(self, obj: Shared, owner: type) -> T: ...
    def __get__(self, obj: Shared | None, owner: type) -> Self | T:
        if obj is None:
            return self
        return current.machine.read(obj, self, PLAIN)
