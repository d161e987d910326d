"""Real processes and real kernels."""
