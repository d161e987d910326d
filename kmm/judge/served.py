"""The process of another tree: it imports the tree, loads one variant, and answers what it is asked, each connection in a fork.

It is started with the tree in front of everything else on the path, says in one line of JSON whether that went well, and ends when
its standard input does.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import sys
import traceback
from socket import AF_UNIX, socket
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from types import FrameType

    from kmm.judge.asked import Here

_TICK_S: Final = 0.25


def main() -> None:
    """``argv``: address of the socket, variant."""
    address, name = sys.argv[1:]
    out = os.dup(1)
    _silence()
    try:
        here = _load(name)
        door = socket(AF_UNIX)
        door.bind(address)
        door.listen()
    except BaseException as error:
        os.write(out, json.dumps(_why(error)).encode() + b"\n")
        os._exit(1)
    os.write(out, b"{}\n")
    os.close(out)
    _serve(door, here)


def _load(name: str) -> Here:
    import kmm.judge.case
    import kmm.judge.explanation
    import kmm.judge.pair
    import kmm.judge.sets
    import kmm.scenario.steps  # noqa: F401
    from kmm.judge.asked import Here
    from kmm.judge.variants import load_variant

    return Here(load_variant(name))


def _why(error: BaseException) -> dict[str, str]:
    """What is wrong with the tree, and where, with paths from its root."""
    root = os.getcwd() + os.sep
    problem = getattr(error, "problem", "")
    if problem:
        told = {"problem": str(problem), "remedy": str(getattr(error, "remedy", "")), "where": str(getattr(error, "where", ""))}
    else:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        told = {"problem": f"the code does not import ({text})", "remedy": "correct it", "where": _place(error)}
    return {key: value.replace(root, "") for key, value in told.items()}


def _place(error: BaseException) -> str:
    """The last line of kmm/mm or refactors on the way to an error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [f"{each.filename}:{each.lineno}" for each in traceback.extract_tb(error.__traceback__)]
    own = [each for each in frames if f"{os.sep}kmm{os.sep}mm{os.sep}" in each or f"{os.sep}refactors{os.sep}" in each]
    return own[-1] if own else ""


def _serve(door: socket, here: Here) -> NoReturn:
    from multiprocessing.connection import Connection, wait

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    while True:
        if 0 in wait([door, 0]):
            os.killpg(0, signal.SIGKILL)
        accepted, _ = door.accept()
        if os.fork() == 0:
            door.close()
            _answer(Connection(accepted.detach()), here)
        accepted.close()


class _Caller:
    """Tells the one who asked that the work goes on."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.waiting = False

    def beat(self, _signal: int, _frame: FrameType | None) -> None:
        """Of the clock. Nobody waits any more: the work is for nobody."""
        if not self.waiting:
            return
        from kmm.judge.elsewhere import BEAT, STEPS
        from kmm.kernel import current

        machine = getattr(current, "machine", None)
        try:
            self.connection.send_bytes(BEAT + STEPS.pack(0 if machine is None else machine.budget & sys.maxsize))
        except OSError:
            os._exit(0)


def _answer(connection: Connection, here: Here) -> NoReturn:
    """The life of a fork: until the other end hangs up."""
    from kmm.judge.elsewhere import ANSWER

    caller = _Caller(connection)
    try:
        os.dup2(1, 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.disable()
        signal.signal(signal.SIGALRM, caller.beat)
        signal.setitimer(signal.ITIMER_REAL, _TICK_S, _TICK_S)
        while True:
            request = pickle.loads(connection.recv_bytes())
            caller.waiting = True
            answer = _answered(request, here)
            caller.waiting = False
            connection.send_bytes(ANSWER + answer)
    except BaseException:
        pass
    finally:
        os._exit(0)


def _answered(request: object, here: Here) -> bytes:
    from kmm.kernel.stop import NotApplicable
    from kmm.scenario.errors import StepError

    try:
        return pickle.dumps((True, request.answer(here)), pickle.HIGHEST_PROTOCOL)  # type: ignore[attr-defined]
    except (NotApplicable, StepError) as error:
        return pickle.dumps((False, error))
    except BaseException as error:
        return pickle.dumps((False, f"{type(error).__name__}: {error}"))


def _silence() -> None:
    """The variant's code runs here: it gets no standard streams but the one on which the end is told."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (1, 2):
        os.dup2(null, fd)
