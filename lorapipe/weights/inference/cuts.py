"""Where the rows of an operator's weight may be parted, each part on its own.

A DoRA along the output axis looks at one row at a time, an OFT at blocks of rows, a DoRA
along the input axis at all of them. What may be parted can be merged into q, k and v that
a checkpoint keeps apart, and be taken slab by slab.

Cuts are runs of rows, one after the other, each ``(height, step)``: it may be cut at
every ``step``-th row of its own, and at its ends. A last run of height 0 goes on to the
end of the weight, whose height its format does not tell.
"""

from __future__ import annotations

__all__ = ["ANYWHERE", "NOWHERE", "Cuts", "can_cut", "coarsest", "part"]

Cuts = tuple[tuple[int, int], ...]

NOWHERE: Cuts = ()
"""The weight is one."""

ANYWHERE: Cuts = ((0, 1),)
"""Each row is on its own."""


def can_cut(cuts: Cuts, row: int) -> bool:
    """Whether the rows before ``row`` and those from it on are parts; 0 is no cut at all.

    >>> [can_cut(((6, 2), (4, 4)), row) for row in (0, 2, 3, 6, 8, 10)]
    [True, True, False, True, False, True]
    """
    first = 0
    for height, step in cuts:
        if row <= first + height or not height:
            return (row - first) % step == 0
        first += height
    return row == 0


def part(cuts: Cuts, start: int, stop: int) -> Cuts:
    """The cuts of rows ``[start, stop)``, which are a part.

    >>> part(((6, 2), (4, 4)), 2, 10)
    ((4, 2), (4, 4))
    >>> part(ANYWHERE, 3, 7)
    ((4, 1),)
    """
    found = []
    first = 0
    for height, step in cuts:
        last = first + height if height else stop
        held = min(last, stop) - max(first, start)
        if held > 0:
            found.append((held, step))
        first = last
    return tuple(found)


def coarsest(cuts: Cuts, height: int) -> int:
    """The most rows that have to be taken together, of ``height``."""
    return min(max((step for _, step in cuts), default=height), height)
