"""What of the documentation is made at build time: tables of the format, the index of the port, the reader's own C beside it."""
