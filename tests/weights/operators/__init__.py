"""Operators against their definitions, written out in loops over float64 numbers."""
