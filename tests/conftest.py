"""Settings for every test: Hypothesis is deterministic, so that a failure is the same everywhere."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("kmm", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kmm")
