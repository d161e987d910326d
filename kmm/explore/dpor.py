"""Every trace exactly once: optimal dynamic partial-order reduction."""

from __future__ import annotations

from kmm.explore.place import Footprint, dependent
from kmm.explore.proc import Proc
from kmm.explore.program import NotDeterministic
from kmm.explore.reversal import Reversal, Reversals
from kmm.explore.run import Run
from kmm.explore.wakeup import Branch, Sequence, insert


class Node:
    """The state before one step of the current execution.

    :param sleep: tasks whose next step has been tried from here, with what it touches
    :param current: the step that is being tried
    :param branches: what is still to be tried
    """

    __slots__ = ("branches", "current", "sleep")

    def __init__(self, sleep: dict[str, Footprint], current: Branch, branches: list[Branch]) -> None:
        self.sleep = sleep
        self.current = current
        self.branches = branches


class Dpor:
    """The search; also who goes on in its current execution.

    :param nodes: the path to the part of the tree that is searched: its last node's current step, and all after it
    """

    def __init__(self, nodes: list[Node] | None = None) -> None:
        self.nodes: list[Node] = nodes if nodes is not None else []
        self.base = len(self.nodes)
        """So many first nodes belong to somebody else,"""
        self.foreign: list[tuple[int, Sequence]] = []
        """who must be told what to try there: at which depth."""
        self.known = max(self.base - 1, 0)
        """So many first steps of the next execution are repeated."""
        self.finished = False
        """Everything has been tried."""
        self.blocked = 0
        """Executions given up because all that was left had been tried elsewhere. There should be none."""

    def choose(self, run: Run) -> Proc | None:
        """Follow the path to the next trace, then whatever is not asleep."""
        nodes, i = self.nodes, len(run.trace.before)
        if i < len(nodes):
            return self._follow(run, nodes[i].current.who)
        sleep: dict[str, Footprint] = {}
        if i:
            parent = nodes[i - 1]
            if parent.sleep:
                made = run.trace.prints[i - 1]
                sleep = {who: touched for who, touched in parent.sleep.items() if not dependent(touched, made)}
            if parent.current.children:
                current, *rest = parent.current.children
                parent.current.children = []
                nodes.append(Node(sleep, current, rest))
                return self._follow(run, current.who)
        proc = self._any(run, sleep)
        if proc is not None:
            nodes.append(Node(sleep, Branch(proc.name, ()), []))
        return proc

    def _follow(self, run: Run, who: str) -> Proc:
        proc = run.procs.get(who)
        if proc is None or not proc.enabled():
            raise NotDeterministic(f"{who} cannot make step {len(run.trace.before)}, and could when it was planned")
        return proc

    def _any(self, run: Run, sleep: dict[str, Footprint]) -> Proc | None:
        """The running task if it may go on, else the first that may."""
        me = run.me
        if me.name not in sleep and me.enabled():
            return me
        return next((proc for proc in run.enabled() if proc.name not in sleep), None)

    def next(self, run: Run) -> bool:
        """Learn from a finished execution; whether there is another one to make."""
        nodes, trace = self.nodes, run.trace
        if run.gave_up:
            self.blocked += 1
        for node, made in zip(nodes[: self.known + 1], trace.prints, strict=False):
            if node.current.footprint not in ((), made):
                raise NotDeterministic(f"{node.current.who} touches {made}, and was to touch {node.current.footprint}")
        for i in range(self.known, len(nodes)):
            nodes[i].current.footprint = trace.prints[i]
        reversals = Reversals(trace)
        for race in trace.races:
            reversal = reversals.of(race)
            if reversal is not None:
                self._plan(reversals, reversal)
        return self._back()

    def _plan(self, reversals: Reversals, reversal: Reversal) -> None:
        """Try the sequence of a reversal, unless something that was tried leads to it."""
        node = self.nodes[reversal.start]
        for who, footprint in node.sleep.items():
            if reversals.may_start_with(reversal, who, footprint):
                return
        sequence = reversals.sequence(reversal)
        if reversal.start < self.base:
            self.foreign.append((reversal.start, sequence))
        else:
            insert(node.branches, sequence)

    def _back(self) -> bool:
        nodes = self.nodes
        while len(nodes) > self.base:
            node = nodes[-1]
            node.sleep[node.current.who] = node.current.footprint
            if node.branches:
                node.current = node.branches.pop(0)
                self.known = len(nodes) - 1
                return True
            nodes.pop()
        self.finished = True
        return False

    def reset(self) -> None:
        """Begin again."""
        self.nodes = []
        self.known = 0
