"""Architectures as data: which module a name means, and where a checkpoint keeps it."""

from __future__ import annotations

from lorapipe.architectures.family import Family, families, family
from lorapipe.architectures.target import Target

__all__ = ["Family", "Target", "families", "family"]
