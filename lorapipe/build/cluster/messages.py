"""A task on its way to a worker, and what comes back: small, and no tensor among it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorapipe.build.events import Event, Hashing, Note, OutputReady, Progress, StepDone, StepStarted
from lorapipe.build.result import BuiltOutput
from lorapipe.errors import LorapipeError
from lorapipe.formats.containers.output import Written
from lorapipe.plan.tasks import Task
from lorapipe.remote.url import is_url, parse_url

__all__ = ["TOPIC", "Left", "Order", "Outcome", "Stranger", "Told", "message_of", "told_of"]

TOPIC = "lorapipe"
"""Of all builds one: what a scheduler keeps of a topic is bounded."""


@dataclass(frozen=True, slots=True)
class Order:
    """A task of the ``job`` of that name.

    Of an output folder it may be the file ``part`` alone, or all that is left when its ``parts`` are made.
    """

    job: str
    task: Task
    part: str | None = None
    parts: Mapping[str, Written] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the scheduler's pages show: the step, and of a folder which file."""
        return self.task.step if self.part is None else f"{self.task.step}:{self.part}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task on the worker at ``address``: as :class:`~lorapipe.build.engines.engine.Ended`.

    ``content`` is the content key of an output, ``part`` the file that was made of one. ``vanished`` is a
    result that the store lost; ``undone`` is a task that was told to stop, or whose job nobody brought;
    ``fault`` is one of lorapipe itself, as the worker's Python tells it.
    """

    address: str
    output: BuiltOutput | None = None
    content: str = ""
    part: Written | None = None
    error: LorapipeError | None = None
    at: str | None = None
    vanished: str | None = None
    undone: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """A task has ended, and whatever it had half done is removed: told of one that was taken back, too."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """A worker that came later, or was started anew, has a task of a job that it does not know."""

    address: str


@dataclass(frozen=True, slots=True)
class Told:
    """Something that a worker tells of a job while it is at ``task``, a step, or at a ``part`` of it."""

    job: str
    task: str
    part: str | None
    what: Event | Left | Stranger


def message_of(told: Told) -> list[Any]:
    """As it goes through the scheduler: what JSON can say."""
    event = told.what
    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    if "path" in fields:
        fields["path"] = str(fields["path"])
    return [told.job, told.task, told.part, type(event).__name__, fields]


def told_of(message: object) -> Told | None:
    """What a worker told; ``None`` for what is not ours, since anybody may write to a topic."""
    match message:
        case [str(job), str(task), str() | None as part, str(kind), dict(fields)] if kind in _KINDS:
            fields = {str(name): value for name, value in fields.items()}
            if isinstance(path := fields.get("path"), str):
                fields["path"] = parse_url(path) if is_url(path) else Path(path)
            try:
                return Told(job, task, part, _KINDS[kind](**fields))
            except TypeError:  # another version's
                return None
    return None


_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Hashing, Left, Note, OutputReady, Progress, StepDone, StepStarted, Stranger)
}
