"""Whole models: tensors with edits, made slab by slab, and their differences."""
