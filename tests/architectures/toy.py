"""Small tables of the tests' own."""

from __future__ import annotations

from lorapipe.architectures.expansion import Expansion, Leaf
from lorapipe.architectures.family import Family, build_family
from lorapipe.architectures.table import Table, parse_table

HEAD = """
title: Toy
source: this test
signs: [toy]
---
components:
  net:
    group: unet
    key: model
    wrappings: ['', 'wrapped.']
    folder: unet
    sizes: {d: 8}
    namings:
      kohya: {prefix: lora_unet_, separator: _}
      diffusers: {prefix: unet.}
      comfy: {prefix: diffusion_model., spells: key}
    modules:
"""


def toy(rows: str, tail: str = "", shared: dict[str, str] | None = None) -> Table:
    """A table of these rows, one component, and what follows it."""
    body = "".join(f"    {line}\n" for line in rows.strip().splitlines())
    return parse_table("toy", HEAD + body + tail, shared)


def toy_family(rows: str, tail: str = "", shared: dict[str, str] | None = None) -> Family:
    """The family of such a table, read whole."""
    known = build_family(toy(rows, tail, shared))
    known.check()
    return known


def expansion(rows: str, tail: str = "", shared: dict[str, str] | None = None) -> Expansion:
    table = toy(rows, tail, shared)
    return Expansion(table, table.components["net"])


def names(rows: str, side: str = "path", tail: str = "", shared: dict[str, str] | None = None) -> list[str]:
    """The names of a side that has them."""
    found = expansion(rows, tail, shared)
    return [name for name, on in zip(found.names(side), found.on(side), strict=True) if on]


def leaves(rows: str, tail: str = "") -> tuple[Leaf, ...]:
    return expansion(rows, tail).leaves
