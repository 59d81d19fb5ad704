"""A job as a worker plans it: the client's plan made again, and held against the client's keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lorapipe.build.cluster.job import Job, machine
from lorapipe.build.digests import MemoDigests
from lorapipe.build.engines.halt import Halt
from lorapipe.build.ownership import Ownership
from lorapipe.build.records import Records
from lorapipe.errors import BuildError, InputError
from lorapipe.plan.device import Machine
from lorapipe.plan.make import Locked, make_plan
from lorapipe.plan.plan import Plan, Status
from lorapipe.plan.tasks import Task
from lorapipe.remote.url import Location
from lorapipe.steps.kind import Materialise
from lorapipe.store.places import Places, find_places

__all__ = ["Planned"]


class Planned:
    """A job as this process has planned it, with the store open.

    Raises what :func:`~lorapipe.plan.make.make_plan` does, and :class:`~lorapipe.errors.BuildError`
    ``keys-differ`` where the plan is not the client's.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._lock = threading.Lock()
        self._at_work = 0
        self.records = Records(looking=False, root=places_here(job), seen=job.files)
        ours: dict[Location, tuple[str, str]] = {path: (sha256, "") for path, sha256 in job.ours.items()}
        self.ownership = Ownership(self.records, Locked(outputs=ours), job.force, job.promised)
        try:
            self.plan = make_plan(
                job.recipe,
                job.folders,
                _NoPast(self.records.digests),
                Locked({step: of.sha256 for step, of in job.inputs.items()}, elsewhere=job.inputs, held=True),
                device=job.device,
                read=True,
                machine=Machine(environment=job.environment),
            )
            _hold(self.plan, job)
        except BaseException:
            self.close()
            raise

    def ready(self, task: Task) -> Plan:
        """The plan in which the store has what other tasks made for this one."""
        steps = dict(self.plan.steps)
        for step in task.steps:
            if step != task.step and steps[step].kind.materialise is not Materialise.LAZY:
                steps[step] = replace(steps[step], status=Status.IN_STORE)
        return replace(self.plan, steps=steps)

    @contextmanager
    def at_work(self) -> Iterator[Halt]:
        """What asks whoever is at a task of the job to stop, as long as the context lasts.

        All of them at once: a job's tasks are taken back together.
        """
        halt = self.records.halt
        with self._lock:
            if not self._at_work:
                halt.forget()
            self._at_work += 1
        try:
            yield halt
        finally:
            with self._lock:
                self._at_work -= 1

    def close(self) -> None:
        """Let go of the store."""
        self.records.__exit__(None, None, None)


def places_here(job: Job) -> Places:
    """A worker's stores: the client's folder, or one of its own before what all share.

    Raises :class:`~lorapipe.errors.BuildError` ``store-not-shared``: sqlite's log, in which a store's index
    is written, is for the processes of one machine (sqlite.org/wal.html).
    """
    if job.places.shared is not None:
        return Places(find_places().root, job.places.shared)
    if job.machine != machine():
        raise BuildError(
            "store-not-shared",
            f"the store {job.places.root} is for the processes of one machine, and this is another",
            hint="name one that machines share: LORAPIPE_STORE=file:///folder on a disk of all, or s3://bucket",
        )
    return job.places


@dataclass(frozen=True, slots=True)
class _NoPast:
    """A past in which nothing was built: what there is to do is the client's to say."""

    digests: MemoDigests

    def stored(self, key: str) -> bool:  # noqa: ARG002  # as Past has it
        return False

    def built(self, path: Location) -> tuple[tuple[str, str], ...]:  # noqa: ARG002  # as Past has it
        return ()

    def finished(self, path: Location, key: str) -> Mapping[str, int]:  # noqa: ARG002  # as Past has it
        return {}

    def there(self, path: Location) -> bool:  # noqa: ARG002  # as Past has it
        return False

    def digest(self, path: Location, *, read: bool) -> str | None:  # noqa: ARG002  # as Past has it
        return None


def _hold(plan: Plan, job: Job) -> None:
    """See that the plan's keys are the client's: then so will be the bytes."""
    for step, of in job.inputs.items():
        source = plan.steps[step].source
        if source is not None and source.sha256 != of.sha256:
            raise InputError(
                "input-differs",
                f"'{source.path}' has sha256 {source.sha256 or ''!s:.12}... here, {of.sha256[:12]}... "
                "where the build was started",
                hint="share the inputs by one file system, or bring them up to date",
                where=plan.steps[step].step.place,
                step=step,
            )
    other = [step for step, key in job.keys.items() if plan.steps[step].key != key]
    if other:
        raise BuildError(
            "keys-differ",
            f"'{other[0]}' would be made in another way than here",
            hint="see that lorapipe, its plugins and torch are of one version everywhere",
            details=[f"{len(other)} of {len(job.keys)} steps have other keys"] if len(other) > 1 else (),
        )
