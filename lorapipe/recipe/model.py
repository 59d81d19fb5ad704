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

    A step that depends on axes of a matrix stands once for each combination of their values, under
    an id of its own (``small[rank=8]``). ``written`` is the id in the text, ``axes`` maps those axes to
    their values; without axes the two ids are one.
    """

    id: str
    written: str
    kind: str
    inputs: Mapping[str, tuple[Term, ...]]
    params: Mapping[str, JSON]
    place: Place
    places: Mapping[str, Place]
    description: str | None = None
    axes: Mapping[str, JSON] = field(default_factory=lambda: MappingProxyType({}))

    def terms(self) -> Iterator[Term]:
        for terms in self.inputs.values():
            yield from terms


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe ready to be planned: every reference resolved, no cycle.

    ``file`` is the path as the user gave it. ``params`` are the values in force,
    ``--set`` applied; ``defaults`` the recipe's ``defaults:`` with the schema's own.

    ``matrix`` maps each axis to its values in order, ``variants`` are the combinations of them that
    the recipe is made for, in order; both are empty without a matrix. ``steps`` hold every variant of
    a step (:class:`Step`), a variant's steps together.
    """

    file: str
    name: str | None
    params: Mapping[str, JSON]
    defaults: Mapping[str, JSON]
    steps: Mapping[str, Step]
    description: str | None = None
    extensions: Mapping[str, JSON] = field(default_factory=lambda: MappingProxyType({}))
    matrix: Mapping[str, tuple[JSON, ...]] = field(default_factory=lambda: MappingProxyType({}))
    variants: tuple[Mapping[str, JSON], ...] = ()
