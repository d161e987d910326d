"""Pieces of khugepaged as plain functions, for tools that compare plain functions."""
