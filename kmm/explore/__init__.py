"""Who runs next: tasks, schedules, reduction, sampling, store buffers, replay."""

from kmm.explore.budget import Progress
from kmm.explore.explore import ExploreError, explore
from kmm.explore.machine import ExploringMachine
from kmm.explore.program import Body, NotDeterministic, Outcome, Program, World
from kmm.explore.replay import Replayed, replay, schedule_of
from kmm.explore.result import Exploration, Found
from kmm.explore.schedule import Deviation, Schedule, Step

__all__ = [
    "Body",
    "Deviation",
    "Exploration",
    "ExploreError",
    "ExploringMachine",
    "Found",
    "NotDeterministic",
    "Outcome",
    "Program",
    "Progress",
    "Replayed",
    "Schedule",
    "Step",
    "World",
    "explore",
    "replay",
    "schedule_of",
]
