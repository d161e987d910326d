"""The documentation, and the extension that builds a part of it from the code."""
