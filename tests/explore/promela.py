"""Small programs as Promela, for SPIN."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.explore.lang import Code, Op, names

_MEMORY = ("load", "store", "add", "await", "swap")


class Model:
    """One program as a model that prints every final state.

    Memory is one integer a variable. A store buffer is a channel for each task and variable, emptied by a process of its own; release
    stores, write barriers and buffered unlocks are not rendered.
    """

    def __init__(self, code: Code, *, buffered: bool) -> None:
        self.code = code
        self.buffered = buffered
        self.variables = sorted(names(code, *_MEMORY))
        self.locks = sorted(names(code, "lock", "try", "read", "write", "tryread", "trywrite"))
        self.regs = [f"{who}_{op.reg}" for who, ops in self.tasks() for op in _all(ops) if op.reg]

    def tasks(self) -> list[tuple[str, tuple[Op, ...]]]:
        """Each task's name and operations."""
        return [("ABCDEF"[number], ops) for number, ops in enumerate(self.code)]

    def text(self) -> str:
        """The whole model."""
        lines = [
            f"int {name} = 0;" for name in [*self.variables, *(f"w_{lock}" for lock in self.locks), *(f"r_{lock}" for lock in self.locks)]
        ]
        lines += [f"int {reg} = -1;" for reg in self.regs]
        lines += [f"int done_{who} = 0;" for who, _ in self.tasks()]
        if self.buffered:
            for who, _ in self.tasks():
                for name in self.variables:
                    lines += self.buffer(who, name)
        for who, ops in self.tasks():
            body = [line for op in ops for line in self.op(who, op)]
            lines += [f"active proctype P{who}() {{", *body, f"done_{who} = 1", "}"]
        return "\n".join([*lines, *self.ending(), ""])

    def buffer(self, who: str, name: str) -> list[str]:
        """One store buffer."""
        b = f"{who}_{name}"
        return [
            f"chan b_{b} = [4] of {{ int }}; int n_{b} = 0; int last_{b} = 0;",
            f"active proctype F{b}() {{ int v; do :: atomic {{ b_{b} ? v -> {name} = v; n_{b} = n_{b} - 1; v = 0 }} od }}",
        ]

    def ending(self) -> list[str]:
        """Prints the state in which nobody can go on."""
        shown = [*self.regs, *self.variables, *(f"done_{who}" for who, _ in self.tasks())]
        form = " ".join(f"{name}=%d" for name in shown)
        values = ", ".join(f"now.{name}" for name in shown)
        return ["active proctype End() {", f'timeout -> c_code {{ printf("END {form}\\n", {values}); }}', "}"]

    def op(self, who: str, op: Op) -> list[str]:
        """One operation."""
        reg = f"{who}_{op.reg}"
        b, own = f"{who}_{op.name}", f"n_{who}_{op.name} == 0"
        if op.what == "load":
            if self.buffered:
                return [f"atomic {{ if :: n_{b} > 0 -> {reg} = last_{b} :: else -> {reg} = {op.name} fi }};"]
            return [f"{reg} = {op.name};"]
        if op.what == "store":
            if self.buffered:
                return [f"atomic {{ b_{b} ! {op.value}; n_{b} = n_{b} + 1; last_{b} = {op.value} }};"]
            return [f"{op.name} = {op.value};"]
        if op.what == "add":
            guard = own if self.buffered else "true"
            return [f"atomic {{ {guard} -> {reg} = {op.name}; {op.name} = {op.name} + {op.value} }};"]
        if op.what == "await":
            return [f"{op.name} == {op.value};"]
        if op.what == "swap":
            return [f"atomic {{ {op.name} == {op.value} -> {op.name} = {op.other} }};"]
        if op.what == "mb":
            return [f"({' && '.join(f'n_{who}_{name} == 0' for name in self.variables)});"] if self.buffered else []
        return self.lock(who, op, reg)

    def lock(self, who: str, op: Op, reg: str) -> list[str]:
        """One operation on a lock."""
        w, r = f"w_{op.name}", f"r_{op.name}"
        free = f"{w} == 0" if op.what in ("read", "tryread") else f"{w} == 0 && {r} == 0"
        take = f"{r} = {r} + 1" if op.what in ("read", "tryread") else f"{w} = 1"
        if op.what in ("lock", "read", "write"):
            return [f"atomic {{ {free} -> {take} }};"]
        if op.what in ("try", "tryread", "trywrite"):
            inside = " ".join(line for each in op.body for line in self.op(who, each)).rstrip(";")
            return [f"if :: atomic {{ {free} -> {take}; {reg} = 1 }}; {inside} :: atomic {{ !({free}) -> {reg} = 0 }} fi;"]
        return [
            {"unlock": f"{w} = 0;", "unwrite": f"{w} = 0;", "unread": f"{r} = {r} - 1;", "downgrade": f"atomic {{ {w} = 0; {r} = 1 }};"}[
                op.what
            ]
        ]

    def outcomes(self, folder: Path) -> set[bytes]:
        """What SPIN finds, as the explorer's programs say it."""
        (folder / "model.pml").write_text(self.text())
        for command in (["spin", "-a", "model.pml"], ["gcc", "-O1", "-w", "-DSAFETY", "-DNOREDUCE", "-o", "pan", "pan.c"]):
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
        ran = subprocess.run(["./pan", "-E", "-m100000"], cwd=folder, check=True, capture_output=True, text=True, timeout=120)
        assert "errors: 0" in ran.stdout, ran.stdout
        return {self.said(line) for line in ran.stdout.splitlines() if line.startswith("END ")}

    def said(self, line: str) -> bytes:
        """One final state."""
        values = {name: int(value) for name, value in re.findall(r"(\w+)=(-?\d+)", line)}
        regs = sorted((reg.replace("_", "."), values[reg]) for reg in self.regs if values[reg] != -1)
        stuck = ["" if values[f"done_{who}"] else "DEADLOCK" for who, _ in self.tasks()]
        return repr((regs, {name: values[name] for name in self.variables}, stuck)).encode()


def _all(ops: tuple[Op, ...]) -> list[Op]:
    return [each for op in ops for each in (op, *_all(op.body))]
