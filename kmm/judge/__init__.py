"""Is it the same: observe, relate, minimise, verdict."""
