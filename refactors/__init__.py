"""The versions of the code that is judged: each module exports ``VARIANT``."""
