"""What orders two accesses is a matter of the trace: every schedule of one trace gets the same reports."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kmm.explore import Program, World, explore
from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.kernel.barrier import call_rcu, smp_call_function, synchronize_rcu
from kmm.kernel.irq import local_irq_restore, local_irq_save
from kmm.kernel.locks import rcu_read_lock, rcu_read_unlock
from tests.explore.checked import random_code
from tests.explore.lang import Var, program
from tests.explore.test_engine import both, get, look, put, says, tasks


def reporting(seed: int) -> Program:
    """A random program whose outcome has the reports in it."""
    make = program(random_code(seed))

    def world() -> World:
        made = make()

        def outcome(ends: tuple[str, ...]) -> bytes:
            return made.outcome(ends) + repr(sorted(report.text for report in made.machine.reports)).encode()

        return World(made.machine, made.bodies, outcome)

    return world


def compare(seeds: range, memory: str) -> tuple[int, int]:
    """With reduction and without: how many programs were compared, and in how many there was a race."""
    compared = racy = 0
    for seed in seeds:
        every = explore(reporting(seed), memory=memory, strategy="dfs", budget=1_000)
        if every.complete:
            assert set(explore(reporting(seed), memory=memory).outcomes) == set(every.outcomes), seed
            compared, racy = compared + 1, racy + says(every, "nothing orders")
    return compared, racy


@pytest.mark.parametrize("memory", ["sc", "pso"])
def test_reports_do_not_depend_on_the_schedule_of_a_trace(memory: str) -> None:
    compared, racy = compare(range(2_000, 2_060), memory)
    assert compared >= 35
    assert racy >= 6


@pytest.mark.full
@pytest.mark.parametrize("memory", ["sc", "pso"])
def test_reports_of_many_programs(memory: str) -> None:
    compared, racy = compare(range(3_000, 3_600), memory)
    assert compared >= 350
    assert racy >= 60


def in_rcu(call: Callable[[], object]) -> None:
    """In a read section."""
    rcu_read_lock()
    call()
    rcu_read_unlock()


def without_irqs(call: Callable[[], object]) -> None:
    """With interrupts disabled."""
    flags = local_irq_save()
    call()
    local_irq_restore(flags)


def nothing() -> None:
    """Do nothing."""


def a_write_then(call: Callable[[], None]) -> Callable[[Var], None]:
    """Write, and then this."""

    def run(x: Var) -> None:
        put(x, 1, PLAIN)
        call()

    return run


def then_a_write(call: Callable[[], None]) -> Callable[[Var], None]:
    """This, and then write."""

    def run(x: Var) -> None:
        call()
        put(x, 2, PLAIN)

    return run


UNORDERED: dict[str, tuple[Callable[[Var], None], Callable[[Var], None]]] = {
    "an IPI does not wait for a read section": (a_write_then(lambda: in_rcu(nothing)), then_a_write(smp_call_function)),
    "a read section does not wait for an IPI": (a_write_then(smp_call_function), lambda x: in_rcu(lambda: look(x, PLAIN))),
    "an IRQ-off section inside of a read section began with it": (
        a_write_then(synchronize_rcu),
        lambda x: in_rcu(lambda: without_irqs(lambda: look(x, PLAIN))),
    ),
    "a read section that ends in an IRQ-off section ends with that": (
        lambda x: in_rcu(lambda: without_irqs(lambda: put(x, 1, PLAIN))),
        then_a_write(smp_call_function),
    ),
    "a callback comes after the sections open when it was queued": (
        lambda x: in_rcu(lambda: look(x, PLAIN)),
        lambda x: call_rcu(lambda: put(x, 1, PLAIN)),
    ),
}
"""Two tasks whose accesses nothing orders in some of their traces."""


@pytest.mark.parametrize("name", UNORDERED)
@pytest.mark.parametrize("memory", ["sc", "pso"])
def test_every_schedule_is_judged_alike(name: str, memory: str) -> None:
    def make() -> tuple[Callable[[], object], ...]:
        x = Var("x")
        first, second = UNORDERED[name]
        return lambda: first(x), lambda: second(x)

    every = explore(tasks(make), memory=memory, strategy="dfs")
    assert every.complete
    assert set(every.outcomes) == set(explore(tasks(make), memory=memory).outcomes)


@pytest.mark.parametrize("number", [0, 1])
def test_what_an_ipi_and_a_read_section_do_not_order(number: int) -> None:
    def make() -> tuple[Callable[[], object], ...]:
        x = Var("x")
        first, second = list(UNORDERED.values())[number]
        return lambda: first(x), lambda: second(x)

    for memory in ("sc", "pso"):
        every = explore(tasks(make), memory=memory, strategy="dfs")
        assert all(b"nothing orders" in outcome for outcome in every.outcomes)


@pytest.mark.parametrize("wait", [smp_call_function, synchronize_rcu])
def test_waiting_for_the_others_is_a_barrier(wait: Callable[[], None]) -> None:
    """Earlier stores come before later ones, as the store buffers have it."""

    def make() -> tuple[Callable[[], object], ...]:
        x, flag = Var("x"), Var("flag")

        def writer() -> None:
            put(x, 1, PLAIN)
            wait()
            put(flag, 1)

        def reader() -> None:
            if get(flag):
                get(x, PLAIN)

        return writer, reader

    for found in both(tasks(make)):
        assert not says(found, "nothing orders")


def test_one_report_a_pair() -> None:
    """However often two functions race."""

    def make() -> tuple[Callable[[], object], ...]:
        x = Var("x")

        def many() -> None:
            for n in range(3):
                put(x, n, PLAIN)

        return many, many

    for found in both(tasks(make)):
        for outcome in found.outcomes:
            assert outcome.count(b"nothing orders") == 1


def test_two_writers_of_a_task_are_both_named() -> None:
    """Under store buffers the order in which stores are made is no part of a trace."""

    def make() -> tuple[Callable[[], object], ...]:
        x = Var("x")

        def writer() -> None:
            put(x, 1, PLAIN)
            set_two(x)

        return writer, lambda: get(x)

    every = explore(tasks(make), memory="pso", strategy="dfs")
    assert set(every.outcomes) == set(explore(tasks(make), memory="pso").outcomes)
    for outcome in every.outcomes:
        assert b"by A in put" in outcome
        assert b"by A in set_two" in outcome


def set_two(x: Var) -> None:
    """Another function that writes."""
    current.machine.write(x, Var.value, 2, PLAIN)
