"""What is in a file of weights, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorapipe.formats.inspection import Inspection
from lorapipe.views.tables import module_table, print_table, rank_text
from lorapipe.views.text import bytes_text, visible
from lorapipe.weights.specs import AdapterSpec

__all__ = ["inspection_json", "print_inspection"]

_LONG = 200
"""Metadata values longer than this are cut: a training log is not one screen."""


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
        told["components"] = dict(sorted(Counter(m.component for m in spec.modules).items()))
        told["ranks"] = {str(rank): count for rank, count in sorted(ranks.items())}
        if modules:
            told["module_list"] = [
                {
                    "name": module.spelling.stem,
                    "key": name.key,
                    "rows": list(name.rows) if name.rows else None,
                    "shape": list(module.shape),
                    "rank": module.rank,
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
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in _facts(found):
        grid.add_row(name, Text(visible(value)))
    for name, value in sorted(found.metadata.items()):
        cut = value if len(value) <= _LONG else f"{value[:_LONG]}... ({len(value)} characters)"
        grid.add_row(Text(visible(name), style="dim"), Text(visible(cut), style="dim"))
    print_table(grid, console)
    if modules and isinstance(found.spec, AdapterSpec):
        print_table(module_table(found.spec.modules.items()), console)


def _facts(found: Inspection) -> list[tuple[str, str]]:
    spec = found.spec
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in sorted(found.dtypes.items()))
    facts = [("file", found.path.name), ("size", bytes_text(found.size)), ("tensors", dtypes)]
    family = spec.family or "unknown"
    if not isinstance(spec, AdapterSpec):
        return [("what", "checkpoint"), ("family", family), *facts]
    components = Counter(module.component or "unbound" for module in spec.modules)
    counted = ", ".join(f"{count} {name}" for name, count in sorted(components.items()))
    return [
        ("what", f"LoRA, {rank_text(spec)}"),
        ("family", family),
        ("modules", f"{len(spec.modules)} ({counted})"),
        *facts,
    ]
