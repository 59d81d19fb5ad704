"""Plan -> files: the executor, its engines, the outputs and the events it tells of."""
