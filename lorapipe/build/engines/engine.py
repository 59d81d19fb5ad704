"""What runs a build's tasks: the one seam between what is to be done, in which order, and where.

The executor (:mod:`~lorapipe.build.running.executor`) knows which tasks are ready; an engine has
threads, or processes on other machines, and decides how many run at a time. What comes out is the
same bytes, whichever engine runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lorapipe.build.result import BuiltOutput
from lorapipe.errors import LorapipeError
from lorapipe.formats.containers.output import Written
from lorapipe.plan.tasks import Task

__all__ = ["Ended", "Engine"]


@dataclass(frozen=True, slots=True)
class Ended:
    """A task that came to its end: with the output that it wrote, if it is one of an output.

    Of an output folder it may be one ``part``, which an engine makes of the whole before it tells.
    Or with an ``error``, raised by the step ``at`` (one of the task's) and without its place in the recipe.
    """

    task: Task
    output: BuiltOutput | None = None
    error: LorapipeError | None = None
    at: str | None = None
    part: Written | None = None


class Engine(Protocol):
    """Runs the tasks of one plan, wherever it has room for them."""

    def submit(self, task: Task) -> None:
        """Take a task whose ``after`` have ended; it begins when there is room for it."""

    def next(self) -> Ended:
        """Wait for a task to end, and say how.

        Raises what is no error of a step: :class:`~lorapipe.build.records.EntryVanished`, a fault of
        lorapipe itself, or what became of the machines that the tasks run on
        (:class:`~lorapipe.errors.BuildError`).
        """
