"""Files of scenarios: read with care, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from kmm.scenario.errors import ScenarioError

MAX_BYTES: Final = 4 << 20
MAX_BYTES_MANY: Final = 64 << 20


def read_text(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> str:
    """The text of a scenario file.

    :param max_bytes: size beyond which the file is refused unread
    :raises ScenarioError: missing, unreadable, a directory, empty, huge, or not UTF-8 text
    """
    where = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise ScenarioError("there is no such file", "check the name", where) from None
    except IsADirectoryError:
        raise ScenarioError("this is a directory", "name a scenario file in it", where) from None
    except (OSError, ValueError) as error:
        raise ScenarioError(f"cannot be read ({_reason(error)})", "name a readable scenario file", where) from None
    if len(data) > max_bytes:
        raise ScenarioError(f"the file is larger than {max_bytes >> 20} MiB", "split it, or check that it is a scenario file", where)
    if not data.strip():
        raise ScenarioError("the file is empty", "write a scenario, beginning with format = 1", where)
    return _decode(data, where)


def _decode(data: bytes, where: str) -> str:
    bad = data.find(b"\0")
    if bad < 0:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            bad = error.start
    line = data.count(b"\n", 0, bad) + 1
    raise ScenarioError("this is not UTF-8 text", "name a scenario file, which is TOML in UTF-8", f"{where}:{line}")


def write_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Replace a file by ``text`` in UTF-8, or leave it as it was.

    :raises ScenarioError: it cannot be written
    """
    target = Path(os.path.realpath(path))
    try:
        data = text.encode("utf-8")
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name[:64]}.", delete=False) as out:
            temporary = Path(out.name)
            try:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
                os.chmod(temporary, _mode(target))
                os.replace(temporary, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
    except (OSError, ValueError) as error:
        raise ScenarioError(f"cannot be written ({_reason(error)})", "name a writable file", os.fspath(path)) from None


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _mode(target: Path) -> int:
    """Permissions of the file that is there, else what the umask leaves."""
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
