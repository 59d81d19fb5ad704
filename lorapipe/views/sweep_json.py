"""What came of a sweep, as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lorapipe.build.sweep import Sweep, SweepTable
from lorapipe.remote.url import Location
from lorapipe.views.text import path_text

__all__ = ["sweep_json"]


def sweep_json(sweep: Sweep, folder: Path | None) -> dict[str, Any]:
    """A JSON-ready dict; sizes in bytes, paths as seen from ``folder``, or absolute without one."""
    return {
        "axes": {axis: list(values) for axis, values in sweep.axes.items()},
        "outputs": [_table(table, folder) for table in sweep.tables],
    }


def _table(table: SweepTable, folder: Path | None) -> dict[str, Any]:
    return {
        "step": table.written,
        "axes": list(table.axes),
        "figures": {quantity.name: quantity.unit for quantity in table.quantities},
        "variants": list(_variants(table, folder)),
    }


def _variants(table: SweepTable, folder: Path | None) -> Iterator[dict[str, Any]]:
    for one in table.variants:
        yield {
            "step": one.step,
            "values": dict(one.values),
            "state": one.state,
            "path": _path(one.path, folder),
            "size": one.size,
            "sha256": one.sha256,
            "failed": list(one.failed),
            "figures": dict(one.figures),
        }


def _path(path: Location | None, folder: Path | None) -> str | None:
    return None if path is None else str(path) if folder is None else path_text(path, folder)
