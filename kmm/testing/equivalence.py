"""The assertion: a candidate behaves as its baseline does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmm.testing import options as testing_options

if TYPE_CHECKING:
    from kmm.api import AnyScenarios, AnyVariant, Expectation, ScopeName
    from kmm.judge.verdict import Verdict


def assert_equivalent(
    candidate: AnyVariant | None = None,
    baseline: AnyVariant | None = None,
    *,
    scenarios: AnyScenarios | None = None,
    scope: ScopeName | None = None,
    seed: int | None = None,
    budget_s: float | None = None,
    jobs: int | None = None,
    expect: Expectation | None = None,
) -> Verdict:
    """Fail unless the candidate behaves as the baseline does; an undetermined verdict is a failure too.

    ``None`` stands for what the test's ``kmm`` marker says, else for the default. Under pytest a counterexample is written to
    pytest's cache, elsewhere to the current directory.

    :param candidate: its name or path as for ``kmm check``, or what ``kmm.load_variant`` gave; its code is executed
    :param baseline: likewise; default ``v12``
    :param scenarios: judge these, or those of this file, instead of generated ones
    :param scope: how much to generate: ``quick`` (default, about a minute) or ``full``
    :param seed: of what is generated; default 0
    :param budget_s: seconds after which the verdict is undetermined; default: no limit
    :param jobs: worker processes; default: one a CPU, in a worker of pytest-xdist one
    :param expect: what passes: ``equivalent`` (default) or ``refines``
    :return: the verdict
    :raises AssertionError: the candidate does not; the text says where the two part
    :raises BadInputError: an argument cannot be used: ``ArgumentError``, ``VariantError`` or ``ScenarioError``
    """
    __tracebackhide__ = True
    from kmm.api import ArgumentError, check
    from kmm.scenario.errors import BadInputError

    here = testing_options.surroundings()
    said: dict[str, object] = {
        "candidate": candidate,
        "baseline": baseline,
        "scenarios": scenarios,
        "scope": scope,
        "seed": seed,
        "budget_s": budget_s,
        "jobs": jobs,
        "expect": expect,
    }
    try:
        options = testing_options.merged([here.options(), said])
        if "candidate" not in options:
            raise ArgumentError("there is no candidate", "give assert_equivalent or the kmm marker one")
        verdict = check(**options, counterexample_dir=here.directory())
    except BadInputError as error:
        raise error.with_traceback(None) from None
    if verdict.interrupted:
        raise KeyboardInterrupt
    if verdict.exit_code:
        from kmm.testing.message import message

        raise AssertionError(message(verdict, here.shown))
    return verdict
