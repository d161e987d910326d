"""What mm stands on: one run's machine, its access primitives, locks, RCU, TLBs, tracepoints and sanitizers."""

from typing import Final

ACCESS_VERSION: Final = 1
"""Version of the interface through which kernel code reaches shared state."""
