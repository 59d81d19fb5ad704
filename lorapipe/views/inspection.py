"""What is in a file of weights, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorapipe.formats.inspection import Inspection
from lorapipe.views.tables import family_text, module_table, print_table, rank_text
from lorapipe.views.text import bytes_text, visible
from lorapipe.weights.specs import AdapterSpec

__all__ = ["inspection_json", "print_inspection"]

_NAMES = 32
"""Columns of a terminal for what a fact is called; a longer name is wrapped."""

_LONG_NAME, _LONG = 80, 200
"""Metadata longer than this is cut: a training log is not one screen."""


def inspection_json(found: Inspection, modules: bool = False) -> dict[str, Any]:
    """The inspection as a JSON-ready dict; metadata whole."""
    spec = found.spec
    told: dict[str, Any] = {
        "file": found.path.name,
        "size": found.size,
        "type": "lora" if isinstance(spec, AdapterSpec) else "checkpoint",
        "family": spec.family,
        "dtypes": dict(sorted(found.dtypes.items())),
        "metadata": dict(sorted(found.metadata.items())),
    }
    if isinstance(spec, AdapterSpec):
        ranks = Counter(module.rank for module in spec.modules.values())
        told["modules"] = len(spec.modules)
        told["extras"] = list(spec.extras)
        told["components"] = dict(sorted(Counter(m.component for m in spec.modules).items()))
        told["formats"] = dict(sorted(found.forms.items()))
        told["scales"] = dict(sorted(found.scales.items()))
        told["ranks"] = {str(rank): count for rank, count in sorted(ranks.items())}
        if modules:
            told["module_list"] = [
                {
                    "name": module.spelling.stem,
                    "key": name.key,
                    "rows": list(name.rows) if name.rows else None,
                    "shape": list(module.shape),
                    "rank": module.rank,
                    "format": "LoRA" if module.form is None else module.form.name,
                }
                for name, module in spec.modules.items()
            ]
    else:
        told["tensors"] = len(spec.tensors)
    return told


def print_inspection(found: Inspection, modules: bool = False, console: Console | None = None) -> None:
    """Print one screen: what the file is, then its metadata."""
    console = console or Console(highlight=False)
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="bold", overflow="fold", max_width=_NAMES if console.is_terminal else None)
    grid.add_column(overflow="fold")
    for name, value in _facts(found):
        grid.add_row(name, Text(visible(value)))
    for name, value in sorted(found.metadata.items()):
        cells = (visible(_cut(name, _LONG_NAME)), visible(_cut(value, _LONG)))
        grid.add_row(*(Text(cell, style="dim") for cell in cells))
    print_table(grid, console)
    if modules and isinstance(found.spec, AdapterSpec):
        console.print()
        print_table(module_table(found.spec.modules.items()), console)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def _facts(found: Inspection) -> list[tuple[str, str]]:
    spec = found.spec
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in sorted(found.dtypes.items()))
    file = ("file", f"{found.path.name}, {bytes_text(found.size)}")
    family = ("family", "unknown" if spec.family is None else f"{family_text(spec.family)} ({spec.family})")
    if not isinstance(spec, AdapterSpec):
        return [file, ("holds", "a checkpoint"), family, ("tensors", dtypes)]
    components = Counter(module.component or "of no known model" for module in spec.modules)
    counted = ", ".join(f"{count} {name}" for name, count in sorted(components.items()))
    facts = [
        file,
        ("holds", f"a LoRA, {rank_text(spec)}"),
        family,
        ("modules", f"{len(spec.modules)}: {counted}"),
        ("tensors", dtypes),
    ]
    # Nearly all files are LoRAs with alphas, of which there is nothing to tell.
    if set(found.forms) != {"LoRA"}:
        facts.append(("formats", _counted(found.forms)))
    if set(found.scales) != {"alpha in the file"}:
        facts.append(("strength", _counted(found.scales)))
    return [*facts, ("extras", ", ".join(spec.extras))] if spec.extras else facts


def _counted(counts: Mapping[str, int]) -> str:
    """``720 LoRA, 2 DoRA``: the most first; a single one without its number."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(
        f"{n} {name}" for name, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    )
