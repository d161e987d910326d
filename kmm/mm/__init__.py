"""The port: one module per kernel file, kernel names verbatim."""
