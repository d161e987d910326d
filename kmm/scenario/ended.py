"""How a task ended, in the observation's words."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Final

from kmm.kernel.stop import Abandoned, Label, NotApplicable, Stop
from kmm.scenario.drive import Run
from kmm.scenario.errors import StepError

IMPOSSIBLE: Final = "impossible: "
"""Begins the outcome of a run with a step that cannot happen."""


def guarded(call: Callable[[], object], run: Run) -> str:
    """Call kernel code; everything that it does, crashes included, is part of the value.

    :param run: learns of a step that cannot happen, and of a variant that is not applicable
    :returns: empty when it returned
    """
    try:
        call()
    except (KeyboardInterrupt, Abandoned):
        raise
    except NotApplicable:
        run.applicable = False
        return "not applicable"
    except StepError as error:
        run.impossible = error
        return f"{IMPOSSIBLE}{error.problem}"
    except Stop as stop:
        return str(stop)
    except BaseException as error:
        return _crash(error)
    return ""


def _crash(error: BaseException) -> str:
    """What an exception of the variant's code is."""
    where = _innermost(error.__traceback__)
    if isinstance(error, Label):
        return f"goto out of its block in {where}"
    if isinstance(error, UnboundLocalError):
        return f"uninitialised use in {where}: {error}"
    text = re.sub(r" at 0x[0-9a-f]+", "", str(error))
    return f"{type(error).__name__} in {where}: {text}"


def _innermost(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"{frames[-1].name}:{frames[-1].lineno}" if frames else "?"
