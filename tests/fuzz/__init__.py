"""Inputs without end for the readers of strangers' files; ``python -m tests.fuzz --help``."""
