"""A task on its way to a worker, and what comes back: small, and no tensor among it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field

from lorapipe.build.events import Event
from lorapipe.build.result import BuiltOutput
from lorapipe.errors import LorapipeError
from lorapipe.formats.containers.output import Written
from lorapipe.plan.tasks import Task

__all__ = ["TOPIC", "Left", "Order", "Outcome", "Told", "told_bytes", "told_of"]

TOPIC = "lorapipe"
"""Of all builds one: what a scheduler keeps of a topic is bounded."""


@dataclass(frozen=True, slots=True)
class Order:
    """A task of the ``job`` of that name, in the build of that ``token``.

    Of an output folder it may be the file ``part`` alone, or all that is left when its ``parts`` are made.
    """

    job: str
    token: str
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
    result that the store lost; ``stranger`` is a worker that does not know the job; ``halted`` one that
    was told to stop.
    """

    address: str
    output: BuiltOutput | None = None
    content: str = ""
    part: Written | None = None
    error: LorapipeError | None = None
    at: str | None = None
    vanished: str | None = None
    stranger: bool = False
    halted: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """A task has ended, and whatever it had half done is removed: told of one that was taken back, too."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something that a worker tells of a build while it is at ``task``, a step, or at a ``part`` of it."""

    token: str
    task: str
    part: str | None
    what: Event | Left


def told_bytes(told: Told) -> bytes:
    """As it goes through the scheduler, which asks for what msgpack knows."""
    return pickle.dumps(told)


def told_of(data: object) -> Told | None:
    """What a worker told; ``None`` for what is not ours, since anybody may write to a topic."""
    if not isinstance(data, bytes):
        return None
    found = pickle.loads(data)  # noqa: S301  # from workers, whose results dask unpickles as well
    return found if isinstance(found, Told) else None
