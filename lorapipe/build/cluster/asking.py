"""Workers asked before any work what they are and whether they can do the job; watched while they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorapipe.build.cluster.job import Job
from lorapipe.build.cluster.meeting import Trouble, introduce, prepare, refuse, versions, wrong_versions
from lorapipe.build.cluster.reach import Mark
from lorapipe.errors import BuildError, LorapipeError
from lorapipe.store.shared.reach import Token
from lorapipe.version import __version__

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Watch", "Workers", "ask", "check_able", "meet", "scheduler_lost"]

_ANSWER_S = 30.0
"""Seconds for all workers to say what they are."""

_LOOK_S = 0.5
"""Seconds between two looks."""

_LOST_S = 10.0
"""Seconds without scheduler after which it is given up."""

_NOBODY_S = 60.0
"""Seconds without any worker after which no more are waited for."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers of a cluster: threads, and resources that they declare, by address."""

    threads: Mapping[str, int]
    resources: Mapping[str, Mapping[str, float]]

    @property
    def slots(self) -> int:
        """Tasks that all of them run at a time."""
        return sum(self.threads.values())

    def declare(self, resource: str) -> bool:
        return any(resource in declared for declared in self.resources.values())

    def able(self, needs: Mapping[str, float]) -> bool:
        """Whether one of them has declared all that a task needs."""
        return any(
            all(declared.get(name, 0) >= amount for name, amount in needs.items())
            for declared in self.resources.values()
        )


class Watch:
    """The workers that the scheduler of ``client`` has, looked at now and then, and whether it is there.

    ``remote`` is a scheduler that was not started for this build.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.remote = client.cluster is None
        self.workers = Workers({}, {})
        self._looked = 0.0
        self._answered = self._staffed = time.monotonic()

    def look(self) -> Workers:
        """The workers now, or a moment ago.

        Raises :class:`~lorapipe.errors.BuildError` ``scheduler-lost``, or ``workers-lost`` where there
        has been none for a while.
        """
        now = time.monotonic()
        if self.client.status == "running":
            self._answered = now
            if now - self._looked >= _LOOK_S:
                self._looked, self.workers = now, _workers(self.client)
        elif now - self._answered > _LOST_S:
            raise scheduler_lost()
        if self.workers.slots:
            self._staffed = now
        elif now - self._staffed > _NOBODY_S:
            hint = "what is finished is kept: run again when there are some"
            raise BuildError("workers-lost", f"no worker has been there for {_NOBODY_S:.0f} s", hint=hint)
        return self.workers


def _workers(client: Client) -> Workers:
    found = client.scheduler_info(n_workers=-1)["workers"]
    return Workers(
        {address: int(worker["nthreads"]) for address, worker in found.items()},
        {address: worker.get("resources") or {} for address, worker in found.items()},
    )


def scheduler_lost() -> BuildError:
    """The error for a scheduler that is gone."""
    hint = "what is finished is kept: run again when it is there"
    return BuildError("scheduler-lost", "the scheduler does not answer any more", hint=hint)


def check_able(workers: Workers, step: str, needs: Mapping[str, float]) -> None:
    """See that some worker may be given a step.

    Raises :class:`~lorapipe.errors.BuildError` ``no-worker-able``.
    """
    if not workers.able(needs):
        told = " ".join(f"{name}={amount:.0f}" for name, amount in needs.items())
        raise BuildError(
            "no-worker-able",
            f"no worker declares what it takes: {told}",
            hint=f"start workers with --resources '{told}'",
            step=step,
        )


def meet(client: Client, workers: Iterable[str], job: Job, marks: tuple[Mark | Token, ...]) -> None:
    """See that each of the ``workers`` can do the job; all that is wrong is told at once.

    Raises :class:`~lorapipe.errors.BuildError` ``versions-differ``, ``no-lorapipe``, ``workers-silent``,
    ``workers-lost``, and what :func:`~lorapipe.build.cluster.meeting.prepare` finds.
    """
    introduced = _present(ask(client, introduce, workers=list(workers), patience_s=_ANSWER_S))
    hosts = {address: told["host"] for address, told in introduced.items() if isinstance(told, dict)}
    wrong, ours = list[Trouble](), versions()
    for address, told in introduced.items():
        if isinstance(told, dict):
            wrong += wrong_versions(address, told, ours)
        else:
            wrong.append(Trouble(address, _stranger(told)))
    refuse(wrong, hosts)
    prepared = _present(ask(client, prepare, job, marks, workers=list(introduced)))
    refuse(_troubles(prepared), hosts)


def _troubles(prepared: Mapping[str, Any]) -> Iterable[Trouble]:
    for address, errors in prepared.items():
        if isinstance(errors, BaseException):
            raise errors  # a fault of ours: what is a user's comes as a value
        yield from (Trouble(address, error) for error in errors)


def _present(answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers of workers that did not go away meanwhile."""
    there = {address: answer for address, answer in answers.items() if not isinstance(answer, OSError)}
    if not there:
        raise BuildError("workers-lost", "all workers went away", hint="their logs may say why")
    return there


def _stranger(error: object) -> LorapipeError:
    hint = f"install it: pip install 'lorapipe[dask]=={__version__}'"
    return BuildError("no-lorapipe", f"lorapipe cannot be used there: {error}", hint=hint)


def ask(
    client: Client,
    function: Callable[..., Any],
    *given: Any,
    workers: list[str] | None,
    patience_s: float | None = None,
) -> dict[str, Any]:
    """What each worker answers, or the exception that it raised there.

    Raises :class:`~lorapipe.errors.BuildError` ``workers-silent`` where not all answer in time.
    """
    answer: futures.Future[dict[str, Any]] = futures.Future()

    def asking() -> None:
        try:
            answer.set_result(client.run(function, *given, workers=workers, on_error="return"))
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is for who waits
            answer.set_exception(error)

    # On a thread, since dask waits as long as it takes.
    threading.Thread(target=asking, name="lorapipe-ask", daemon=True).start()
    try:
        return answer.result(patience_s)
    except futures.TimeoutError as error:
        raise BuildError(
            "workers-silent",
            f"not all workers answer within {patience_s:.0f} s",
            hint="the scheduler's dashboard shows which; restart them",
        ) from error
