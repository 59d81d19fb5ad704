"""Folders of weights as one source: what counts in them, and how they are written."""
