"""Running a program under every schedule that matters, or under some."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

from kmm.explore.budget import Budget, Progress
from kmm.explore.dfs import Dfs
from kmm.explore.dpor import Dpor
from kmm.explore.forest import Forest
from kmm.explore.garbage import Garbage
from kmm.explore.program import Program
from kmm.explore.result import Exploration, Tally
from kmm.explore.run import Run, Search, Strategy
from kmm.explore.sample import SAMPLERS, Profile, sampler
from kmm.explore.schedule import First
from kmm.explore.sharing import Sharing
from kmm.explore.workers import Workers

MEMORIES: Final = ("sc", "pso")
STRATEGIES: Final = ("dpor", "dfs", *SAMPLERS)
CHUNK: Final = 32
"""Samples that one worker draws at a time."""
ROUND: Final = 8
"""Chunks after which the results are put together."""


class ExploreError(ValueError):
    """Options that make no sense: one line that says what to do."""


class Explorer:
    """One exploration in progress."""

    def __init__(self, program: Program, memory: str, budget: Budget, jobs: int) -> None:
        self.program = program
        self.memory = memory
        self.budget = budget
        self.jobs = jobs
        self.sharing = Sharing()
        self.executions = 0
        self.restarts = 0
        self.garbage = Garbage()

    def execute(self, strategy: Strategy, sharing: Sharing) -> tuple[Run, bytes]:
        """One execution, and its outcome."""
        self.garbage.executed()
        return once(self.program, strategy, sharing, memory=self.memory)

    def learn(self) -> Profile:
        """Let each task go first, until nothing more turns out to be shared."""
        while True:
            number, tasks, profile = 0, 1, None
            while number < tasks:
                run, _ = self.execute(First(number), self.sharing)
                profile = profile or Profile.of(run.trace)
                self.executions += 1
                tasks, number = len(run.world.bodies), number + 1
            assert profile is not None
            if not self.grew():
                return profile

    def grew(self) -> bool:
        """Whether something turned out to be shared since the last call."""
        grown, self.sharing.grown = self.sharing.grown, False
        self.restarts += grown
        return grown

    def one(self, search: Search, tally: Tally, stop: Callable[[bytes], bool] | None = None) -> bool:
        """Search here, until an outcome says stop; whether all was searched."""
        self.learn()
        while self.budget.left(self.executions):
            run, outcome = self.execute(search, self.sharing)
            self.executions += 1
            if self.grew():
                search.reset()
                tally.clear()
                continue
            _count(run, outcome, tally)
            self.budget.tell(self.executions, tally.counted)
            if stop is not None and not run.gave_up and stop(outcome):
                return False
            if not search.next(run):
                return True
        return False

    def slice(self, task: tuple[Dpor, tuple[str, ...], int]) -> tuple[Dpor, Tally, int, tuple[str, ...]]:
        """Search a part of the tree for some executions: the search, what it found, executions made, and what is shared."""
        search, places, wanted = task
        sharing, tally, made = Sharing(places), Tally(distinct=False), 0
        while made < wanted:
            run, outcome = self.execute(search, sharing)
            made += 1
            if sharing.grown:
                break
            _count(run, outcome, tally)
            if not search.next(run):
                break
        return search, tally, made, sharing.places()

    def many(self, tally: Tally) -> tuple[bool, int]:
        """Search in several processes: whether all was searched, and how many executions were given up."""
        self.learn()
        forest, given_up = Forest(), 0
        with Workers(self.jobs, self.slice) as workers:
            while forest.parts and self.budget.left(self.executions):
                parts, done = forest.open(), 0
                wanted = self.budget.allows(self.executions, forest.slice() * len(parts)) // len(parts)
                tasks = [(part.search, self.sharing.places(), max(wanted, 1)) for part in parts]
                for part, (search, found, made, places) in zip(parts, workers.results(tasks), strict=False):
                    part.searched(search)
                    done += 1
                    self.executions += made
                    self.sharing.add(places)
                    tally.merge(found)
                    given_up, search.blocked = given_up + search.blocked, 0
                    self.budget.tell(self.executions, tally.counted)
                    if not self.budget.in_time():
                        break
                if self.grew():
                    forest, given_up = Forest(), 0
                    tally.clear()
                elif done == len(parts):
                    forest.put_together()
        return not forest.parts, given_up

    def draw(self, task: tuple[str, int, int, int, Profile, tuple[str, ...]]) -> tuple[Tally, tuple[str, ...]]:
        """Some samples: what they found, and what is shared."""
        strategy, seed, start, count, profile, places = task
        sharing, tally = Sharing(places), Tally(distinct=True)
        for number in range(start, start + count):
            run, outcome = self.execute(sampler(strategy, seed, number, profile), sharing)
            tally.add(outcome, tuple(run.trace.who), run.trace.canonical())
        return tally, sharing.places()

    def sample(self, strategy: str, seed: int, tally: Tally) -> None:
        """Draw samples until the budget is used up. Those from before something turned out to be shared do not count."""
        profile, start, void = self.learn(), 0, 0
        with Workers(self.jobs, self.draw) as workers:
            while self.budget.left(self.executions - void):
                wanted, places = self.budget.allows(self.executions - void, CHUNK * ROUND), self.sharing.places()
                end = start + wanted
                tasks = [(strategy, seed, at, min(CHUNK, end - at), profile, places) for at in range(start, end, CHUNK)]
                for found, learnt in workers.results(tasks):
                    self.executions += found.counted
                    tally.merge(found)
                    self.sharing.add(learnt)
                    self.budget.tell(self.executions, tally.traces())
                    if not self.budget.in_time():
                        break
                start = end
                if self.grew():
                    tally.clear()
                    profile, start, void = self.learn(), 0, self.executions


def once(program: Program, strategy: Strategy, sharing: Sharing, *, memory: str, naming: bool = False) -> tuple[Run, bytes]:
    """One execution, and its outcome: nothing, if it was given up."""
    world = program()
    run = Run(world, strategy, sharing, buffered=memory == "pso", naming=naming)
    run.execute()
    if run.gave_up:
        return run, b""
    ends = tuple(run.procs[body.task.name].end for body in world.bodies)
    with world.machine.running(world.bodies[0].task):
        return run, world.outcome(ends)


def _count(run: Run, outcome: bytes, tally: Tally) -> None:
    if not run.gave_up:
        tally.add(outcome, tuple(run.trace.who), run.trace.canonical() if tally.distinct else b"")


def explore(
    program: Program,
    *,
    strategy: str = "dpor",
    memory: str = "sc",
    preemption_bound: int | None = None,
    budget: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    jobs: int = 1,
    stop: Callable[[bytes], bool] | None = None,
    progress: Progress | None = None,
    keep: bool = False,
) -> Exploration:
    """Run ``program`` under many schedules.

    :param strategy: ``dpor``: every trace once; ``dfs``: every schedule; ``random``, ``pct``, ``pos``, ``surw``: samples
    :param memory: ``sc``: sequentially consistent; ``pso``: store buffers
    :param preemption_bound: for ``dfs``: at most so many switches away from a task that could have gone on
    :param budget: executions; for samples without those from before something turned out to be shared
    :param seconds: of time; what comes out then depends on the machine
    :param seed: of the samples. The same seed, budget and program give the same result for any number of jobs
    :param jobs: processes
    :param stop: whether an outcome ends the search at once; for ``dpor`` and ``dfs`` in one process
    :param progress: called with the number of executions and of traces so far, now and then
    :param keep: an interrupt ends the search, and the result is what was found by then; otherwise KeyboardInterrupt is raised
    :raises ExploreError: for options that make no sense
    """
    _check(strategy, memory, preemption_bound, budget, seconds, jobs)
    budget_left = Budget(budget, seconds, progress)
    explorer = Explorer(program, memory, budget_left, jobs)
    tally = Tally(distinct=strategy != "dpor")
    complete, given_up = False, 0
    with explorer.garbage, budget_left.interruptible() if keep else nullcontext():
        if strategy in SAMPLERS:
            explorer.sample(strategy, seed, tally)
        elif strategy == "dfs":
            complete = explorer.one(Dfs(preemption_bound), tally, stop) and preemption_bound is None
        elif jobs > 1:
            complete, given_up = explorer.many(tally)
        else:
            search = Dpor()
            complete = explorer.one(search, tally, stop)
            given_up = search.blocked
    return Exploration(
        outcomes=dict(sorted(tally.outcomes.items())),
        complete=complete,
        executions=explorer.executions,
        traces=tally.traces(),
        given_up=given_up,
        restarts=explorer.restarts,
        memory=memory,
        shared=explorer.sharing.places(),
        interrupted=budget_left.interrupted,
    )


def _check(strategy: str, memory: str, bound: int | None, budget: int | None, seconds: float | None, jobs: int) -> None:
    if strategy not in STRATEGIES:
        raise ExploreError(f"no strategy is called {strategy!r}: use one of {', '.join(STRATEGIES)}")
    if memory not in MEMORIES:
        raise ExploreError(f"no memory model is called {memory!r}: use one of {', '.join(MEMORIES)}")
    if bound is not None and strategy != "dfs":
        raise ExploreError(f"{strategy} takes no bound on preemptions: use dfs")
    if bound is not None and bound < 0:
        raise ExploreError(f"a bound of {bound} preemptions makes no sense: use 0 or more")
    if strategy in SAMPLERS and budget is None and seconds is None:
        raise ExploreError(f"{strategy} never ends by itself: give it a budget")
    if (budget is not None and budget < 1) or (seconds is not None and seconds <= 0):
        raise ExploreError("the budget is empty: give it at least one execution")
    if jobs < 1 or (jobs > 1 and strategy == "dfs"):
        raise ExploreError(f"{strategy} cannot run in {jobs} processes: use {'1' if strategy == 'dfs' else '1 or more'}")
