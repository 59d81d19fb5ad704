"""Where a recipe stands, as one table and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from lorapipe.views.tables import headed_table, print_table
from lorapipe.views.text import bytes_text, path_text, visible

if TYPE_CHECKING:
    from lorapipe.build.proving.status import Row, Standing

__all__ = ["print_status", "status_json"]

_STYLES = {
    "ok": "green",
    "up to date": "green",
    "in the store": "cyan",
    "in the shared store": "cyan",
    "not needed": "dim",
    "changed": "red",
    "missing": "red",
    "changed since built": "red",
    "not lorapipe's": "red",
}


def print_status(standing: Standing, folder: Path, console: Console) -> None:
    """A row a step, with the sha256 that the lock has; below, what else is not as the lock has it."""
    drawn = headed_table("step", "", "file", "size", "locked", "since the lock")
    for row in standing.rows:
        word = "" if row.state is None else row.state.value
        drawn.add_row(
            Text(row.step, style="bold"),
            Text(word, style=_STYLES.get(word, "")),
            Text("" if row.path is None else visible(path_text(row.path, folder))),
            Text("" if row.size is None else bytes_text(row.size)),
            Text("" if row.locked is None else row.locked[:12]),
            Text("\n".join(visible(word) for word in row.since)),
        )
    print_table(drawn, console)
    for line in _notes(standing):
        console.print(Text(visible(line)), soft_wrap=True)


def _notes(standing: Standing) -> list[str]:
    if not standing.locked:
        return ["no lock: 'lorapipe run' writes it, and so does 'lorapipe lock' without building"]
    if standing.drift is None:
        return []
    gone = standing.drift.steps.keys() - {row.step for row in standing.rows}
    lines = [*standing.drift.settings, *standing.drift.machine]
    lines += [f"step {step}: {word}" for step in sorted(gone) for word in standing.drift.steps[step]]
    return [f"since the lock: {line}" for line in lines]


def status_json(standing: Standing, folder: Path) -> dict[str, Any]:
    """A JSON-ready dict; paths are relative to ``folder`` where they are in it, sizes in bytes."""
    return {
        "version": 1,
        "lock": path_text(standing.lock, folder) if standing.locked else None,
        "steps": [_row_json(row, folder) for row in standing.rows],
        "since": None if standing.drift is None else list(standing.drift.lines),
        "errors": [{"code": error.code, "step": error.step} for error in standing.errors],
    }


def _row_json(row: Row, folder: Path) -> dict[str, Any]:
    return {
        "id": row.step,
        "kind": row.kind,
        "state": None if row.state is None else row.state.value,
        "path": None if row.path is None else path_text(row.path, folder),
        "size": row.size,
        "locked": row.locked,
        "since": list(row.since),
    }
