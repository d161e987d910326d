"""The pytest plugin: the ``kmm`` marker, ``--kmm-scope`` and ``--kmm-replay``. pytest loads it by its entry point."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from kmm.testing import options
from kmm.testing.options import NAMES, Options, Surroundings
from kmm.testing.replay import ReplayFile, readable

_MARKER = f"kmm({', '.join(NAMES)}): what assert_equivalent takes in this test where its call says nothing; all by keyword."


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("kmm", "kmm, equivalence of variants")
    group.addoption("--kmm-scope", choices=["quick", "full"], help="What assert_equivalent generates unless a test says; default: quick.")
    group.addoption(
        "--kmm-replay",
        action="append",
        default=[],
        metavar="FILE",
        help="Run this counterexample again as a test, which passes when what the file expects comes out; repeatable.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; refuse a file that cannot be read."""
    config.addinivalue_line("markers", _MARKER)
    for file in config.getoption("kmm_replay"):
        readable(config.invocation_params.dir / file, f"--kmm-replay {file}")


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the counterexamples, before ``-k`` and ``-m`` choose."""
    for file in dict.fromkeys(config.invocation_params.dir / file for file in config.getoption("kmm_replay")):
        items.extend(ReplayFile.from_parent(session, path=file).collect())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let ``assert_equivalent`` know in which test it is called."""
    before, options.surroundings = options.surroundings, lambda: RunningTest(item)
    try:
        return (yield)
    finally:
        options.surroundings = before


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """A marker that cannot be used fails its test, whether or not the test asserts anything."""
    RunningTest(item).options()


class RunningTest(Surroundings):
    """A running test."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def options(self) -> Options:
        """Those of the worker, of the command line, and of the markers, of which the nearest wins."""
        config = self._item.config
        worker: Mapping[str, object] = {"jobs": 1} if hasattr(config, "workerinput") else {}
        marked = [_arguments(mark) for mark in self._item.iter_markers("kmm")]
        return options.merged([worker, {"scope": config.getoption("kmm_scope")}, *reversed(marked)])

    def directory(self) -> Path:
        """In pytest's cache; without one, a new directory for temporary files."""
        cache: pytest.Cache | None = getattr(self._item.config, "cache", None)
        try:
            return cache.mkdir("kmm") if cache is not None else _temporary()
        except OSError:
            return _temporary()

    def shown(self, file: str) -> str:
        """From the directory in which pytest was called."""
        path, base = Path(file), self._item.config.invocation_params.dir
        return str(path.relative_to(base)) if path.is_relative_to(base) else file


def _arguments(mark: pytest.Mark) -> Mapping[str, object]:
    unknown = sorted(set(mark.kwargs) - set(NAMES))
    if mark.args:
        pytest.fail(f"the kmm marker is given {mark.args[0]!r} without a keyword; use some of {', '.join(NAMES)}", pytrace=False)
    if unknown:
        pytest.fail(f"the kmm marker has no argument {unknown[0]!r}; use some of {', '.join(NAMES)}", pytrace=False)
    return mark.kwargs


@functools.cache
def _temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="kmm-"))
