"""Intended differences that stand beside the variant, so that its file is the patch and nothing else."""
