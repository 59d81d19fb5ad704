"""Modules put in order, by model and block, as people who look at weights want to see them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol, TypeVar

from lorapipe.architectures.blocks import numbered_part
from lorapipe.architectures.catalogue import family

__all__ = ["block_of", "by_block"]

_NUMBER = re.compile(r"(\d+)")


class Named(Protocol):
    """A module by its component, its key in the reference layout and its rows, such as ``ModuleId``."""

    @property
    def component(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def rows(self) -> tuple[int, int] | None: ...


M = TypeVar("M", bound=Named)


def block_of(known: str | None, module: Named) -> str:
    """The block of a module of a family; of an unknown one the numbered part of its path, or ``""``."""
    if known is None or not module.component:
        return numbered_part(module.key)
    return family(known).blocks.of(module.component, module.key)


def by_block(known: str | None, modules: Iterable[M]) -> dict[tuple[str, str], tuple[M, ...]]:
    """The modules of each ``(component, block)``, all in the order of the family's models.

    ``known`` is the family's name. Of an unknown family, and of modules whose component is
    ``""``, the order is that of their keys, in which 2 comes before 10.
    """
    order = {} if known is None else _order(known)
    ordered = sorted(modules, key=lambda m: (order.get(m.key, len(order)), _natural(m.key), m.rows or (0, 0)))
    blocks = {} if known is None else {name: place for place, name in enumerate(family(known).blocks.names)}
    found: dict[tuple[str, str], list[M]] = {}
    for module in ordered:
        found.setdefault((module.component, block_of(known, module)), []).append(module)
    models = () if known is None else family(known).components

    def place(pair: tuple[str, str]) -> tuple[int, int]:
        model = models.index(pair[0]) if pair[0] in models else len(models)
        return model, blocks.get(pair[1], len(blocks))

    # A stable sort: where no place is known, the order of the keys stays.
    return {pair: tuple(found[pair]) for pair in sorted(found, key=place)}


def _order(known: str) -> dict[str, int]:
    """The place of each reference key in the family's models; of a bias, that of its weight."""
    order: dict[str, int] = {}
    for target in family(known).targets():
        place = order.setdefault(target.key, len(order))
        if target.bias is not None:
            order.setdefault(target.bias.key, place)
    return order


def _natural(key: str) -> tuple[tuple[int, str], ...]:
    """Numbers as numbers: ``layers.2`` before ``layers.10``."""
    parts = _NUMBER.split(key)
    return tuple((int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts))
