"""Why a run would do what it would, as paragraphs and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lorapipe.plan.explain import Change
from lorapipe.plan.explanation import Explanation
from lorapipe.steps.kind import Materialise
from lorapipe.views.tables import STATUS_STYLES
from lorapipe.views.text import path_text, visible

__all__ = ["explanation_json", "print_explanations"]


def print_explanations(found: Iterable[Explanation], folder: Path, console: Console | None = None) -> None:
    """Print a paragraph a step: what a run would do, why, and each thing that changed.

    Paths inside ``folder`` are relative to it.
    """
    console = console or Console(highlight=False)
    for number, each in enumerate(found):
        if number:
            console.print()
        for line in _lines(each, folder):
            console.print(line, soft_wrap=True)


def _lines(found: Explanation, folder: Path) -> Iterator[Text]:
    planned = found.step
    output = "" if planned.output is None else f", {path_text(planned.output, folder)}"
    yield Text(planned.step.id, style="bold") + Text(visible(output), style="not bold")
    colon = ":" if found.changes else ""
    if planned.kind.materialise is Materialise.LAZY:
        yield Text(visible(f"  {found.because}"))
    else:
        style = STATUS_STYLES.get(planned.status, "")
        yield Text(visible(f"  {planned.standing}: {found.because}{colon}"), style=style)
    for change in found.changes:
        for word in change.words:
            yield Text(visible(f"    {_place(change, folder)}{word}"))


def _place(change: Change, folder: Path) -> str:
    if change.step is None:
        return ""
    file = "" if change.file is None else f" ({path_text(change.file, folder)})"
    return f"{change.step}{file}: "


def explanation_json(found: Iterable[Explanation], folder: Path) -> dict[str, Any]:
    """The same as a JSON-ready dict; ``words`` are texts ``what old -> new``."""
    return {"version": 1, "steps": [_json(each, folder) for each in found]}


def _json(found: Explanation, folder: Path) -> dict[str, Any]:
    planned = found.step
    return {
        "id": planned.step.id,
        "kind": planned.step.kind,
        "output": None if planned.output is None else path_text(planned.output, folder),
        "status": planned.status.value,
        "because": found.because,
        "changes": [
            {
                "step": change.step,
                "file": None if change.file is None else path_text(change.file, folder),
                "words": list(change.words),
            }
            for change in found.changes
        ],
    }
