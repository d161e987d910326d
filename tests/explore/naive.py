"""An enumerator of all interleavings of a program that knows nothing of the explorer: a plain interpreter over explicit states.

It is slow and has no notion of races. The outcomes are those of every path through the states; the traces are counted by the order of every
pair of dependent events.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from tests.explore.lang import Code, Op

Accesses: TypeAlias = tuple[tuple[str, str], ...]
"""What an event touches, each read (``r``), written (``w``) or shared (``s``)."""
Edge: TypeAlias = tuple[tuple[str, int], tuple[str, int]]


class TooBig(Exception):
    """The program has more paths than one wants to walk."""


class Thread:
    """One task: where it is and what its CPU holds."""

    def __init__(self, code: tuple[tuple[Op, int], ...]) -> None:
        self.code = code
        self.at = 0
        self.irqs_off = False
        self.rcu = 0
        self.made = 0
        self.epoch = 0
        self.callbacks = 0
        self.held_back: tuple[tuple[str, int, int, int, bool], ...] = ()
        """Stores: name, value, number, epoch, release."""
        self.waiting: tuple[bool, frozenset[str], tuple[tuple[str, int], ...]] | None = None
        """For read sections (true) or IRQ-off sections: the tasks that are inside one, and the stores that must have arrived."""

    def copy(self) -> Thread:
        """The same once more."""
        other = Thread(self.code)
        other.__dict__.update(self.__dict__)
        return other

    def key(self) -> object:
        """Equal for equal threads."""
        return (self.at, self.irqs_off, self.rcu, self.made, self.epoch, self.callbacks, self.held_back, self.waiting)


def flatten(ops: tuple[Op, ...]) -> tuple[tuple[Op, int], ...]:
    """Operations in a row; a trylock says how many follow that a failure skips."""
    out: list[tuple[Op, int]] = []
    for op in ops:
        inside = flatten(op.body) if op.what in ("try", "tryread", "trywrite") else ()
        out += [(op, len(inside)), *inside]
    return tuple(out)


class State:
    """The whole world."""

    def __init__(self) -> None:
        self.threads: dict[str, Thread] = {}
        self.memory: dict[str, int] = {}
        self.writer: dict[str, str] = {}
        self.readers: dict[str, frozenset[str]] = {}
        self.regs: dict[str, int] = {}
        self.touched: frozenset[tuple[str, str, bool]] = frozenset()
        """Name, task and whether it wrote, of every access so far."""

    def copy(self) -> State:
        """The same once more."""
        other = State()
        other.threads = {name: thread.copy() for name, thread in self.threads.items()}
        other.memory = dict(self.memory)
        other.writer = dict(self.writer)
        other.readers = dict(self.readers)
        other.regs = dict(self.regs)
        other.touched = self.touched
        return other

    def key(self) -> object:
        """Equal for equal states."""
        return (
            tuple(sorted((name, thread.key()) for name, thread in self.threads.items())).__repr__(),
            tuple(sorted(self.memory.items())),
            tuple(sorted(self.writer.items())),
            tuple(sorted((name, tuple(sorted(who))) for name, who in self.readers.items())),
            tuple(sorted(self.regs.items())),
            self.touched,
        )


class Naive:
    """Every interleaving of a program.

    :param buffered: stores to the variables of ``shared`` go through store buffers, and so do unlocks
    :param limit: states, or prefixes of traces, that it walks at most
    """

    def __init__(self, code: Code, *, buffered: bool, shared: frozenset[str], limit: int = 30_000) -> None:
        self.code = code
        self.buffered = buffered
        self.shared = shared
        self.limit = limit

    def start(self) -> State:
        """Before the first step."""
        state = State()
        for number, ops in enumerate(self.code):
            state.threads["ABCDEF"[number]] = Thread(flatten(ops))
        for name, what in _mentioned(self.code):
            if what in ("load", "store", "add", "await", "swap"):
                state.memory[name] = 0
            else:
                state.readers[name] = frozenset()
        return state

    def outcomes(self) -> set[bytes]:
        """Everything that can come out."""
        return {self.outcome(state) for state in self.ends()}

    def ends(self) -> Iterator[State]:
        """Every state in which nobody can go on."""
        seen: set[object] = set()
        todo = [self.start()]
        while todo:
            state = todo.pop()
            key = state.key()
            if key in seen:
                continue
            seen.add(key)
            if len(seen) > self.limit:
                raise TooBig
            after = [each for _, _, each in self.steps(state)]
            if not after:
                yield state
            todo += after

    def fought_over(self) -> frozenset[str]:
        """Names that two tasks touch in one execution, one of them writing."""
        found: set[str] = set()
        for state in self.ends():
            stuck = {
                (op.name, who, op.what != "await")
                for who, thread in state.threads.items()
                for op, _ in thread.code[thread.at : thread.at + 1]
                if op.name
            }
            touched = state.touched | stuck
            for name, who, wrote in touched:
                if wrote and any(name == other and who != their for other, their, _ in touched):
                    found.add(name)
        return frozenset(found)

    def traces(self) -> set[frozenset[Edge]]:
        """Every trace: the order of each pair of dependent events of different actors, and every actor's number of events."""
        found: set[frozenset[Edge]] = set()
        seen: set[frozenset[Edge]] = set()
        todo: list[tuple[State, dict[tuple[str, int], Accesses], frozenset[Edge]]] = [(self.start(), {}, frozenset())]
        while todo:
            state, events, edges = todo.pop()
            any_step = False
            for actor, accesses, after in self.steps(state):
                any_step = True
                event = (actor, sum(1 for who, _ in events if who == actor))
                more = {(other, event) for other, theirs in events.items() if other[0] != actor and _conflict(theirs, accesses)}
                grown = edges | more | {(event, event)}
                if grown not in seen:
                    seen.add(grown)
                    if len(seen) > self.limit:
                        raise TooBig
                    todo.append((after, {**events, event: accesses}, grown))
            if not any_step:
                found.add(edges)
        return found

    def outcome(self, state: State) -> bytes:
        """As the explorer's program says it."""
        stuck = []
        for number in range(len(self.code)):
            thread = state.threads["ABCDEF"[number]]
            stuck.append("DEADLOCK" if thread.at < len(thread.code) else "")
        memory = {name: state.memory[name] for name in sorted(state.memory)}
        return repr((sorted(state.regs.items()), memory, stuck)).encode()

    def steps(self, state: State) -> Iterator[tuple[str, Accesses, State]]:
        """Every step that can be made: by whom, what it touches, what is then."""
        for name, thread in state.threads.items():
            if thread.at < len(thread.code):
                yield from self.step(state, name, thread)
            for target in dict.fromkeys(entry[0] for entry in thread.held_back):
                yield from self.write_back(state, name, target)

    def write_back(self, state: State, name: str, target: str) -> Iterator[tuple[str, Accesses, State]]:
        """The oldest store of a task to one target."""
        held_back = state.threads[name].held_back
        entry = next(each for each in held_back if each[0] == target)
        _, value, number, epoch, release = entry
        if any(each[2] < number and (release or each[3] < epoch) for each in held_back):
            return
        after = state.copy()
        after.threads[name].held_back = tuple(each for each in held_back if each is not entry)
        if target in after.memory:
            after.memory[target] = value
            yield f"{name}>{target}", ((target, "w"), (f"{name}>{target}", "w")), after
        else:
            del after.writer[target]
            yield f"{name}>{target}", ((target, "w"), (f"{name}>{target}", "w")), after

    def step(self, state: State, name: str, thread: Thread) -> Iterator[tuple[str, Accesses, State]]:
        """The next operation of a task."""
        op, skip = thread.code[thread.at]
        after = state.copy()
        if op.name:
            after.touched |= {(op.name, name, op.what not in ("load", "await"))}
        me = after.threads[name]
        me.at += 1
        who = name.replace("1", "").replace("2", "").replace("3", "")
        if op.what in ("load", "store", "add", "await", "swap"):
            accesses = self.access(after, me, name, who, op)
        elif op.what in ("irqoff", "irqon", "ipi", "rcu", "unrcu", "sync", "call", "gp"):
            accesses = self.wait(state, after, me, name, op)
        elif op.what == "wmb":
            me.epoch += 1
            accesses = ()
        elif op.what == "mb":
            accesses = None if me.held_back else ()
        else:
            accesses = self.lock(after, me, name, who, op, skip)
        if accesses is not None:
            yield name, accesses, after

    def access(self, after: State, me: Thread, name: str, who: str, op: Op) -> Accesses | None:
        """Loads, stores and atomic operations; ``None`` when it must wait."""
        buffered = self.buffered and op.name in self.shared
        mine = [each for each in me.held_back if each[0] == op.name]
        reg = f"{who}.{op.reg}"
        if op.what == "load":
            own = ((f"{name}>{op.name}", "r"),) if buffered else ()
            after.regs[reg] = mine[-1][1] if mine else after.memory[op.name]
            return own if mine else (*own, (op.name, "r"))
        if op.what == "store":
            if not buffered:
                after.memory[op.name] = op.value
                return ((op.name, "w"),)
            me.held_back += ((op.name, op.value, me.made, me.epoch, op.order == "release"),)
            me.made += 1
            return ((f"{_group(name)} made", "s"),)
        if mine or (op.order == "release" and me.held_back):
            return None
        value = after.memory[op.name]
        if op.what == "add":
            after.regs[reg] = value
            after.memory[op.name] = value + op.value
            return ((op.name, "w"),)
        if value != op.value:
            return None
        if op.what == "await":
            return ((op.name, "r"),)
        after.memory[op.name] = op.other
        return ((op.name, "w"),)

    def lock(self, after: State, me: Thread, name: str, who: str, op: Op, skip: int) -> Accesses | None:
        """Locks; ``None`` when it must wait."""
        writer, readers = after.writer.get(op.name), after.readers[op.name]
        if op.what in ("lock", "try") and any(each[0] == op.name for each in me.held_back):
            return None
        shared = op.what in ("read", "tryread")
        if op.what in ("lock", "read", "write", "try", "tryread", "trywrite"):
            busy = writer is not None or (bool(readers) and not shared)
            if op.what.startswith("try"):
                after.regs[f"{who}.{op.reg}"] = int(not busy)
                if busy:
                    me.at += skip
                    return ((op.name, "r"),)
            elif busy:
                return None
            if shared:
                after.readers[op.name] = readers | {name}
            else:
                after.writer[op.name] = name
            return ((op.name, "s" if shared else "w"),)
        if op.what == "unlock":
            if not (self.buffered and op.name in self.shared):
                del after.writer[op.name]
                return ((op.name, "w"),)
            me.held_back += ((op.name, 0, me.made, me.epoch, True),)
            me.made += 1
            return ((f"{_group(name)} made", "s"),)
        if me.held_back:
            return None
        if op.what == "unread":
            after.readers[op.name] = readers - {name}
            return ((op.name, "s"),)
        del after.writer[op.name]
        if op.what == "downgrade":
            after.readers[op.name] = readers | {name}
        return ((op.name, "w"),)

    def wait(self, before: State, after: State, me: Thread, name: str, op: Op) -> Accesses | None:
        """Interrupts and RCU; ``None`` when it must wait."""
        inside = me.irqs_off or me.rcu > 0
        if op.what in ("irqoff", "irqon"):
            me.irqs_off = op.what == "irqoff"
            ended = self.left(after, name, me, irqs=op.what == "irqon")
            return (
                ((f"{_group(name)} irqs", "s"), (f"{_group(name)} rcu", "s"))
                if inside != (me.irqs_off or me.rcu > 0) or ended
                else ((f"{_group(name)} irqs", "s"),)
            )
        if op.what in ("rcu", "unrcu"):
            me.rcu += 1 if op.what == "rcu" else -1
            self.left(after, name, me, irqs=False)
            return ((f"{_group(name)} rcu", "s"),) if inside != (me.irqs_off or me.rcu > 0) else ()
        if me.waiting is not None:
            _, inside_one, arrivals = me.waiting
            if inside_one or any(each[2] < made for other, made in arrivals for each in after.threads[other].held_back):
                return None
            me.waiting = None
            return ()
        if me.held_back:
            return None
        rcu = op.what != "ipi"
        asked = [other for other in after.threads if other != name or op.what == "call"]
        waiting = (
            rcu,
            frozenset(other for other in asked if self.inside(after.threads[other], rcu=rcu)),
            tuple((other, after.threads[other].made) for other in sorted(asked) if not self.inside(after.threads[other], rcu=rcu)),
        )
        if op.what == "call":
            me.callbacks += 1
            thread = Thread(((Op("gp"), 0), *flatten(op.body)))
            thread.waiting = waiting
            after.threads[f"{name}'{me.callbacks}"] = thread
        else:
            me.waiting = waiting
            me.at -= 1
        what = "rcu" if rcu else "irqs"
        groups = {_group(other) for other in asked if other != name} | {"callbacks"}
        return tuple((f"{group} {each}", "r") for group in sorted(groups) for each in (what, "made"))

    def inside(self, thread: Thread, *, rcu: bool) -> bool:
        """Whether a task is in a section of this kind."""
        return thread.irqs_off or (rcu and thread.rcu > 0)

    def left(self, after: State, name: str, me: Thread, *, irqs: bool) -> bool:
        """A task may have left its section: tell those who wait for it."""
        any_told = False
        for other in after.threads.values():
            if other.waiting is not None and name in other.waiting[1] and not self.inside(me, rcu=other.waiting[0]):
                rcu, inside, arrivals = other.waiting
                other.waiting = (rcu, inside - {name}, tuple(sorted((*arrivals, (name, me.made)))))
        return any_told


def _group(name: str) -> str:
    return "callbacks" if "'" in name else name


def _conflict(a: Accesses, b: Accesses) -> bool:
    return any(x == y and (m == "w" or n == "w" or m != n) for x, m in a for y, n in b)


def _mentioned(code: tuple[tuple[Op, ...], ...]) -> Iterator[tuple[str, str]]:
    for ops in code:
        for op in ops:
            if op.name:
                yield op.name, op.what
            yield from _mentioned((op.body,))


def shared_names(code: Code) -> frozenset[str]:
    """Names that more than one task mentions; an RCU callback is a task."""
    users: dict[str, set[str]] = {}
    for number, ops in enumerate(code):
        _users((ops,), f"{number}", users)
    return frozenset(name for name, who in users.items() if len(who) > 1)


def _users(code: tuple[tuple[Op, ...], ...], who: str, users: dict[str, set[str]]) -> None:
    for ops in code:
        for number, op in enumerate(ops):
            if op.name:
                users.setdefault(op.name, set()).add(who)
            if op.body:
                _users((op.body,), f"{who}'{number}" if op.what == "call" else who, users)
