"""The blocks of a family: the parts of its models that are weighed, ranked and shown apart.

A block is what a table's ``blocks`` calls one, as people who weigh LoRAs by block do
(``IN04``, ``MID``, ``D12``); else each numbered part of a model that holds modules, by its
last level and number (``blocks.7``, ``layers.3``). What stands outside of these is a block by
its first level in the main model (``img_in``, ``final_layer``), and one block of a text
encoder. Numbered and other blocks of all models but the main one begin with the component's
name (``te1.layers.3``), so that no two are called the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property

from lorapipe.architectures.index import Index
from lorapipe.architectures.table import Component, Row, Table

__all__ = ["Blocks", "numbered_part"]

_HOLE = re.compile(r"\{[^{}]+\}")
_NUMBERED = re.compile(r"(?:^|\.)[^.]*[^.{}\d][^.]*\.(?:\{[^{}]+\}|\d+)$")
_FIRST_NUMBER = re.compile(r"(?:^|\.)([^.]*[^.\d][^.]*\.\d+)(?=\.)")


class Blocks:
    """The blocks of one family; made of its table, names and modules when first asked for.

    ``lists`` are the lists of values that people write for the family, by length: the block
    that each value is for. ``presets`` are lists with a name. ``also`` maps further names to
    the blocks' own.
    """

    def __init__(self, table: Table, index: Index) -> None:
        self._table = table
        self._index = index
        self.lists: Mapping[int, tuple[str, ...]] = {len(names): names for names in table.block_lists}
        self.presets: Mapping[str, tuple[float, ...]] = table.block_presets
        self.also: Mapping[str, str] = table.block_names

    def of(self, component: str, key: str) -> str:
        """The block in which a module of the family is, by its key in the reference layout."""
        found = self._table.components[component]
        rest = key.removeprefix(found.prefix)
        for pattern, name in self._patterns[component]:
            match = pattern.match(rest)
            if match:
                number = "".join(match.groups()).zfill(2)
                return name.replace("{n}", number) if name else self._inside(component, match[0])
        return rest.partition(".")[0] if component == self._main else component

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All blocks in the order of the models."""
        modules = ((c, module.key) for c in self._table.components for module in self._index.modules(c))
        return tuple(dict.fromkeys(self.of(component, key) for component, key in modules))

    @property
    def _main(self) -> str:
        return next(iter(self._table.components))

    @cached_property
    def _patterns(self) -> dict[str, tuple[tuple[re.Pattern[str], str], ...]]:
        """Beginnings of keys with the block's name, or with none where the key has it."""
        return {name: tuple(self._beginnings(found)) for name, found in self._table.components.items()}

    def _beginnings(self, component: Component) -> Iterator[tuple[re.Pattern[str], str]]:
        for name, beginning in component.blocks.items():
            literal = re.escape(beginning).replace(re.escape("{n}"), r"(\d+)")
            yield re.compile(rf"{literal}(?:\.|$)" if beginning else ""), name
        for head in dict.fromkeys(_heads(self._table, component.rows, "")):
            literal = r"\d+".join(re.escape(text) for text in _HOLE.split(head))
            yield re.compile(rf"{literal}(?=\.)"), ""

    def _inside(self, component: str, head: str) -> str:
        name = ".".join(head.split(".")[-2:])
        return name if component == self._main else f"{component}.{name}"


def _heads(table: Table, rows: tuple[Row, ...], outer: str) -> Iterator[str]:
    """The beginnings of keys, with holes, of the outermost rows that are numbered and hold modules."""
    for row in rows:
        inner = row.modules if row.part is None else table.parts[row.part]
        if row.kind is not None:
            continue
        template = row.path if row.key is None else row.key
        head = f"{outer}.{template}" if outer and template else outer or template
        if _NUMBERED.search(head):
            yield head
        else:
            yield from _heads(table, inner, head)


def numbered_part(name: str) -> str:
    """The block of a module of no known family: its path's first number, and what is numbered.

    ``""`` where no part of the path is a number.

    >>> numbered_part("model.layers.3.self_attn.q_proj.weight"), numbered_part("lm_head.weight")
    ('layers.3', '')
    """
    found = _FIRST_NUMBER.search(name)
    return found[1] if found else ""
