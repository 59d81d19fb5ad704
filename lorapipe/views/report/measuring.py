"""How far the measuring for a report is: a bar where somebody watches, which goes when it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from lorapipe.build import events
from lorapipe.build.events import Event, Listener
from lorapipe.build.planning import unheard
from lorapipe.views.report.markup import cut

__all__ = ["measuring_view"]


@contextmanager
def measuring_view(console: Console) -> Iterator[Listener]:
    """A listener for what :mod:`lorapipe.build.looking.reporting` tells, silent where nobody watches."""
    if not console.is_terminal:
        yield unheard
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading headers", total=None)

        def tell(event: Event) -> None:
            if isinstance(event, events.Hashing):
                said = f"hashing {cut(event.path.name, 40)}, MB"
                bar.update(task, description=said, completed=event.done // 10**6, total=event.total // 10**6)
            elif isinstance(event, events.StepStarted):
                bar.reset(task, total=None, description=f"measuring {cut(event.step, 40)}")
            elif isinstance(event, events.Progress):
                bar.update(task, completed=event.done, total=event.total)

        yield tell
