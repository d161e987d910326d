"""The machine on which several tasks run: the sequential one, with a switch before every step that another task can notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from kmm.explore.buffered import BufferedMemory
from kmm.explore.grace import Grace
from kmm.explore.kcsan import Kcsan
from kmm.explore.locking import Locking
from kmm.explore.memory import Memory
from kmm.explore.place import MANY, READ, WRITE, Local, Place
from kmm.explore.proc import Proc
from kmm.explore.sharing import Sharing
from kmm.kernel.access import ONCE, RELEASE, Field, Order, Shared
from kmm.kernel.locks import Lock
from kmm.kernel.machine import Machine
from kmm.kernel.task import Cpu

if TYPE_CHECKING:
    from kmm.explore.run import Run

T = TypeVar("T")

Key: TypeAlias = "Field[Any] | tuple[Field[Any], int]"
"""A field, or an element of one."""

LIFE = "life"
"""The field that stands for an object's being there: freeing it writes it."""


_NOTHING: frozenset[str] = frozenset()
_NO_FIELDS: dict[object, Local | Place] = {}
_NO_KEYS: dict[Key, bool] = {}
"""Until there is one."""


class Met:
    """An object that some task has touched in this execution."""

    __slots__ = ("fields", "freer", "known", "life", "name", "owner", "touched", "toucher")

    def __init__(self, name: str, known: frozenset[str] | set[str]) -> None:
        self.name = name
        self.known = known
        self.fields: dict[object, Local | Place] = {} if known else _NO_FIELDS
        self.life: Place | None = Place(f"{name}.{LIFE}") if LIFE in known else None
        self.toucher: object = None
        """The only task so far, or :data:`MANY`."""
        self.freer: object = None
        """The task that freed it."""
        self.owner: Proc | None = None
        """While only this task has touched it, and nothing of it is known to be fought over,"""
        self.touched: dict[Key, bool] = _NO_KEYS
        """this is all that is kept of its fields: whether each was written."""


class ExploringMachine(Machine):
    """A machine that can run several tasks, each on a CPU of its own.

    Between executions, and so while a world is built and when its outcome is asked, it is the sequential machine.

    :param cpus: how many
    """

    __slots__ = ("_met", "_names", "_run", "_sharing", "memory")

    def __init__(
        self,
        *,
        page_size: int,
        ptes: int,
        lru_batch: int,
        debug_vm: bool,
        split_ptlocks: bool,
        tlb: str,
        arch: str,
        budget: int,
        highpte: bool = False,
        pt_reclaim: bool = True,
        vmemmap: bool = True,
        cpus: int = 2,
    ) -> None:
        super().__init__(
            page_size=page_size,
            ptes=ptes,
            lru_batch=lru_batch,
            debug_vm=debug_vm,
            split_ptlocks=split_ptlocks,
            tlb=tlb,
            arch=arch,
            budget=budget,
            highpte=highpte,
            pt_reclaim=pt_reclaim,
            vmemmap=vmemmap,
        )
        self.cpus = tuple(Cpu(i) for i in range(cpus))
        self._run: Run | None = None
        self._met: dict[object, Met] = {}
        self._names: dict[str, int] = {}
        self._sharing = Sharing()
        self.memory: Memory

    def attach(self, run: Run, sharing: Sharing, *, buffered: bool, kcsan: bool) -> None:
        """Let ``run`` decide from now on.

        :param sharing: what is known, and where to add
        :param buffered: stores go through store buffers
        :param kcsan: look for data races
        """
        self._sharing = sharing
        watch = Kcsan(self) if kcsan else None
        self.memory = BufferedMemory(run, watch) if buffered else Memory(run, watch)
        self.scheduler = Locking(run, self.memory, Grace(run, self.memory))
        self._run = run

    def detach(self) -> None:
        """Be the sequential machine again."""
        self._run = None
        self.scheduler = None
        self._met = {}
        del self.memory

    def read(self, obj: Shared, field: Field[T], order: Order) -> T:
        """Read one field."""
        run = self._run
        if run is not None:
            met = self._met.get(obj)
            if met is not None and met.owner is run.me:
                met.touched.setdefault(field, False)
            elif met is None or (local := met.fields.get(field)) is None or (local.reader is not run.me and local.reader is not MANY):
                place = self._reach(obj, field, -1, writing=False)
                if place is not None:
                    value = self.memory.load(place, order)
                    self._passed(obj, field.name)
                    if self.recorder is not None:
                        self.recorder.read(obj.name, field.name, value)
                    return cast(T, value)
        self.budget = left = self.budget - 1
        if left < 0 or obj.freed_by:
            self.check(obj, field.name)
        own: T = getattr(obj, field.slot)
        return own

    def write(self, obj: Shared, field: Field[T], value: T, order: Order) -> None:
        """Write one field."""
        run = self._run
        if run is not None:
            met = self._met.get(obj)
            if met is not None and met.owner is run.me:
                met.touched[field] = True
            elif met is None or (local := met.fields.get(field)) is None or local.writer is not run.me:
                place = self._reach(obj, field, -1, writing=True)
                if place is not None:
                    self.memory.store(place, value, order)
                    self._passed(obj, field.name)
                    if self.recorder is not None:
                        self.recorder.write(obj.name, field.name, value)
                    return
        Machine.write(self, obj, field, value, order)

    def rmw(self, obj: Shared, field: Field[T], fn: Callable[[T], T], order: Order) -> T:
        """Replace one field by ``fn`` of it in one step; the value is the old one."""
        run = self._run
        if run is not None:
            met = self._met.get(obj)
            if met is not None and met.owner is run.me:
                met.touched[field] = True
            elif met is None or (local := met.fields.get(field)) is None or local.writer is not run.me:
                place = self._reach(obj, field, -1, writing=True)
                if place is not None:
                    old = self.memory.rmw(place, cast("Callable[[object], object]", fn), order)
                    self._passed(obj, field.name)
                    if self.recorder is not None:
                        self.recorder.write(obj.name, field.name, fn(cast(T, old)))
                    return cast(T, old)
            if order is RELEASE:  # it keeps earlier stores before it even where only one task is
                self.memory.drain("rmw")
        return Machine.rmw(self, obj, field, fn, order)

    def fetch_add(self, obj: Shared, field: Field[int], n: int, order: Order = ONCE) -> int:
        """Add atomically; the value is the old one."""
        if self._run is None:
            return Machine.fetch_add(self, obj, field, n, order)
        return self.rmw(obj, field, n.__add__, order)

    def read_item(self, obj: Shared, field: Field[list[T]], index: int, order: Order) -> T:
        """Read one element of an array field."""
        run = self._run
        if run is not None:
            met = self._met.get(obj)
            if met is not None and met.owner is run.me:
                met.touched.setdefault((field, index), False)
            elif (
                met is None
                or (local := met.fields.get((field, index))) is None
                or (local.reader is not run.me and local.reader is not MANY)
            ):
                place = self._reach(obj, field, index, writing=False)
                if place is not None:
                    value = self.memory.load(place, order)
                    self._passed(obj, field.name)
                    if self.recorder is not None:
                        self.recorder.read(obj.name, f"{field.name}[{index}]", value)
                    return cast(T, value)
        return Machine.read_item(self, obj, field, index, order)

    def write_item(self, obj: Shared, field: Field[list[T]], index: int, value: T, order: Order) -> None:
        """Write one element of an array field."""
        run = self._run
        if run is not None:
            met = self._met.get(obj)
            if met is not None and met.owner is run.me:
                met.touched[(field, index)] = True
            elif met is None or (local := met.fields.get((field, index))) is None or local.writer is not run.me:
                place = self._reach(obj, field, index, writing=True)
                if place is not None:
                    self.memory.store(place, value, order)
                    self._passed(obj, field.name)
                    if self.recorder is not None:
                        self.recorder.write(obj.name, f"{field.name}[{index}]", value)
                    return
        Machine.write_item(self, obj, field, index, value, order)

    def rmw_item(self, obj: Shared, field: Field[list[T]], index: int, fn: Callable[[T], T], order: Order) -> T:
        """Replace one element of an array field in one step; the value is the old one."""
        run = self._run
        if run is not None:
            met = self._met.get(obj)
            if met is not None and met.owner is run.me:
                met.touched[(field, index)] = True
            elif met is None or (local := met.fields.get((field, index))) is None or local.writer is not run.me:
                place = self._reach(obj, field, index, writing=True)
                if place is not None:
                    old = self.memory.rmw(place, cast("Callable[[object], object]", fn), order)
                    self._passed(obj, field.name)
                    if self.recorder is not None:
                        self.recorder.write(obj.name, f"{field.name}[{index}]", fn(cast(T, old)))
                    return cast(T, old)
            if order is RELEASE:
                self.memory.drain("rmw")
        return Machine.rmw_item(self, obj, field, index, fn, order)

    def wait(self, obj: Shared, field: Field[T], condition: Callable[[T], bool], fn: Callable[[T], T] | None, order: Order) -> T:
        """Wait for one field."""
        run = self._run
        assert run is not None
        place = self._reach(obj, field, -1, writing=fn is not None)
        if place is not None:
            test, change = cast("Callable[[object], bool]", condition), cast("Callable[[object], object] | None", fn)
            value = self.memory.wait(place, test, change, order)
            self._passed(obj, field.name)
            return cast(T, value)
        if order is RELEASE:
            self.memory.drain("wait")
        if not condition(getattr(obj, field.slot)):
            run.pause(f"wait for {obj.name}.{field.name}", lambda: condition(getattr(obj, field.slot)))
        return Machine.read(self, obj, field, order) if fn is None else Machine.rmw(self, obj, field, fn, order)

    def free(self, obj: Shared, function: str) -> None:
        """The memory of ``obj`` is given back by ``function``. A step that depends on every access of ``obj``."""
        run = self._run
        if run is not None:
            met = self._met.get(obj) or self._meet(obj, obj.name)
            if met.life is not None:
                run.turn(met.life, WRITE, "free")
                if not run.closed:
                    run.trace.touch(run.me, met.life, WRITE)
            elif met.toucher is not None and met.toucher is not run.me:
                self._sharing.learn(met.name, LIFE)
            met.freer = run.me
        obj.freed_by = function

    def trace(self, name: str, *fields: object) -> None:
        """Emit a trace event."""
        if self._run is not None:
            self.task_traces.setdefault(self._run.me.name, []).append((name, fields))
        super().trace(name, *fields)

    def lock_place(self, lock: Lock) -> Place | None:
        """The place of a lock that several tasks take."""
        return self._special(lock, lock.label, "lock", writing=True)

    def state(self, group: str, name: str, *, writing: bool) -> Place | None:
        """The place of something about a task, or a group of them, that others look at: ``irqs``, ``rcu`` or ``stores``."""
        return self._special(group, group, name, writing=writing)

    def _special(self, obj: object, name: str, field: str, *, writing: bool) -> Place | None:
        run = self._run
        assert run is not None
        met = self._met.get(obj) or self._meet(obj, name)
        place = met.fields.get(field)
        if place is None:
            if met.fields is _NO_FIELDS:
                met.fields = {}
            known = field in met.known
            place = met.fields[field] = Place(f"{met.name}.{field}") if known else Local(field)
        if isinstance(place, Place):
            return place
        if not writing or place.writer is not run.me:
            self._learn(met, place, run.me, writing=writing)
        return None

    def _reach(self, obj: Shared, field: Field[T], index: int, *, writing: bool) -> Place | None:
        """The place of a field, if tasks fight over it."""
        run = self._run
        assert run is not None
        me = run.me
        met = self._met.get(obj) or self._meet(obj, obj.name)
        key: Key = field if index < 0 else (field, index)
        place = met.fields.get(key)
        if place is None:
            if self._owns(met, me):
                met.touched[key] = writing or met.touched.get(key, False)
                return None
            place = met.fields.get(key)
            if place is None:
                place = met.fields[key] = self._place(met, obj, field, index)
        if met.toucher is not me and met.toucher is not MANY:
            met.toucher = me if met.toucher is None else MANY
        if isinstance(place, Place):
            return place
        if (writing and not place.written) or (place.toucher is not me and place.toucher is not MANY):
            self._learn(met, place, me, writing=writing)
        if met.life is not None:
            place.reader = place.writer = None
            run.turn(met.life, READ, "write" if writing else "read")
            if not run.closed:
                run.trace.touch(me, met.life, READ)
        elif met.freer is not None and met.freer is not me:
            self._sharing.learn(met.name, LIFE)
        return None

    def _owns(self, met: Met, me: Proc) -> bool:
        """Whether an object is the running task's own so far. If it was another's, its fields are told apart from now on."""
        if met.owner is me:
            return True
        if met.owner is not None:
            met.fields = {key: Local.of(key, met.owner, written=written) for key, written in met.touched.items()}
            met.owner = None
            met.touched = _NO_KEYS
        elif met.toucher is None and met.freer is None and not met.known:
            met.owner = met.toucher = me
            met.touched = {}
            return True
        elif met.fields is _NO_FIELDS:
            met.fields = {}
        return False

    def _learn(self, met: Met, local: Local, me: Proc, *, writing: bool) -> None:
        if writing:
            self._sharing.write(met.name, local, me)
        else:
            self._sharing.read(met.name, local, me)
        local.reader = local.toucher
        local.writer = me if local.written and local.toucher is me else None

    def _meet(self, obj: object, name: str) -> Met:
        """An object is touched for the first time. A second one of the same name gets a number."""
        times = self._names[name] = self._names.get(name, 0) + 1
        if times > 1:
            name = f"{name}#{times}"
        met = self._met[obj] = Met(name, self._sharing.fields.get(name, _NOTHING))
        return met

    def _place(self, met: Met, obj: Shared, field: Field[T], index: int) -> Local | Place:
        if not met.known:
            return Local(field.name, index)
        name = field.name if index < 0 else f"{field.name}[{index}]"
        if name not in met.known:
            return Local(field.name, index)
        place = Place(f"{met.name}.{name}", obj, field.slot, index)
        place.live(met.life)
        return place

    def _passed(self, obj: Shared, field: str) -> None:
        """What every access must pass."""
        self.budget = left = self.budget - 1
        if left < 0 or obj.freed_by:
            self.check(obj, field)
