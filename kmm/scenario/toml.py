"""The file form of scenarios: TOML, ``format = 1``.

A file holds one scenario, or several as ``[[scenario]]``. The canonical form leaves defaults out and round-trips byte for byte.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import attrs

from kmm.scenario.errors import ScenarioError
from kmm.scenario.files import MAX_BYTES_MANY, read_text, write_atomic
from kmm.scenario.model import Scenario
from kmm.scenario.recorded import Recorded
from kmm.scenario.toml_read import FORMAT, REPLAY_KEYS, Node, document, read_replay, read_scenario, read_schedule
from kmm.scenario.toml_write import write_scenario, write_schedule, write_table

_HEAD = f"format = {FORMAT}\n"


def parse(text: str, source: str = "<scenario>") -> Scenario:
    """The scenario of a text that holds one.

    :param source: name of the file, for errors
    :raises ScenarioError: with file and line
    """
    return parse_replay(text, source)[0]


@attrs.frozen
class ScenarioFile:
    """What a file that holds one scenario says.

    :param replay: its ``[replay]`` table: ``candidate``, ``baseline`` and ``expect``, as far as given
    :param schedule: its ``[schedule]`` table; ``None``: there is none
    """

    scenario: Scenario
    replay: dict[str, str]
    schedule: Recorded | None = None


def parse_file(text: str, source: str = "<scenario>") -> ScenarioFile:
    """Everything that a text says which holds one scenario.

    :raises ScenarioError: with file and line
    """
    return _single(document(text, source))


def parse_replay(text: str, source: str = "<scenario>") -> tuple[Scenario, dict[str, str]]:
    """A scenario and its ``[replay]`` table: ``candidate``, ``baseline`` and ``expect``, as far as given.

    :raises ScenarioError: with file and line
    """
    file = _single(document(text, source))
    return file.scenario, file.replay


def parse_many(text: str, source: str = "<scenario>") -> tuple[Scenario, ...]:
    """The scenarios of a text that holds several, or one.

    :raises ScenarioError: with file and line
    """
    root = document(text, source)
    return _several(root) if "scenario" in root.table else (_single(root).scenario,)


def _single(root: Node) -> ScenarioFile:
    if "scenario" in root.table:
        root.fail("the file holds several scenarios, and one is needed here", "name a file that holds one", "scenario")
    return ScenarioFile(read_scenario(root, "format", "replay", "schedule"), read_replay(root), read_schedule(root))


def _several(root: Node) -> tuple[Scenario, ...]:
    root.allow("format", "scenario")
    nodes = root.children("scenario")
    if not nodes:
        root.fail("the file holds no scenario", "add [[scenario]]", "scenario")
    return tuple(read_scenario(node) for node in nodes)


def render(s: Scenario) -> str:
    """The canonical text of a scenario."""
    return _HEAD + write_scenario(s)


def render_replay(s: Scenario, replay: Mapping[str, str]) -> str:
    """The canonical text of a scenario with its ``[replay]`` table.

    :param replay: strings for ``candidate``, ``baseline`` and ``expect``, or some of them
    """
    return render(s) + write_table("replay", {key: replay[key] for key in REPLAY_KEYS if key in replay})


def render_file(file: ScenarioFile) -> str:
    """The canonical text of a scenario with all that belongs to it."""
    schedule = "" if file.schedule is None else write_schedule(file.schedule)
    return render_replay(file.scenario, file.replay) + schedule


def render_many(scenarios: Iterable[Scenario]) -> str:
    """The canonical text of several scenarios.

    :raises ScenarioError: there is none
    """
    parts = ["\n[[scenario]]\n" + write_scenario(s, "scenario.") for s in scenarios]
    if not parts:
        raise ScenarioError("there is no scenario to write", "give one or more")
    return _HEAD + "".join(parts)


def canonical(text: str, source: str = "<scenario>") -> str:
    """The canonical form of any scenario file's text; comments are not kept.

    :raises ScenarioError: with file and line
    """
    root = document(text, source)
    return render_many(_several(root)) if "scenario" in root.table else render_file(_single(root))


def canonical_bytes(s: Scenario) -> bytes:
    """What a scenario is: its canonical form without name and remark; two scenarios are the same when these are."""
    return (_HEAD + write_scenario(s, people=False)).encode()


def load(path: str | os.PathLike[str]) -> Scenario:
    """Read a file that holds one scenario.

    :raises ScenarioError: the file cannot be read, or is not a scenario
    """
    return parse(read_text(path), os.fspath(path))


def load_replay(path: str | os.PathLike[str]) -> tuple[Scenario, dict[str, str]]:
    """Read a file that holds one scenario, with its ``[replay]`` table.

    :raises ScenarioError: the file cannot be read, or is not a scenario
    """
    return parse_replay(read_text(path), os.fspath(path))


def load_many(path: str | os.PathLike[str]) -> tuple[Scenario, ...]:
    """Read a file that holds several scenarios, or one.

    :raises ScenarioError: the file cannot be read, or holds something else
    """
    return parse_many(read_text(path, MAX_BYTES_MANY), os.fspath(path))


def save(path: str | os.PathLike[str], s: Scenario) -> None:
    """Write a scenario; a file that was there is replaced whole, or not at all.

    :raises ScenarioError: it cannot be written
    """
    write_atomic(path, render(s))


def save_many(path: str | os.PathLike[str], scenarios: Iterable[Scenario]) -> None:
    """Write several scenarios; a file that was there is replaced whole, or not at all.

    :raises ScenarioError: it cannot be written, or there is no scenario
    """
    write_atomic(path, render_many(scenarios))
