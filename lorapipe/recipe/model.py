"""A validated recipe as values: what was written, without the YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from lorapipe.errors import Place

__all__ = ["JSON", "Recipe", "Step", "Term"]

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]
"""A scalar, list or map as a recipe writes it, holes filled in."""


@dataclass(frozen=True, slots=True)
class Term:
    """One input of a step: another step's id and its weight (1.0 unless given)."""

    step: str
    weight: float
    place: Place


@dataclass(frozen=True, slots=True)
class Step:
    """One step after interpolation and defaults.

    ``inputs`` maps each port that the kind's schema declares to its terms, in the
    order written (it decides the rank order); a port that takes one step has one
    term of weight 1.0. ``params`` holds every other option of the schema, canonical
    (``4.0`` is the integer 4 where an integer is due), defaults filled in; options
    without default that were not given are absent. ``places`` maps an option's name
    (the kind's own key included) to where its value stands, and ``place`` is where
    the step's id stands.
    """

    id: str
    kind: str
    inputs: Mapping[str, tuple[Term, ...]]
    params: Mapping[str, JSON]
    place: Place
    places: Mapping[str, Place]
    description: str | None = None

    def terms(self) -> Iterator[Term]:
        for terms in self.inputs.values():
            yield from terms


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe ready to be planned: every reference resolved, no cycle.

    ``file`` is the path as the user gave it. ``params`` are the values in force,
    ``--set`` applied; ``defaults`` the recipe's ``defaults:`` with the schema's own.
    """

    file: str
    name: str | None
    params: Mapping[str, JSON]
    defaults: Mapping[str, JSON]
    steps: Mapping[str, Step]
    description: str | None = None
    extensions: Mapping[str, JSON] = field(default_factory=lambda: MappingProxyType({}))
