"""One run on a terminal: the page map before and after, the trace events, the result, what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
from rich.console import Console
from rich.text import Text

from kmm.judge.words import trace_line
from kmm.mm.folio import Folio
from kmm.mm.system import System
from kmm.report.pagemap import PageMap, after, before, draw
from kmm.scenario.build import build
from kmm.scenario.checks import GAP
from kmm.scenario.model import Config, DriverKind, Scenario, Tunables, Vma
from kmm.scenario.run import Run
from kmm.scenario.step import said


def print_run(console: Console, r: Run) -> None:
    """Show a finished run."""
    s = r.scenario
    start = build(s, r.world.system.variant)
    _heading(console, s, r.world.system.variant.name)
    for title, drawn in _maps(r, "before"):
        _map(console, title, drawn)
    _lines(console, "steps" if r.scenario.steps else "actors", _steps(r), "")
    for title, drawn in _maps(r, "after"):
        _map(console, title, drawn)
    _lines(console, "trace events", _trace(r), "none")
    _lines(console, "result", _result(r), "")
    _lines(console, "events", _events(r), "")
    _lines(console, "counters that changed", _counters(start.system, r.world.system), "none")
    _lines(console, "violations", [f"{each.check}: {each.text}" for each in r.world.system.machine.reports], "none")


def _maps(r: Run, when: str) -> Iterator[tuple[str, PageMap]]:
    """The maps of every process and range, with their titles."""
    s = r.scenario
    if not s.steps and not s.actors:
        yield when, before(s) if when == "before" else after(r.world, s)
        return
    mms = r.world.system.mms
    idents = range(1, 1 + len(s.address_spaces)) if when == "before" else [mm.ident for mm in mms if mm._vmas]
    for ident in idents:
        for number in range(s.geometry.ranges):
            drawn = before(s, ident, number) if when == "before" else after(r.world, s, mms[ident - 1], number)
            if drawn.pages.strip(GAP):
                yield f"{when}, process {ident}", drawn


def _steps(r: Run) -> list[str]:
    done = zip(r.scenario.steps, r.steps, strict=False)
    beside = zip(r.scenario.actors, r.actors, strict=False)
    steps = [f"{said(step, number)}: {outcome}" for number, (step, outcome) in enumerate(done, 1)]
    return [*steps, *(f"{said(actor, number, 'actor')}: {outcome}" for number, (actor, outcome) in enumerate(beside, 1))]


def _heading(console: Console, s: Scenario, variant: str) -> None:
    line = Text(s.name or "scenario", style="bold")
    line.append(f"  {s.driver.kind.value}", style="not bold")
    if s.driver.order is not None:
        line.append(f" at order {s.driver.order}, page {s.driver.offset}", style="not bold")
    line.append(f", {s.geometry.ptes} PTEs, variant {variant}", style="not bold")
    console.print(line)
    orders = [f"{order} {mode}" for order, mode in enumerate(s.tunables.hugepages, 2) if mode != "never"]
    for number, process in enumerate(s.address_spaces, 1):
        whose = f"process {number}, " if s.processes else ""
        for vma in process.vmas:
            console.print(Text(f"  {whose}VMA {_extent(vma)}{' '.join(vma.flags) or 'no access'}", style="dim"))
    console.print(Text(f"  orders {', '.join(orders) or 'all never'}", style="dim"))
    if settings := _settings(s):
        console.print(Text(f"  {', '.join(settings)}", style="dim"))


def _map(console: Console, title: str, drawn: PageMap) -> None:
    console.print()
    console.print(Text.assemble((title, "bold"), f": {drawn.title}"))
    for row in draw(drawn.pages, drawn.first):
        console.print(Text("  " + row))
    for letter, meaning in drawn.legend:
        console.print(Text(f"    {letter}  {meaning}", style="dim"))


def _lines(console: Console, title: str, lines: list[str], otherwise: str) -> None:
    if not lines and not otherwise:
        return
    console.print()
    console.print(Text(title, style="bold"))
    for line in lines or [otherwise]:
        console.print(Text("  " + line), soft_wrap=True)


def _trace(r: Run) -> list[str]:
    lines = []
    for name, fields in r.world.system.machine.trace_events:
        named = [f"{field.label} has pfn {field.pfn:#x}" for field in fields if isinstance(field, Folio)]
        lines.append(trace_line(name, fields) + "".join(f"  # {each}" for each in named))
    return lines


def _result(r: Run) -> list[str]:
    if not r.applicable:
        return ["the variant does not do what the scenario asks for"]
    if r.outcome != "returned":
        return [r.outcome]
    if r.scenario.driver.kind is DriverKind.STEPS:
        return []
    lines = [r.result]
    if r.errno:
        lines.append(f"errno {r.errno}")
    if r.mmap_locked is not None:
        lines.append(f"*mmap_locked = {str(r.mmap_locked).lower()}")
    return lines


def _events(r: Run) -> list[str]:
    both = zip(r.scenario.events, r.events, strict=True)
    return [f"{event.op} before {event.before} number {event.nth}: {outcome}" for event, outcome in both]


def _counters(start: System, end: System) -> list[str]:
    lines: list[str] = []
    for title, old, new in _groups(start, end):
        values = [(name, old.get(name, 0), new.get(name, 0)) for name in sorted({*old, *new})]
        lines += [f"{title}{name}: {was} -> {now}" for name, was, now in values if was != now]
    return lines


def _groups(start: System, end: System) -> Iterator[tuple[str, Mapping[str, int], Mapping[str, int]]]:
    yield "", start.vm_events, end.vm_events
    yield "", _statistics(start), _statistics(end)
    yield "", start.node_stat, end.node_stat
    yield "", _khugepaged(start), _khugepaged(end)
    yield "memcg ", _memcg(start), _memcg(end)
    for number, mm in enumerate(end.mms):
        old = start.mms[number] if number < len(start.mms) else None
        yield f"{mm.name} ", {} if old is None else _of_mm(old._rss_stat, old._pgtables_bytes), _of_mm(mm._rss_stat, mm._pgtables_bytes)


def _statistics(this: System) -> dict[str, int]:
    """Per order, as under its sysfs directory."""
    kilobytes = this.machine.page_size >> 10
    return {f"hugepages-{kilobytes << order}kB/stats/{name}": n for (order, name), n in this.mthp_stats.items()}


def _khugepaged(this: System) -> dict[str, int]:
    return {"full_scans": this.khugepaged_scan._full_scans, "clock (ms)": this.clock_ms}


def _memcg(this: System) -> dict[str, int]:
    memcg = this.mms[0].memcg
    return {**memcg.events, "usage (pages)": memcg._usage}


def _of_mm(rss: list[int], pgtables: int) -> dict[str, int]:
    return {"MM_ANONPAGES": rss[0], "MM_SWAPENTS": rss[1], "pgtables_bytes": pgtables}


def _settings(s: Scenario) -> list[str]:
    """Everything else that is not at its default, as the file says it."""
    usual = Tunables.default(s.geometry)
    parts = ((s.tunables, usual), (s.config, Config()))
    odd = [
        f"{field.name} {_plain(getattr(part, field.name))}"
        for part, default in parts
        for field in attrs.fields(type(part))
        if field.name != "hugepages" and getattr(part, field.name) != getattr(default, field.name)
    ]
    if s.driver.passes > 1:
        odd.append(f"{s.driver.passes} passes")
    odd += [f"{name} {value}" for name, value, default in _surroundings(s) if value != default]
    return odd


def _surroundings(s: Scenario) -> tuple[tuple[str, object, object], ...]:
    return ("thp_disable", s.thp_disable, "no"), ("memcg_room", s.memcg_room, None), ("deposited", s.deposited, 0)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _extent(vma: Vma) -> str:
    """Which pages a VMA has, unless it is the table's."""
    if vma.start is None and not vma.before and not vma.after:
        return ""
    beyond = [f"{n} pages {where} the range" for n, where in ((vma.before, "before"), (vma.after, "after")) if n]
    return f"pages {vma.first} to {vma.end - 1}{''.join(f', {each}' for each in beyond)}: "
