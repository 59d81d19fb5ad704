"""Numbers by block: what a recipe says of a family's blocks, and what that means to a LoRA's modules.

A block is named, or a glob matches several; a list gives a number to each block that lists of
its length are for; a preset is such a list with a name. See
:mod:`lorapipe.architectures.blocks` for what the blocks are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import cast

from lorapipe.architectures import block_of, family
from lorapipe.errors import RecipeError
from lorapipe.recipe.model import JSON
from lorapipe.recipe.suggest import did_you_mean
from lorapipe.weights.specs import AdapterSpec, ModuleId

__all__ = ["BlockNumbers", "FamilyBlocks", "family_blocks", "read_blocks"]

_DEFAULT, _LIST, _PRESET = "default", "list", "preset"
_OWN = (_DEFAULT, _LIST, _PRESET)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z")


@dataclass(frozen=True, slots=True)
class FamilyBlocks:
    """The blocks that a recipe may name for a LoRA. ``title`` is what people call its family.

    ``lists``, ``presets`` and ``also``: see :class:`~lorapipe.architectures.Blocks`. ``option``
    is where errors are placed.
    """

    title: str
    names: tuple[str, ...]
    option: str
    lists: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    presets: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    also: Mapping[str, str] = field(default_factory=dict)

    def meant(self, name: str) -> tuple[str, ...]:
        """The blocks that a name or a glob means. Raises :class:`RecipeError` ``unknown-block``."""
        known = self.also.get(name, name)
        if known in self.names:
            return (known,)
        found = tuple(block for block in self.names if fnmatchcase(block, name))
        if found:
            return found
        near = did_you_mean(name, self.names, self.also)
        blocks = f"its blocks are {', '.join(_in_short(self.names))}" if self.names else _NO_BLOCKS
        hint = blocks if near is None else f"{near} {blocks}"
        raise RecipeError(
            "unknown-block", f"{self.title} has no block '{name}'", hint=hint, option=self.option
        )

    def listed(self, values: Sequence[float]) -> dict[str, float]:
        """The number of each block in a list. Raises :class:`RecipeError` ``bad-list``."""
        if len(values) in self.lists:
            return dict(zip(self.lists[len(values)], values, strict=True))
        hint = "name the blocks in a map, such as {OUT03: 0.5}"
        if self.names and not self.lists:
            hint = f"name the blocks in a map: {', '.join(_in_short(self.names))}"
        if self.lists:
            lengths = (f"{n} ({', '.join(_in_short(names))})" for n, names in sorted(self.lists.items()))
            hint = f"a list has {', or '.join(lengths)} numbers"
        message = f"there is no list of {len(values)} numbers for the blocks of {self.title}"
        raise RecipeError("bad-list", message, hint=hint, option=self.option)

    def preset(self, name: str) -> dict[str, float]:
        """The number of each block in a preset. Raises :class:`RecipeError` ``unknown-preset``."""
        if name in self.presets:
            return self.listed(self.presets[name])
        near = did_you_mean(name, self.presets)
        known = f"known are {', '.join(self.presets)}" if self.presets else "a list or a map says the same"
        message = f"{self.title} has no preset '{name}' for its blocks"
        raise RecipeError("unknown-preset", message, hint=near or known, option=self.option)


_NO_BLOCKS = "none of its names has a number between dots: say `family:` on the step that loads it"


def family_blocks(spec: AdapterSpec, option: str) -> FamilyBlocks:
    """The blocks of a LoRA's family; of an unknown one those that the LoRA itself has."""
    if spec.family is None:
        found = dict.fromkeys(block_of(None, module) for module in spec.modules)
        return FamilyBlocks("a LoRA of unknown family", tuple(name for name in found if name), option)
    known = family(spec.family)
    blocks = known.blocks
    return FamilyBlocks(known.title, blocks.names, option, blocks.lists, blocks.presets, blocks.also)


@dataclass(frozen=True, slots=True)
class BlockNumbers:
    """A number for each block that is named. ``default`` is that of the others, if one is said.

    ``listed`` says that the numbers came as a list: then it is to be said what becomes of blocks
    that the list leaves out, since programs differ in it.
    """

    option: str
    named: Mapping[str, float]
    default: float | None = None
    listed: bool = False

    def spread(
        self, spec: AdapterSpec, default: float | None = None, hint: str = "say it with a default"
    ) -> dict[ModuleId, float]:
        """The number of each module; ``default`` where nothing is said.

        Raises :class:`RecipeError` ``blocks-left-out``, with the remedy ``hint``, where that is ``None``.
        """
        rest = default if self.default is None else self.default
        blocks = {module: block_of(spec.family, module) for module in spec.modules}
        left = dict.fromkeys(block for block in blocks.values() if block not in self.named)
        if left and rest is None:
            known = family_blocks(spec, self.option).names
            ordered = [block for block in known if block in left] or ["blocks without a name"]
            raise RecipeError(
                "blocks-left-out",
                f"'{self.option}' says nothing of {', '.join(_in_short(ordered))}, which the LoRA has",
                hint=hint,
                option=self.option,
            )
        return {module: self.named.get(block, cast("float", rest)) for module, block in blocks.items()}


def read_blocks(spec: AdapterSpec, said: JSON, option: str) -> BlockNumbers:
    """What a recipe says of blocks: a map of them, a list, the same as text, or a preset's name.

    In a map ``default`` is the number of blocks that are not named, ``list`` and ``preset`` give
    numbers that the named ones replace. A name is nearer than a glob.

    Raises :class:`RecipeError`: ``unknown-block``, ``block-twice``, ``bad-list``, ``unknown-preset``.
    """
    known = family_blocks(spec, option)
    if not isinstance(said, dict):
        return BlockNumbers(option, _from_list(known, said), listed=True)
    lists = [said[key] for key in (_LIST, _PRESET) if key in said]
    named: dict[str, float] = {}
    for one in lists:
        named |= _from_list(known, one)
    own = {name: float(cast("float", value)) for name, value in said.items() if name not in _OWN}
    named |= _from_names(known, own)
    default = said.get(_DEFAULT)
    other = None if default is None else float(cast("float", default))
    return BlockNumbers(option, named, other, listed=bool(lists))


def _from_list(known: FamilyBlocks, said: JSON) -> dict[str, float]:
    if isinstance(said, list):
        return known.listed([float(cast("float", value)) for value in said])
    text = str(said)
    return known.listed(_numbers(text, known.option)) if "," in text else known.preset(text.strip())


def _numbers(text: str, option: str) -> list[float]:
    parts = [part.strip() for part in text.strip(" []").split(",")]
    wrong = next((part for part in parts if not _NUMBER.match(part)), None)
    if wrong is not None:
        message = f"'{wrong}' in the list is no number"
        raise RecipeError("bad-list", message, hint="such as 1,0,0.5", option=option)
    return [float(part) for part in parts]


def _from_names(known: FamilyBlocks, said: Mapping[str, float]) -> dict[str, float]:
    globbed: dict[str, float] = {}
    named: dict[str, float] = {}
    by: dict[str, str] = {}
    for name, value in said.items():
        blocks = known.meant(name)
        if blocks in ((name,), (known.also.get(name),)):
            named[blocks[0]] = value
            continue
        for block in blocks:
            if block in by and globbed[block] != value:
                raise RecipeError(
                    "block-twice",
                    f"'{by[block]}' and '{name}' both match the block {block}",
                    hint=f"name {block} itself, which counts before either",
                    option=known.option,
                )
            globbed[block], by[block] = value, name
    return {**globbed, **named}


def _in_short(names: Sequence[str]) -> list[str]:
    """The names in order, ``IN04 to IN08`` for a run of them.

    >>> _in_short(["BASE", "IN04", "IN05", "IN06", "MID", "blocks.9", "blocks.10"])
    ['BASE', 'IN04 to IN06', 'MID', 'blocks.9', 'blocks.10']
    """
    runs: list[list[str]] = []
    for before, name in pairwise(["", *names]):
        if runs and _follows(before, name):
            runs[-1].append(name)
        else:
            runs.append([name])
    return [part for run in runs for part in (run if len(run) < 3 else [f"{run[0]} to {run[-1]}"])]


def _follows(before: str, name: str) -> bool:
    stem, other = before.rstrip("0123456789"), name.rstrip("0123456789")
    first, second = before[len(stem) :], name[len(other) :]
    return stem == other and bool(first and second) and int(second) == int(first) + 1
