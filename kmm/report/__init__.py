"""How results are shown: on a terminal, for now."""
