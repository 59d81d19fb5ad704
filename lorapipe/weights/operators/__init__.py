"""Adapters that are a function of the weight: what they make of it, one module each."""
