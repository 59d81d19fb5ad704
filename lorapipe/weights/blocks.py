"""How much of a tensor is worked on at a time: the same on every machine."""

from __future__ import annotations

__all__ = ["BLOCK_ELEMENTS", "OPERATED_ELEMENTS", "SLAB_ELEMENTS"]

BLOCK_ELEMENTS = 2**19
"""Elements summed at a time: 4 MiB in float64, which a core's cache holds (2**22 took 1.7
times the time). A product's last bits can depend on how many rows it has, so the size is
the same on every machine."""

SLAB_ELEMENTS = 2**23
"""Elements of a slab, whole blocks each: one worker's errand, and what it holds in memory."""

OPERATED_ELEMENTS = 2**21
"""Elements of a slab of a weight on which an operator works, unless it has to see more at
once: what it makes of them is held beside them, in the compute type, and products of both."""
