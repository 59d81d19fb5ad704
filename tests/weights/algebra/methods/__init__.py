"""The methods of ``combine``, against other programs and against their papers' formulas."""
