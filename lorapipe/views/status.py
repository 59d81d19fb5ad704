"""Where a recipe stands, as one table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
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


def print_status(standing: Standing, folder: Path, console: Console, *, each: bool = False) -> None:
    """A row a step, with the sha256 that the lock has; below, what else is not as the lock has it.

    The variants of a step are one row, with ``each`` a row each.
    """
    drawn = headed_table("step", "", "file", "size", "locked", "since the lock")
    groups: dict[str, list[Row]] = {}
    for row in standing.rows:
        groups.setdefault(row.step if each else row.step.partition("[")[0], []).append(row)
    for step, rows in groups.items():
        drawn.add_row(*(_alone(rows[0], folder) if len(rows) == 1 else _together(step, rows)))
    print_table(drawn, console)
    for line in _notes(standing):
        console.print(Text(visible(line)), soft_wrap=True)


def _alone(row: Row, folder: Path) -> Iterator[Text]:
    word = "" if row.state is None else row.state.value
    yield Text(visible(row.step), style="bold")
    yield Text(word, style=_STYLES.get(word, ""))
    yield Text("" if row.path is None else visible(path_text(row.path, folder)))
    yield Text("" if row.size is None else bytes_text(row.size))
    yield Text("" if row.locked is None else row.locked[:12])
    yield Text("\n".join(visible(word) for word in row.since))


def _together(step: str, rows: Sequence[Row]) -> Iterator[Text]:
    """How many variants stand how, the bytes of all, and what since the lock is another of how many."""
    states = Counter(row.state.value for row in rows if row.state is not None)
    words = [word if len(states) == 1 else f"{count} {word}" for word, count in states.items()]
    since = Counter(word for row in rows for word in row.since)
    sizes = [row.size for row in rows if row.size is not None]
    yield Text(visible(step), style="bold")
    yield Text(", ".join(words), style=_STYLES.get(words[0], "") if len(words) == 1 else "")
    yield Text(f"{len(rows)} variants")
    yield Text(bytes_text(sum(sizes)) if sizes else "")
    yield Text("")
    yield Text("\n".join(f"{visible(word)} ({count} of {len(rows)})" for word, count in since.items()))


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
