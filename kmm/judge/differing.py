"""In what two observations differ."""

from __future__ import annotations

from kmm.judge.observe import OBSERVABLES, Observation


def hangs(o: Observation) -> bool:
    """The task used up its budget."""
    return o.outcome.startswith("HANG")


def differing(a: Observation, b: Observation) -> tuple[str, ...]:
    """Names of the observables that differ. Two runs that both hang are alike: where a budget cuts a run shows nothing."""
    if a.canonical() == b.canonical() or (hangs(a) and hangs(b)):
        return ()
    return tuple(name for name in OBSERVABLES if repr(getattr(a, name)) != repr(getattr(b, name)))
