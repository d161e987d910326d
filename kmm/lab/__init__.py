"""Proposals: patches, series of them, the review that they come from."""
