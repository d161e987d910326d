"""Who is running: the machine, the task and the CPU of the run in progress.

Set by :meth:`kmm.kernel.machine.Machine.running`; always reached as ``current.machine`` and never imported by name, because the
values change. One run at a time in a process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kmm.kernel.machine import Machine
    from kmm.kernel.task import Cpu, Task

machine: Machine
task: Task
cpu: Cpu
