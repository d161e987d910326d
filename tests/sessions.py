"""Console sessions of the documentation: found, run in a shell, and compared with what the page shows.

A fenced block whose first line begins with ``$ `` is a session. All sessions of a page run in one shell, in one directory. A diff
between them is applied there, and a block below a comment ``<!-- file: NAME -->`` is written there. ``<!-- not run: REASON -->`` above
a block leaves it out.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import attrs
import click

from kmm.cli.main import kmm

ROOT: Final = Path(__file__).parent.parent
_BLOCK: Final = re.compile(
    r"^(?:<!-- (?P<mark>not run|file): (?P<said>[^\n]+) -->\n)?^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_END: Final = "=====8====="
_PROGRESS: Final = re.compile(r"^.*: [\d,]+ pairs judged, \d+ s\n|^[\d,]+ executions, .* executions/s, \d+ s\n", re.MULTILINE)
"""Said every ten seconds, so only on a slow machine."""
_SLOW: Final = re.compile(r"^\$ (?:kmm check(?!.* --scenario)|pytest|make|until)\b", re.MULTILINE)


@attrs.frozen
class Block:
    """One fenced block of a page.

    :param language: what stands behind the fence; may be empty
    :param text: its lines
    :param line: in the page, of the fence
    :param not_run: why it cannot be run; empty: it can
    :param file: name under which it is written before the sessions run; may be empty
    """

    language: str
    text: str
    line: int
    not_run: str = ""
    file: str = ""

    @property
    def is_session(self) -> bool:
        """It shows commands with what they print."""
        return self.text.startswith("$ ")


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page's text."""
    out = []
    for found in _BLOCK.finditer(page):
        said = {found["mark"]: found["said"]}
        line = page.count("\n", 0, found.start("fence")) + 1
        out.append(Block(found["language"], found["text"], line, said.get("not run", ""), said.get("file", "")))
    return out


def steps(page: str) -> list[Block]:
    """What of a page is run, in its order: sessions, diffs and files; nothing if it has no session."""
    found = [each for each in blocks(page) if not each.not_run and (each.is_session or each.file or each.language == "diff")]
    return found if any(each.is_session for each in found) else []


def is_slow(page: str) -> bool:
    """Whether its sessions take more than some seconds."""
    return any(_SLOW.search(each.text) for each in steps(page) if each.is_session)


def matches(expected: str, printed: str) -> bool:
    """Whether the output is the expected one. A line ``...`` stands for any lines, ``...`` in a line for any text in it."""
    pattern = ""
    for line in expected.strip().splitlines():
        skipped = line.strip() == "..."
        pattern += r"(?:.*\n)*?" if skipped else ".*?".join(re.escape(part) for part in line.split("...")) + r"[ ]*\n"
    return re.fullmatch(pattern, printed.strip() + "\n") is not None or not (expected.strip() or printed.strip())


def run(found: list[Block], cwd: Path) -> None:
    """Run what :func:`steps` found, all commands in one shell, and compare each output."""
    commands: list[tuple[str, str]] = []
    for number, block in enumerate(found):
        if block.file:
            (cwd / block.file).write_text(block.text, encoding="utf-8")
        elif block.is_session:
            commands += [
                (part.partition("\n")[0], part.partition("\n")[2]) for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
            ]
        else:
            (cwd / f".{number}.diff").write_text(block.text, encoding="utf-8")
            commands.append((f"git apply --recount .{number}.diff", ""))
    script = "\n".join(f"{command}\ncode=$?; echo; echo {_END}; (exit $code)" for command, _ in commands)
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(cwd), "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False
    )
    outputs = done.stdout.split(_END)
    assert len(outputs) == len(commands) + 1, done.stdout
    for (command, expected), printed in zip(commands, outputs, strict=False):
        assert matches(expected, _PROGRESS.sub("", printed)), f"$ {command}\n{printed}"


def shell(session: str, cwd: Path) -> None:
    """Run one session."""
    run([Block("console", session, 1)], cwd)


def parse_line(words: list[str]) -> None:
    """Read a ``kmm`` command line as the command does, without running it.

    :raises click.ClickException: the command would refuse it
    """
    with kmm.make_context("kmm", [words[0], "--help"], resilient_parsing=True) as ctx:
        command = kmm.get_command(ctx, words[0])
        if command is None:
            raise click.UsageError(f"no command {words[0]}")
        command.make_context(f"kmm {words[0]}", words[1:], parent=ctx)
