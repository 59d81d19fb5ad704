"""Checked nodes to the values that the rest of lorapipe works with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lorapipe.recipe.expansion import Expanded
from lorapipe.recipe.holes import Value
from lorapipe.recipe.language import Language, Option
from lorapipe.recipe.matrix import Matrix
from lorapipe.recipe.model import JSON, Recipe, Step, Term
from lorapipe.recipe.nodes import MapNode, Node, Scalar, to_json
from lorapipe.recipe.references import references
from lorapipe.recipe.schemas import Schema
from lorapipe.recipe.sizes import size_in_bytes
from lorapipe.recipe.source import Source

__all__ = ["assemble", "canonical"]


def assemble(
    root: MapNode,
    steps: Sequence[Expanded],
    values: Mapping[str, Value],
    matrix: Matrix,
    language: Language,
    source: Source,
) -> Recipe:
    """The recipe of nodes in which nothing is wrong."""
    defaults = language.top["properties"]["defaults"]
    given = root.get("defaults")
    own = {name: one["default"] for name, one in defaults["properties"].items() if "default" in one}
    written = canonical(to_json(given), defaults) if given is not None else {}
    return Recipe(
        file=source.file,
        name=_text(root.get("name")),
        params=MappingProxyType({name: value.value for name, value in values.items()}),
        defaults=MappingProxyType({**own, **(written if isinstance(written, dict) else {})}),
        steps=MappingProxyType({step.id: _step(step, source) for step in steps}),
        description=_text(root.get("description")),
        extensions=MappingProxyType(
            {entry.name: to_json(entry.value) for entry in root.entries if entry.name.startswith("x-")}
        ),
        matrix=MappingProxyType({a: tuple(v.value for v in found) for a, found in matrix.axes.items()}),
        variants=tuple(map(_plain, matrix.variants)) if matrix.axes else (),
    )


def canonical(value: JSON, schema: Schema) -> JSON:
    """``value`` in the one form that equal recipes share, so that their keys are equal.

    Where a whole number is due, ``4.0`` and ``1e3`` are the integers 4 and 1000; where
    any number is due, ``1`` is 1.0 and ``-0.0`` is 0.0. A map whose order counts
    (``x-ordered``) is a list of maps of one key: keys sort maps. A size (``x-unit: bytes``) is a
    number of bytes, however it is written.
    """
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        others = others if isinstance(others, dict) else {}
        found = {key: canonical(one, known.get(key, others)) for key, one in value.items()}
        return [{key: one} for key, one in found.items()] if schema.get("x-ordered") else found
    if isinstance(value, list):
        items = schema.get("items", {})
        return [canonical(one, items) for one in value]
    if isinstance(value, str):
        return size_in_bytes(value) if schema.get("x-unit") == "bytes" else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    types = schema.get("type", ())
    types = (types,) if isinstance(types, str) else types
    if "number" in types:
        return float(value) + 0.0
    return int(value) if "integer" in types else value


def _plain(values: Mapping[str, Value]) -> Mapping[str, JSON]:
    return MappingProxyType({axis: value.value for axis, value in values.items()})


def _step(step: Expanded, source: Source) -> Step:
    draft = step.draft
    options = draft.kind.options
    written = {entry.name: entry.value for entry in draft.node.entries}
    inputs: dict[str, list[Term]] = {}
    for reference in references(draft):
        weight: Any = 1.0 if reference.weight is None else to_json(reference.weight)
        place = source.place(reference.step.span)
        inputs.setdefault(reference.port, []).append(
            Term(step.inputs[reference.step.text], float(weight) + 0.0, place)
        )
    given = {name: _value(written[name], options[name]) for name in draft.kind.params if name in written}
    params = {
        name: given.get(name, options[name].default)
        for name in draft.kind.params
        if name in given or "default" in options[name].schema
    }
    return Step(
        id=step.id,
        written=draft.id,
        kind=draft.kind.name,
        inputs=MappingProxyType({port: tuple(terms) for port, terms in inputs.items()}),
        params=MappingProxyType(params),
        place=source.place(draft.key.span),
        places=MappingProxyType({name: source.place(node.span) for name, node in written.items()}),
        description=_text(written.get("description")),
        axes=_plain(step.axes),
    )


def _value(node: Node, option: Option) -> JSON:
    """An option's value, without the steps that it names: these are inputs."""
    value = canonical(to_json(node), option.schema)
    if not isinstance(value, dict):
        return value
    return {key: one for key, one in value.items() if key not in option.inner}


def _text(node: Node | None) -> str | None:
    return str(node.value) if isinstance(node, Scalar) and isinstance(node.value, str) else None
