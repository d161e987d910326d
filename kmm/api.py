"""What a program uses; :mod:`kmm` hands these on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, TypeAlias

from kmm.judge.check import check as judge
from kmm.judge.filed import with_file
from kmm.judge.observe import Observation, observe
from kmm.judge.pool import Beat, Skip, guarded
from kmm.judge.variants import LoadedVariant
from kmm.judge.variants import load_variant as load_named
from kmm.judge.verdict import EXPECTATIONS, Verdict
from kmm.live.given import given
from kmm.scenario.errors import BadInputError
from kmm.scenario.families import Family
from kmm.scenario.model import Scenario
from kmm.scenario.recorded import MEMORIES
from kmm.scenario.run import run as run_scenario
from kmm.scenario.scope import SCOPES, generated
from kmm.scenario.toml import load, load_many

AnyPath: TypeAlias = str | os.PathLike[str]
AnyVariant: TypeAlias = str | os.PathLike[str] | LoadedVariant
"""A variant: its name or path as for ``kmm check``, or what :func:`load_variant` gave."""
AnyScenarios: TypeAlias = str | os.PathLike[str] | Iterable[Scenario]
"""Scenarios: a file of them, or the values."""
ScopeName: TypeAlias = Literal["quick", "full"]
MemoryModel: TypeAlias = Literal["sc", "pso"]
Expectation: TypeAlias = Literal["equivalent", "refines"]

_SEEDS: Final = 2**32
_MAX_JOBS: Final = 1024


class ArgumentError(BadInputError):
    """An argument that cannot be used."""


class UndeterminedError(RuntimeError):
    """A run gave no answer: the variant hung, ended its process, or does not do what the scenario asks for."""


def load_variant(name_or_path: AnyPath) -> LoadedVariant:
    """Load a variant; its code is executed.

    :param name_or_path: a path, if it has a ``/`` or ends in ``.py``, or is a :class:`os.PathLike`; else a name in the
        ``refactors`` of the checkout around the current directory, else an installed one
    :raises VariantError: there is none, or it is not a variant
    :raises ArgumentError: this is neither a name nor a path
    """
    return load_named(_name("name_or_path", name_or_path))


def load_scenarios(file: AnyPath) -> tuple[Scenario, ...]:
    """The scenarios of a file that holds several, or one.

    :raises ScenarioError: the file cannot be read, or holds something else
    """
    return load_many(_path("file", file))


def check(
    candidate: AnyVariant,
    baseline: AnyVariant = "v12",
    *,
    scenarios: AnyScenarios | None = None,
    scope: ScopeName | None = None,
    memory: MemoryModel = "sc",
    seed: int = 0,
    budget_s: float | None = None,
    jobs: int | None = None,
    expect: Expectation = "equivalent",
    counterexample_dir: AnyPath | None = None,
) -> Verdict:
    """Judge whether the candidate behaves as the baseline does; ``kmm check`` for programs.

    An interrupt (KeyboardInterrupt) ends the scope, and the verdict, which is then undetermined, says so.

    :param scenarios: judge these; captured ones are judged in four forms
    :param scope: how much to generate when no scenarios are given; default ``quick``, about a minute
    :param memory: the memory model of given scenarios with actors, ``sc`` or ``pso``
    :param seed: of what is generated, 0 to 2^32 - 1
    :param budget_s: stop judging after so many seconds; ``None``: no limit
    :param jobs: worker processes; default, and at most, one a CPU
    :param expect: what counts as a success in :attr:`Verdict.exit_code`
    :param counterexample_dir: directory in which a counterexample is written and run again; ``None``: it is not written
    :raises VariantError: a variant cannot be loaded
    :raises ScenarioError: a file of scenarios cannot be read
    :raises ArgumentError: an argument cannot be used
    """
    if scenarios is not None and scope is not None:
        raise ArgumentError("scenarios and scope exclude each other", "drop one")
    _whole("seed", seed, 0, _SEEDS - 1)
    _seconds("budget_s", budget_s)
    if jobs is not None:
        _whole("jobs", jobs, 1, _MAX_JOBS)
    _one_of("expect", expect, EXPECTATIONS)
    _one_of("memory", memory, MEMORIES)
    if memory != "sc" and scenarios is None:
        raise ArgumentError("memory is for given scenarios", "give scenarios, or drop it")
    directory = None if counterexample_dir is None else _directory("counterexample_dir", counterexample_dir)
    families = _generated("quick" if scope is None else scope, seed) if scenarios is None else _given(scenarios, memory)
    loaded, loaded_baseline = _loaded("candidate", candidate), _loaded("baseline", baseline)
    verdict = judge(loaded_baseline, loaded, families, seed=seed, budget_s=budget_s, jobs=jobs, expect=expect)
    if directory is None:
        return verdict
    names = _name("baseline", baseline), _name("candidate", candidate)
    return with_file(verdict, directory, baseline=names[0], candidate=names[1])


def run(scenario: Scenario | AnyPath, variant: AnyVariant = "v12") -> Observation:
    """Run one scenario with one variant, in a process of its own. What the variant does, crashes included, is in the value.

    :param scenario: the scenario, or a file that holds one
    :raises UndeterminedError: the run gave no answer
    :raises VariantError: the variant cannot be loaded
    :raises ScenarioError: the file cannot be read, or is not a scenario
    :raises ArgumentError: an argument cannot be used
    """
    s = scenario if isinstance(scenario, Scenario) else load(_path("scenario", scenario, "give a kmm.Scenario, or a file that holds one"))
    loaded = _loaded("variant", variant)

    def work(_task: None, skip: Skip, beat: Beat) -> Observation | None:
        if 0 in skip:
            return None
        beat(0)
        done = run_scenario(s, loaded.variant)
        return observe(done) if done.applicable else None

    done = guarded(work)
    if done.lost:
        raise UndeterminedError(f"{loaded.variant.name}: the variant {done.lost[0].reason}")
    if done.value is None:
        raise UndeterminedError(f"{loaded.variant.name}: the variant does not do what the scenario asks for")
    return done.value


def _generated(scope: str, seed: int) -> list[Family]:
    _one_of("scope", scope, SCOPES)
    return generated(scope, seed)


def _given(scenarios: AnyScenarios, memory: str) -> tuple[Family, ...]:
    if isinstance(scenarios, str | os.PathLike):
        return given(load_scenarios(scenarios), "files", memory)
    if not isinstance(scenarios, Iterable):
        raise ArgumentError(f"scenarios is {scenarios!r}", "give a file, or a list of kmm.Scenario")
    values = tuple(scenarios)
    for number, each in enumerate(values):
        if not isinstance(each, Scenario):
            raise ArgumentError(f"scenarios[{number}] is {each!r}", "give kmm.Scenario values; kmm.load_scenarios reads a file")
    if not values:
        raise ArgumentError("there is no scenario in scenarios", "give one or more")
    return given(values, "given", memory)


def _loaded(argument: str, variant: AnyVariant) -> LoadedVariant:
    return variant if isinstance(variant, LoadedVariant) else load_named(_name(argument, variant))


def _name(argument: str, variant: AnyVariant) -> str:
    """A variant's name or path as the command line takes it."""
    if isinstance(variant, LoadedVariant):
        return str(variant.path)
    path = _path(argument, variant, "give a name, a path or what kmm.load_variant gave")
    return f"./{path}" if not isinstance(variant, str) and "/" not in path else path


def _path(argument: str, path: object, remedy: str = "give a path") -> str:
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise ArgumentError(f"{argument} is {path!r}", remedy)
    return text


def _directory(argument: str, path: AnyPath) -> Path:
    directory = Path(_path(argument, path))
    if not directory.is_dir():
        raise ArgumentError(f"{argument} is no directory", "name one that exists", str(directory))
    return directory


def _one_of(argument: str, value: str, values: tuple[str, ...]) -> None:
    if value not in values:
        raise ArgumentError(f"{argument} is {value!r}", "use " + " or ".join(values))


def _whole(argument: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ArgumentError(f"{argument} is {value!r}", f"use a whole number from {low} to {high}")


def _seconds(argument: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    if value is not None and not number:
        raise ArgumentError(f"{argument} is {value!r}", "use a number of seconds above 0, or None")
