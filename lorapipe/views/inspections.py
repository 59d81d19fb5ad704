"""Several files of weights beside each other, as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lorapipe.views.tables import family_text, headed_table, rank_text
from lorapipe.views.text import bytes_text, visible
from lorapipe.weights.figures import pooled
from lorapipe.weights.specs import AdapterSpec

if TYPE_CHECKING:
    from lorapipe.build.looking.inspecting import Look

__all__ = ["inspections_table"]


def inspections_table(looks: Iterable[Look]) -> Table:
    """A row a file: what it holds, and of a LoRA that is measured the figures of all of it together.

    ``r99`` is the least rank that keeps 99 % of its squared norm when every module is cut to it.
    """
    table = headed_table("file", "size", "holds", "family", "norm", "stable", "r99")
    for column in table.columns[4:]:
        column.justify = "right"
    for look in looks:
        found, spec = look.inspection, look.inspection.spec
        if isinstance(spec, AdapterSpec):
            holds = f"{len(spec.modules)} modules, {rank_text(spec)}"
        else:
            holds = f"{len(spec.tensors)} tensors"
        cells = [found.path.name, bytes_text(found.size), holds, family_text(spec.family), *_figures(look)]
        table.add_row(*(Text(visible(cell)) for cell in cells))
    return table


def _figures(look: Look) -> tuple[str, str, str]:
    if look.trouble is not None:
        return ("not measured", "", "")
    if not look.figures:
        return ("", "", "")
    whole = pooled(look.figures.values())
    return f"{whole.norm:.4g}", f"{whole.stable_rank:.3g}", str(whole.rank_for(0.99))
