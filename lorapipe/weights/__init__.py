"""The algebra: deltas, adapters, checkpoints and what is done to them; no files, no recipes."""
