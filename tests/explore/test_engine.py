"""Tasks, waiting, sanitizers across tasks, and what programs get wrong."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from kmm.explore import Body, Exploration, ExploreError, NotDeterministic, Program, World, explore, replay, schedule_of
from kmm.kernel import current
from kmm.kernel.access import ACQUIRE, ONCE, PLAIN, RELEASE, Order
from kmm.kernel.barrier import call_rcu, smp_call_function, smp_wmb, synchronize_rcu
from kmm.kernel.irq import local_irq_restore, local_irq_save
from kmm.kernel.locks import (
    RwSem,
    SpinLock,
    down_read,
    down_write,
    rcu_read_lock,
    rcu_read_unlock,
    spin_lock,
    spin_unlock,
    up_read,
    up_write,
)
from kmm.kernel.stop import Bug
from kmm.kernel.task import Task
from tests.explore.lang import Var, machine


def get(var: Var, order: Order = ONCE) -> int:
    """Read."""
    return current.machine.read(var, Var.value, order)


def put(var: Var, value: int, order: Order = ONCE) -> None:
    """Write."""
    current.machine.write(var, Var.value, value, order)


def look(var: Var, order: Order = ONCE) -> None:
    """Read for nothing."""
    get(var, order)


def add(var: Var, times: int) -> None:
    """Add 1 so many times, badly."""
    for _ in range(times):
        put(var, get(var) + 1)


def one_after_the_other(*calls: Callable[[], object]) -> Callable[[], None]:
    """A task that makes some calls."""

    def run() -> None:
        for call in calls:
            call()

    return run


def tasks(make: Callable[[], tuple[Callable[[], object], ...]]) -> Program:
    """A program whose outcome is what its tasks returned, how they ended and what was reported."""

    def world() -> World:
        bodies = make()
        made = machine(len(bodies))
        results: dict[str, object] = {}

        def body(number: int) -> Body:
            name = "ABCDEF"[number]

            def run() -> None:
                results[name] = bodies[number]()

            return Body(Task(name, made.cpus[number], 1), run)

        def outcome(ends: tuple[str, ...]) -> bytes:
            reports = sorted(f"{report.check}: {report.text}" for report in made.reports)
            return repr((sorted(results.items()), ends, reports)).encode()

        return World(made, tuple(body(i) for i in range(len(bodies))), outcome)

    return world


def says(found: Exploration, text: str) -> bool:
    """Whether some outcome has this in it."""
    return any(text in outcome.decode() for outcome in found.outcomes)


def both(program: Program) -> list[Exploration]:
    """Under either memory model."""
    return [explore(program, memory=memory) for memory in ("sc", "pso")]


def test_objects_of_one_task_cost_no_step() -> None:
    def make() -> tuple[Callable[[], object], ...]:
        mine, theirs, both = Var("mine"), Var("theirs"), Var("both")
        return one_after_the_other(lambda: add(mine, 50), lambda: get(both)), one_after_the_other(
            lambda: add(theirs, 50), lambda: get(both)
        )

    found = explore(tasks(make))
    assert (found.traces, found.shared, found.restarts) == (1, (), 0), "both only read what both touch"


def test_sharing_is_learnt_late() -> None:
    """The third task touches ``x`` only in an order of the others that comes up in the search."""

    def make() -> tuple[Callable[[], object], ...]:
        x, y, z = Var("x"), Var("y"), Var("z")

        def late() -> None:
            if get(z) == 1 and get(y) == 0:
                put(x, get(y) + 2 * get(z))

        return one_after_the_other(lambda: put(y, 1), lambda: get(z)), one_after_the_other(lambda: put(z, 1)), late, lambda: get(x)

    found = explore(tasks(make))
    assert "x.value" in found.shared
    assert says(found, "('D', 2)"), "what was learnt late is explored, too"


def test_deadlock_is_a_cycle() -> None:
    def make() -> tuple[Callable[[], object], ...]:
        a, b = SpinLock("pte_lock", "a"), SpinLock("pte_lock", "b")

        def nest(outer: SpinLock, inner: SpinLock) -> None:
            spin_lock(outer)
            spin_lock(inner)
            spin_unlock(inner)
            spin_unlock(outer)

        return lambda: nest(a, b), lambda: nest(b, a)

    for found in both(tasks(make)):
        assert found.complete
        assert found.traces == 3
        assert says(found, "LOCKDEP: DEADLOCK: A waits for b.lock, held by B; B waits for a.lock, held by A")


def test_a_bug_leaves_its_locks_held() -> None:
    def make() -> tuple[Callable[[], object], ...]:
        lock = SpinLock("pte_lock")

        def fails() -> None:
            spin_lock(lock)
            raise Bug("BUG in fails: always")

        return fails, one_after_the_other(lambda: spin_lock(lock), lambda: spin_unlock(lock))

    found = explore(tasks(make))
    ends = {outcome.decode().split("], (", 1)[1].split(")", 1)[0] for outcome in found.outcomes}
    assert ends == {"'BUG in fails: always', 'DEADLOCK: B waits for pte_lock.lock, held by A'", "'BUG in fails: always', ''"}


def test_an_exception_is_an_outcome() -> None:
    def make() -> tuple[Callable[[], object], ...]:
        x = Var("x")
        return lambda: 1 // get(x), lambda: add(x, 1)

    found = explore(tasks(make))
    assert says(found, "ZeroDivisionError")
    assert says(found, "('A', 1)")


def ipi(sends: bool) -> Program:
    """GUP-fast against a freeing that sends an IPI first, or does not."""

    def make() -> tuple[Callable[[], object], ...]:
        entry, table = Var("entry"), Var("table")

        def walk() -> None:
            flags = local_irq_save()
            if not get(entry):
                get(table)
            local_irq_restore(flags)

        def free() -> None:
            put(entry, 1)
            if sends:
                smp_call_function()
            current.machine.free(table, "free")

        return walk, free

    return tasks(make)


def test_an_ipi_waits_for_sections_with_interrupts_off() -> None:
    for found in both(ipi(sends=True)):
        assert not says(found, "KASAN")
    for found in both(ipi(sends=False)):
        assert says(found, "KASAN: get touches value of table, which free freed")


def test_leaving_and_entering_again_answers() -> None:
    """The second section may outlast the wait."""

    def make() -> tuple[Callable[[], object], ...]:
        x = Var("x")

        def twice() -> tuple[int, int]:
            flags = local_irq_save()
            before = get(x)
            local_irq_restore(flags)
            flags = local_irq_save()
            after = get(x)
            local_irq_restore(flags)
            return before, after

        return twice, one_after_the_other(smp_call_function, lambda: put(x, 1))

    for found in both(tasks(make)):
        assert says(found, "('A', (0, 1))")


def test_two_ipis_with_interrupts_off_never_end() -> None:
    def make() -> tuple[Callable[[], object], ...]:
        def send() -> None:
            local_irq_save()
            smp_call_function()

        return send, send

    assert says(explore(tasks(make)), "DEADLOCK: A waits for IPI wait, held by B; B waits for IPI wait, held by A")


def rcu(waits: Callable[[Callable[[], None]], None], enter: Callable[[], object], leave: Callable[[object], None]) -> Program:
    """A reader that follows a pointer, and a task that unhooks and frees."""

    def make() -> tuple[Callable[[], object], ...]:
        pointer, thing = Var("pointer"), Var("thing")

        def reader() -> None:
            cookie = enter()
            if not get(pointer):
                get(thing)
            leave(cookie)

        def updater() -> None:
            put(pointer, 1)
            waits(lambda: current.machine.free(thing, "kfree"))

        return reader, updater

    return tasks(make)


def at_once(callback: Callable[[], None]) -> None:
    """No grace period."""
    callback()


def after_waiting(callback: Callable[[], None]) -> None:
    """``synchronize_rcu`` first."""
    synchronize_rcu()
    callback()


@pytest.mark.parametrize(
    ("enter", "leave"), [(rcu_read_lock, lambda cookie: rcu_read_unlock()), (local_irq_save, local_irq_restore)], ids=["rcu", "irqs"]
)
def test_grace_periods(enter: Callable[[], object], leave: Callable[[object], None]) -> None:
    for found in [*both(rcu(call_rcu, enter, leave)), *both(rcu(after_waiting, enter, leave))]:
        assert found.complete
        assert not says(found, "KASAN")
    for found in both(rcu(at_once, enter, leave)):
        assert says(found, "KASAN: get touches value of thing, which kfree freed")


def races(write: Callable[[Var], None], read: Callable[[Var], None]) -> bool:
    """Whether KCSAN reports these two."""
    return says(explore(tasks(lambda: _pair(write, read))), "KCSAN")


def _pair(write: Callable[[Var], None], read: Callable[[Var], None]) -> tuple[Callable[[], object], ...]:
    x = Var("x")
    return lambda: write(x), lambda: read(x)


def test_kcsan_marks() -> None:
    assert races(lambda x: put(x, 1, PLAIN), lambda x: look(x, PLAIN))
    assert races(lambda x: put(x, 1, PLAIN), look)
    assert races(lambda x: put(x, 1, PLAIN), lambda x: put(x, 2))
    assert not races(lambda x: put(x, 1), lambda x: look(x, PLAIN)), "only a plain write counts"
    assert not races(lambda x: put(x, 1), lambda x: put(x, 2))


def ordered(publish: Callable[[Var, Var], None], seen: Callable[[Var], bool]) -> bool:
    """Whether a plain write that is published is ordered before the plain read of who has seen that."""

    def make() -> tuple[Callable[[], object], ...]:
        data, flag = Var("data"), Var("flag")

        def writer() -> None:
            put(data, 1, PLAIN)
            publish(data, flag)

        def reader() -> None:
            if seen(flag):
                get(data, PLAIN)

        return writer, reader

    return not any(says(found, "KCSAN") for found in both(tasks(make)))


def test_kcsan_publication() -> None:
    def with_wmb(data: Var, flag: Var) -> None:
        smp_wmb()
        put(flag, 1)

    assert ordered(lambda data, flag: put(flag, 1, RELEASE), lambda flag: get(flag, ACQUIRE) == 1)
    assert ordered(with_wmb, lambda flag: get(flag) == 1)
    assert not ordered(lambda data, flag: put(flag, 1), lambda flag: get(flag) == 1)
    assert not ordered(lambda data, flag: put(flag, 1, RELEASE), lambda flag: get(flag, PLAIN) == 1)


def test_kcsan_says_who_and_where() -> None:
    def make() -> tuple[Callable[[], object], ...]:
        x = Var("x")

        def set_it() -> None:
            put(x, 1, PLAIN)

        return set_it, lambda: get(x)

    assert says(explore(tasks(make)), "nothing orders the marked read by B in get and the plain write by A in put of x.value")


def test_kcsan_locks() -> None:
    def make(exclusive: bool) -> tuple[Callable[[], object], ...]:
        x, sem = Var("x"), RwSem("mmap_lock")

        def under_lock() -> None:
            if exclusive:
                down_write(sem)
                put(x, get(x, PLAIN) + 1, PLAIN)
                up_write(sem)
            else:
                down_read(sem)
                put(x, get(x, PLAIN) + 1, PLAIN)
                up_read(sem)

        return under_lock, under_lock

    for found in both(tasks(lambda: make(exclusive=True))):
        assert not says(found, "KCSAN")
    for found in both(tasks(lambda: make(exclusive=False))):
        assert says(found, "KCSAN"), "two readers of a lock are not ordered by it"


def test_kcsan_grace_period() -> None:
    def make(waits: bool) -> tuple[Callable[[], object], ...]:
        x, gone = Var("x"), Var("gone")

        def reader() -> None:
            rcu_read_lock()
            if not get(gone):
                get(x, PLAIN)
            rcu_read_unlock()

        def updater() -> None:
            put(gone, 1)
            if waits:
                synchronize_rcu()
            put(x, 1, PLAIN)

        return reader, updater

    assert not says(explore(tasks(lambda: make(waits=True))), "KCSAN")
    assert says(explore(tasks(lambda: make(waits=False))), "KCSAN")


def test_a_schedule_has_kernel_words() -> None:
    def make() -> tuple[Callable[[], object], ...]:
        x, y = Var("x"), Var("y")

        def first() -> int:
            put(x, 1)
            return get(y)

        def second() -> int:
            put(y, 1)
            return get(x)

        return first, second

    program = tasks(make)
    found = explore(program, memory="pso")
    weak = next(outcome for outcome in found.outcomes if b"('A', 0), ('B', 0)" in outcome)
    schedule = schedule_of(program, found, weak)
    assert schedule.shared == ("x.value", "y.value")
    assert [(each.before.task, each.before.function, each.before.primitive, each.before.nth) for each in schedule.deviations] == [
        ("A's store to x.value", "put", "write back", 1)
    ], "from then on both stores are held back"
    again = replay(program, schedule)
    assert again.outcome == weak
    assert again.left_out == ()
    assert ("A", "get", "read", "y.value", 1) in [(s.task, s.function, s.primitive, s.place, s.nth) for s in again.steps]


def test_the_usual_order_has_no_deviations() -> None:
    def make() -> tuple[Callable[[], object], ...]:
        x = Var("x")
        return one_after_the_other(lambda: put(x, 1), lambda: put(x, 2)), lambda: get(x)

    program = tasks(make)
    for memory in ("sc", "pso"):
        found = explore(program, memory=memory)
        lengths = {b"2" in o.split(b"'B', ")[1][:1]: len(schedule_of(program, found, o).deviations) for o in found.outcomes}
        assert lengths[True] == 0, "A first, then B"


def test_not_deterministic() -> None:
    times = [0]

    def make() -> tuple[Callable[[], object], ...]:
        x, y = Var("x"), Var("y")
        times[0] += 1
        return lambda: add(x, 2), lambda: add(x if times[0] < 8 else y, 2)

    with pytest.raises(NotDeterministic):
        explore(tasks(make))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"strategy": "best"}, "no strategy is called 'best': use one of dpor, dfs, random, pct, pos, surw"),
        ({"memory": "tso"}, "no memory model is called 'tso': use one of sc, pso"),
        ({"preemption_bound": 2}, "dpor takes no bound on preemptions: use dfs"),
        ({"strategy": "dfs", "preemption_bound": -1}, "a bound of -1 preemptions makes no sense: use 0 or more"),
        ({"strategy": "random"}, "random never ends by itself: give it a budget"),
        ({"budget": 0}, "the budget is empty: give it at least one execution"),
        ({"jobs": 0}, "dpor cannot run in 0 processes: use 1 or more"),
        ({"strategy": "dfs", "jobs": 2}, "dfs cannot run in 2 processes: use 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], text: str) -> None:
    with pytest.raises(ExploreError) as error:
        explore(tasks(lambda: (lambda: None,)), **options)  # type: ignore[arg-type]
    assert str(error.value) == text


def test_a_budget_ends_the_search() -> None:
    def make() -> tuple[Callable[[], object], ...]:
        x = Var("x")

        def more() -> int:
            add(x, 3)
            return get(x)

        return more, more, more

    for jobs in (1, 2):
        found = explore(tasks(make), budget=100, jobs=jobs)
        assert not found.complete
        assert found.executions <= 100 + 16


def test_samples_do_not_depend_on_the_number_of_processes() -> None:
    def make() -> tuple[Callable[[], object], ...]:
        x = Var("x")

        def more() -> int:
            add(x, 3)
            return get(x)

        return more, more, more

    for strategy in ("random", "pct", "pos", "surw"):
        one, two = (explore(tasks(make), strategy=strategy, budget=300, seed=7, jobs=jobs) for jobs in (1, 2))
        assert one == two
        assert one.executions == 300
        assert len(one.outcomes) > 1
        other = explore(tasks(make), strategy=strategy, budget=300, seed=8)
        assert other != one


def test_random_module_is_left_alone() -> None:
    state = random.getstate()
    explore(tasks(lambda: (lambda: None, lambda: None)), strategy="random", budget=5)
    assert random.getstate() == state
