"""Hypothesis strategies for scenarios; what they draw is valid by construction.

Only booleans and ``sampled_from`` over short sequences are drawn from. Hypothesis collects constants of 100 and more from local
source and uses them wherever an integer, or an index, may take them: a longer sequence would make the inputs depend on the text of
the candidate.
"""

from __future__ import annotations

from kmm.scenario.strategies.disturbances import events, failures
from kmm.scenario.strategies.generation import generate, generate_systems
from kmm.scenario.strategies.memory import vmas
from kmm.scenario.strategies.pages import page_maps, page_states
from kmm.scenario.strategies.scenarios import GEOMETRIES, scenarios
from kmm.scenario.strategies.settings import configs, drivers, tunables
from kmm.scenario.strategies.systems import systems

__all__ = [
    "GEOMETRIES",
    "configs",
    "drivers",
    "events",
    "failures",
    "generate",
    "generate_systems",
    "page_maps",
    "page_states",
    "scenarios",
    "systems",
    "tunables",
    "vmas",
]
