"""A small language of kernel primitives: programs as values, and how they run on the explorer's machine."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

from kmm.explore.machine import ExploringMachine
from kmm.explore.program import Body, Program, World
from kmm.kernel import current
from kmm.kernel.access import ACQUIRE, ONCE, PLAIN, RELEASE, Field, Order, Shared
from kmm.kernel.barrier import call_rcu, smp_call_function, smp_mb, smp_wmb, synchronize_rcu
from kmm.kernel.irq import local_irq_disable, local_irq_enable
from kmm.kernel.locks import (
    RwSem,
    SpinLock,
    down_read,
    down_read_trylock,
    down_write,
    down_write_trylock,
    downgrade_write,
    rcu_read_lock,
    rcu_read_unlock,
    spin_lock,
    spin_trylock,
    spin_unlock,
    up_read,
    up_write,
)
from kmm.kernel.task import Task
from kmm.kernel.wait import smp_cond_load_acquire, wait_and_set

ORDERS: Final = {"plain": PLAIN, "once": ONCE, "acquire": ACQUIRE, "release": RELEASE}


@attrs.frozen
class Op:
    """One operation.

    :param what: ``load``, ``store``, ``add``, ``await``, ``swap`` (wait for ``value``, set ``other``); ``wmb``, ``mb``; of locks ``lock``,
        ``unlock``, ``try``, ``read``, ``unread``, ``tryread``, ``write``, ``unwrite``, ``trywrite``, ``downgrade``; of interrupts
        ``irqoff``, ``irqon``, ``ipi``; of RCU ``rcu``, ``unrcu``, ``call``, ``sync``
    :param name: of the variable or lock
    :param reg: register that gets the old value, or whether a trylock had success
    :param body: of a trylock that had success (it ends with the unlock), or of an RCU callback
    """

    what: str
    name: str = ""
    value: int = 0
    reg: str = ""
    order: str = "once"
    other: int = 0
    body: tuple[Op, ...] = ()


Code: TypeAlias = tuple[tuple[Op, ...], ...]
"""One sequence of operations for each task: A, B, C."""


class Var(Shared):
    """One shared variable."""

    __slots__ = ("_value", "label")
    value: Field[int] = Field()

    def __init__(self, label: str) -> None:
        self.freed_by = ""
        self.label = label
        self._value = 0

    @property
    def name(self) -> str:
        """The label."""
        return self.label


def machine(cpus: int) -> ExploringMachine:
    """A machine for small programs."""
    return ExploringMachine(
        page_size=4096, ptes=8, lru_batch=1, debug_vm=True, split_ptlocks=True, tlb="ipi", arch="x86", budget=1_000_000, cpus=cpus
    )


class Running:
    """One fresh world of a program."""

    def __init__(self, code: Code) -> None:
        self.variables = {name: Var(name) for name in sorted(names(code, "load", "store", "add", "await", "swap"))}
        self.spins = {name: SpinLock("pte_lock", name) for name in names(code, "lock", "try")}
        self.sems = {name: RwSem("mmap_lock", name) for name in names(code, "read", "tryread", "write", "trywrite")}
        self.regs: dict[str, int] = {}

    def run(self, who: str, ops: tuple[Op, ...]) -> None:
        """Make operations as the running task."""
        for op in ops:
            self.one(who, op)

    def one(self, who: str, op: Op) -> None:
        """Make one."""
        order: Order = ORDERS[op.order]
        reg = f"{who}.{op.reg}"
        simple: dict[str, Callable[[], object]] = {
            "irqoff": local_irq_disable,
            "irqon": local_irq_enable,
            "ipi": smp_call_function,
            "rcu": rcu_read_lock,
            "unrcu": rcu_read_unlock,
            "sync": synchronize_rcu,
            "wmb": smp_wmb,
            "mb": smp_mb,
        }
        if op.what in simple:
            simple[op.what]()
        elif op.what == "load":
            self.regs[reg] = current.machine.read(self.variables[op.name], Var.value, order)
        elif op.what == "store":
            current.machine.write(self.variables[op.name], Var.value, op.value, order)
        elif op.what == "add":
            self.regs[reg] = current.machine.fetch_add(self.variables[op.name], Var.value, op.value, order)
        elif op.what == "await":
            smp_cond_load_acquire(self.variables[op.name], Var.value, lambda value: value == op.value)
        elif op.what == "swap":
            wait_and_set(self.variables[op.name], Var.value, lambda value: value == op.value, lambda value: op.other, order)
        elif op.what == "call":
            call_rcu(lambda: self.run(f"{who}'", op.body))
        else:
            self.lock(who, op, reg)

    def lock(self, who: str, op: Op, reg: str) -> None:
        """Make an operation on a lock."""
        if op.name in self.spins:
            spin = self.spins[op.name]
            if op.what == "try":
                self.tried(who, op, reg, spin_trylock(spin))
            else:
                {"lock": spin_lock, "unlock": spin_unlock}[op.what](spin)
            return
        sem = self.sems[op.name]
        if op.what in ("tryread", "trywrite"):
            self.tried(who, op, reg, (down_read_trylock if op.what == "tryread" else down_write_trylock)(sem))
        else:
            {"read": down_read, "unread": up_read, "write": down_write, "unwrite": up_write, "downgrade": downgrade_write}[op.what](sem)

    def tried(self, who: str, op: Op, reg: str, success: bool) -> None:
        """Go on after a trylock."""
        self.regs[reg] = int(success)
        if success:
            self.run(who, op.body)

    def outcome(self, ends: tuple[str, ...]) -> bytes:
        """Registers, memory, and who is stuck."""
        stuck = [end.partition(":")[0] for end in ends]
        memory = {name: variable._value for name, variable in self.variables.items()}
        return repr((sorted(self.regs.items()), memory, stuck)).encode()


def names(code: tuple[tuple[Op, ...], ...], *what: str) -> set[str]:
    """Names that operations of some kinds have."""
    found: set[str] = set()
    for ops in code:
        for op in ops:
            if op.what in what:
                found.add(op.name)
            found |= names((op.body,), *what)
    return found


def program(code: Code) -> Program:
    """The program for the explorer."""

    def make() -> World:
        running = Running(code)
        made = machine(len(code))

        def body(number: int) -> Body:
            who = "ABCDEF"[number]
            return Body(Task(who, made.cpus[number], 1), lambda: running.run(who, code[number]))

        return World(made, tuple(body(i) for i in range(len(code))), running.outcome)

    return make


def load(name: str, reg: str, order: str = "once") -> Op:
    """Read a variable into a register."""
    return Op("load", name, reg=reg, order=order)


def store(name: str, value: int, order: str = "once") -> Op:
    """Write a variable."""
    return Op("store", name, value=value, order=order)


class Generator:
    """Random programs.

    :param rng: decides everything
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.regs = 0

    def code(self) -> Code:
        """A program of two or three tasks."""
        tasks = self.rng.choice((2, 2, 3))
        size = 5 if tasks == 2 else 3
        self.locks = self.rng.choice((("m",), ("m", "n"), ("s",), ("m", "s")))
        self.flavour = self.rng.choice(("memory", "locks", "irq", "rcu", "waits", "all"))
        return tuple(self.ops(self.rng.randint(2, size), frozenset()) for _ in range(tasks))

    def ops(self, size: int, held: frozenset[str]) -> tuple[Op, ...]:
        """About so many operations."""
        out: list[Op] = []
        while len(out) < size:
            out += self.group(size - len(out), held)
        return tuple(out)

    def group(self, size: int, held: frozenset[str]) -> list[Op]:
        """Some operations that belong together."""
        flavour = self.flavour if self.flavour != "all" else self.rng.choice(("memory", "locks", "irq", "rcu", "waits"))
        if size >= 2 and flavour != "memory" and self.rng.random() < 0.6:
            made = {"locks": self.locked, "irq": self.irq, "rcu": self.rcu, "waits": self.waits}[flavour](size, held)
            if made:
                return made
        return [self.access()]

    def access(self) -> Op:
        """One access or barrier."""
        name = self.rng.choice("xxy")
        order = self.rng.choice(("once", "once", "plain", "acquire", "release"))
        what = self.rng.choice(("load", "load", "store", "store", "store", "add", "mb", "wmb"))
        if what in ("mb", "wmb"):
            return Op(what)
        self.regs += 1
        return Op(what, name, self.rng.randint(1, 2), f"r{self.regs}" if what != "store" else "", order)

    def locked(self, size: int, held: frozenset[str]) -> list[Op]:
        """A critical section, or an attempt at one."""
        free = [name for name in self.locks if name not in held]
        if not free:
            return []
        name = self.rng.choice(free)
        kinds = ("lock", "try") if name != "s" else ("read", "tryread", "write", "trywrite")
        kind = self.rng.choice(kinds)
        ends = {"lock": "unlock", "try": "unlock", "read": "unread", "tryread": "unread", "write": "unwrite", "trywrite": "unwrite"}
        inside = self.ops(self.rng.randint(0, min(2, size - 1)), held | {name})
        end = [Op(ends[kind], name)]
        if ends[kind] == "unwrite" and self.rng.random() < 0.3:
            end = [Op("downgrade", name), *([self.access()] if self.rng.random() < 0.5 else []), Op("unread", name)]
        if kind.startswith("try"):
            self.regs += 1
            return [Op(kind, name, reg=f"r{self.regs}", body=(*inside, *end))]
        return [Op(kind, name), *inside, *end]

    def irq(self, size: int, held: frozenset[str]) -> list[Op]:
        """An IRQ-off section, or an IPI."""
        if self.rng.random() < 0.5:
            return [Op("ipi")]
        return [Op("irqoff"), *(self.access() for _ in range(self.rng.randint(0, 2))), Op("irqon")]

    def rcu(self, size: int, held: frozenset[str]) -> list[Op]:
        """A read section, a callback, or waiting for a grace period."""
        kind = self.rng.random()
        if kind < 0.45:
            inside = [self.access() for _ in range(self.rng.randint(0, 2))]
            if self.rng.random() < 0.3:
                inside += [Op("irqoff"), self.access(), Op("irqon")]
            return [Op("rcu"), *inside, Op("unrcu")]
        if kind < 0.75:
            return [Op("sync")]
        return [Op("call", body=(self.access(),))]

    def waits(self, size: int, held: frozenset[str]) -> list[Op]:
        """Waiting for a value."""
        name = self.rng.choice("xxy")
        if self.rng.random() < 0.5:
            return [Op("await", name, self.rng.randint(0, 2))]
        return [Op("swap", name, self.rng.randint(0, 2), other=self.rng.randint(0, 2), order=self.rng.choice(("once", "release")))]
