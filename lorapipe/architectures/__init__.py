"""Architectures as data: which module a name means, and where a checkpoint keeps it."""

from __future__ import annotations

from lorapipe.architectures.blocks import Blocks, numbered_part
from lorapipe.architectures.catalogue import families, family, titles
from lorapipe.architectures.family import Family
from lorapipe.architectures.grouping import block_of, by_block
from lorapipe.architectures.recognise import (
    Recognised,
    nearest,
    other_families,
    recognise_adapter,
    recognise_checkpoint,
)
from lorapipe.architectures.target import Target

__all__ = [
    "Blocks",
    "Family",
    "Recognised",
    "Target",
    "block_of",
    "by_block",
    "families",
    "family",
    "nearest",
    "numbered_part",
    "other_families",
    "recognise_adapter",
    "recognise_checkpoint",
    "titles",
]
