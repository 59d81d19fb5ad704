"""From an adapter's modules to a file that a program reads: names, rows, formats, metadata."""
