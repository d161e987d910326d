"""A variant of another source tree: it runs in a process that has imported that tree, and is asked from here."""

from __future__ import annotations

import os
import pickle
import struct
from multiprocessing.connection import Client, Connection
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, TypeVar

import attrs

from kmm.judge.pool import GoneError, sign_of_life
from kmm.kernel.stop import NotApplicable
from kmm.mm.variant import Variant
from kmm.scenario.errors import StepError

if TYPE_CHECKING:
    from kmm.judge.asked import Here

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

BEAT: Final = b"."
ANSWER: Final = b"="
"""First byte of a message from there: it is at work, with a number that changes as long as it is; or the answer, pickled."""
STEPS: Final = struct.Struct("=q")


class ElsewhereError(GoneError):
    """The other process ended, or failed for a reason that is not the variant's."""


class Request(Protocol[R_co]):
    """What is asked; :mod:`kmm.judge.asked` has them."""

    def answer(self, here: Here) -> R_co:
        """In the process that is asked."""


class Line:
    """The way to the other process. Each process of this side has a connection, and so a fork of the other one, of its own.

    :param address: of its socket
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._owner = 0
        self._connection: Connection | None = None

    def ask(self, request: Request[R]) -> R:
        """Ask, and wait for the answer.

        :raises ElsewhereError: there will be none
        :raises NotApplicable: the variant does not do what the scenario asks for
        :raises StepError: a step of the scenario cannot happen
        """
        try:
            connection = self._connected()
            connection.send_bytes(pickle.dumps(request, pickle.HIGHEST_PROTOCOL))
            message = connection.recv_bytes()
            while message[:1] == BEAT:
                sign_of_life(STEPS.unpack(message[1:])[0])
                message = connection.recv_bytes()
        except (EOFError, OSError):
            self.close()
            raise ElsewhereError("the process of the other tree ended") from None
        good, value = pickle.loads(message[1:])
        if good:
            answer: R = value
            return answer
        if isinstance(value, NotApplicable | StepError):
            raise value
        raise ElsewhereError(str(value))

    def _connected(self) -> Connection:
        if self._connection is None or self._owner != os.getpid():
            self._connection, self._owner = Client(self._address, family="AF_UNIX"), os.getpid()
        return self._connection

    def close(self) -> None:
        """Hang up; the fork at the other end, and all that it keeps, goes away."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _not_here(*_: object) -> NoReturn:
    raise AssertionError("the variant of another tree was called in this process")


@attrs.frozen(kw_only=True)
class Elsewhere(Variant):
    """Stands for the variant; whoever runs variants goes through :mod:`kmm.judge.side`.

    :param known_as: its own name; ``name`` says of which tree it is
    :param line: to the process that has it
    :param files: sources of its code, as the line coverage names them
    :param root: of the tree that the process has imported
    """

    known_as: str
    line: Line = attrs.field(eq=False, repr=False)
    files: frozenset[str]
    root: str


def elsewhere(name: str, mark: str, line: Line, files: frozenset[str], root: str) -> Elsewhere:
    """A variant that is called ``name`` there.

    :param mark: what tells it from the one of that name here
    """
    return Elsewhere(name=f"{name} ({mark})", known_as=name, collapse_huge_page=_not_here, line=line, files=files, root=root)
