"""Refuse, before any work, what a disk has no room for, and what a server does not take."""

from __future__ import annotations

from collections.abc import Iterator

from lorapipe.build.records import Records
from lorapipe.build.running.means import Means
from lorapipe.errors import BuildError, LorapipeError, gathered
from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.plan.resolve import placed
from lorapipe.plan.room import Beside, shortages
from lorapipe.remote.uploading import try_writing
from lorapipe.remote.url import Url
from lorapipe.steps.kind import Materialise

__all__ = ["check_reach", "check_room"]


def check_room(plan: Plan, means: Means, records: Records) -> None:
    """Hold what the outputs take, and what waits on the disk meanwhile, against each disk's space.

    Results that the store has no room for are lost and no more, so that they count where they
    take the outputs' room. What killed builds left goes first. Raises
    :class:`~lorapipe.errors.BuildError` ``disk-full``, :class:`~lorapipe.errors.ManyErrors` of several.
    """
    for step in plan.pending:
        assert step.output is not None
        assert step.key is not None
        records.make_room(step.output, step.key)
    made = list(_made(plan))
    # One result is made at a time, and what waited of it is then in the store.
    spooled = max((step.cost.kept for step in made if means.share(step).spooled), default=0)
    beside = Beside(records.scratch, spooled, sum(step.cost.kept for step in made))
    found = [
        BuildError(
            "disk-full",
            f"no space left in {short.folder}: {short.needed:,} bytes needed, {short.free:,} free",
            hint="free some space and run again",
        )
        for short in shortages(plan.pending, beside, lambda step: _finished(step, records))
    ]
    if found:
        raise gathered(found)


def check_reach(plan: Plan, records: Records) -> None:
    """See that outputs elsewhere could be written: one in each folder is announced, and never comes.

    Raises :class:`~lorapipe.errors.BuildError`, :class:`~lorapipe.errors.ManyErrors` of several.
    """
    wanted = {step.output.parent: step for step in plan.pending if isinstance(step.output, Url)}
    errors: list[LorapipeError] = []
    for step in wanted.values():
        assert isinstance(step.output, Url)
        target = step.output / "model.safetensors" if step.output.is_folder else step.output
        try:
            try_writing(target, records.halt.go_on)
        except LorapipeError as error:
            errors.extend(placed(error, step.step))
    if errors:
        raise gathered(errors)


def _made(plan: Plan) -> Iterator[PlannedStep]:
    for position in plan.schedule:
        step = plan.steps[position.step]
        if step.kind.materialise is Materialise.STORED and step.status is not Status.IN_STORE:
            yield step


def _finished(step: PlannedStep, records: Records) -> int:
    assert step.output is not None
    assert step.key is not None
    return sum(records.finished(step.output, step.key).values())
