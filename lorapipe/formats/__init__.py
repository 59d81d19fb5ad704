"""Files <-> weights: containers read by offset and written as streams, and what their names mean."""
