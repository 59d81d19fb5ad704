"""What came of a recipe's variants, as values: for each output a table over the axes. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from lorapipe.recipe.model import JSON
from lorapipe.remote.url import Location

__all__ = ["Quantity", "Sweep", "SweepTable", "Unit", "Variant"]

Unit = str
"""``share`` (from 0 to 1), ``bytes``, ``count`` or ``number``: how a quantity is written."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is told of the variants: its name, which no other of the table has, and its unit."""

    name: str
    unit: Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One variant of an output: the values of the axes that it depends on, and what came of it.

    ``state`` says how it came: written, up to date, held back (by the checks in ``failed``), or what
    a run would do. A sweep that saves nothing has its checks in the outputs' place, which have no
    ``path``. ``figures`` maps names of the table's quantities to numbers; what was not told, or is
    not finite, is not in it. ``size`` is in bytes.
    """

    step: str
    values: Mapping[str, JSON]
    state: str
    path: Location | None = None
    size: int | None = None
    sha256: str | None = None
    failed: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class SweepTable:
    """All variants of one output of the recipe, by its id in the text, in the order of the matrix.

    ``axes`` are those that it depends on, with the values that occur, in their order.
    """

    written: str
    axes: Mapping[str, tuple[JSON, ...]]
    quantities: tuple[Quantity, ...]
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A recipe with a matrix and what came of it: its axes, and a table for each output.

    >>> one = Variant(step="o[rank=4]", values={"rank": 4}, state="written", size=10)
    >>> [row["rank"] for row in Sweep({"rank": (4,)}, (SweepTable("o", {"rank": (4,)}, (), (one,)),)).rows()]
    [4]
    """

    axes: Mapping[str, tuple[JSON, ...]]
    tables: tuple[SweepTable, ...]

    def rows(self) -> Iterator[dict[str, object]]:
        """Every variant of every output as one flat row, as data frames are made of.

        Its keys are ``output`` (the id in the text), the axes, ``state``, ``path``, ``size``,
        ``sha256`` and the names of the quantities; what a variant has not is ``None``.
        """
        names = dict.fromkeys(one.name for table in self.tables for one in table.quantities)
        for table in self.tables:
            for one in table.variants:
                told = {"state": one.state, "path": one.path, "size": one.size, "sha256": one.sha256}
                yield {
                    "output": table.written,
                    **dict.fromkeys(self.axes),
                    **one.values,
                    **told,
                    **{name: one.figures.get(name) for name in names},
                }

    def _repr_html_(self) -> str:
        """For a notebook: a row a variant."""
        from lorapipe.views.notebook import sweep_html

        return sweep_html(self)
