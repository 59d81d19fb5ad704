"""What is to be done on a cluster: the plan and its job, what each task asks for, where it writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorapipe.build.cluster.asking import Watch
from lorapipe.build.cluster.job import Job
from lorapipe.build.cluster.reach import Mark
from lorapipe.build.ownership import Ownership
from lorapipe.build.planning import Options
from lorapipe.build.running.means import Means
from lorapipe.plan.plan import Plan
from lorapipe.plan.tasks import Task
from lorapipe.store.shared.reach import Token

__all__ = ["Room", "Work", "folders_written", "needs_of", "room_of"]


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done: a plan, the job that workers have of it, and what they must have.

    ``marks`` are what each has to see, ``needs`` the resources that each task asks for.
    """

    plan: Plan
    ownership: Ownership
    job: Job
    marks: tuple[Mark | Token, ...]
    needs: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of memory that all tasks that are out may take together; ``None`` is any number."""

    means: Means
    most: int | None

    def fits(self, plan: Plan, tasks: list[Task]) -> bool:
        return self.most is None or sum(self.means.need(plan.steps[task.step]) for task in tasks) <= self.most


def needs_of(plan: Plan, task: Task, options: Options, *, memory: bool) -> dict[str, float]:
    """The resources that a worker must have declared to be given a task.

    A GPU for all that is computed on one; its bytes of MEMORY where workers declare them.
    """
    found: dict[str, float] = {}
    if plan.device.startswith("cuda"):
        found["GPU"] = 1
    if memory:
        found["MEMORY"] = Means(options.workers or 1, options.memory).need(plan.steps[task.step])
    return found


def room_of(watch: Watch, options: Options) -> Room:
    """Processes of this machine share its memory; those of a cluster have each their own."""
    means = Means(1, options.memory)
    return Room(means, None if watch.remote or options.memory is not None else means.room)


def folders_written(plan: Plan, ownership: Ownership, options: Options) -> Iterator[tuple[Path, str]]:
    """The folders that client and workers write to."""
    if options.places.shared is None:
        yield ownership.records.scratch, "the store"
    for planned in plan.pending:
        if isinstance(planned.output, Path):
            yield planned.output.parent, "the output folder"
