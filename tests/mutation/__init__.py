"""Mutation testing of the port: ``make mutation`` (docs/mutation.md)."""
