"""A scheduler found, or a cluster of processes on this machine."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

from lorapipe.build.engines.threads import default_workers
from lorapipe.errors import BuildError, UsageError
from lorapipe.plan.device import cuda_devices

if TYPE_CHECKING:
    from distributed import Client
    from distributed.utils import LoopRunner

__all__ = ["gpus", "joined"]

_ANSWER_S = 5.0
"""Seconds for a scheduler to answer."""

_WORKERS_S = 30.0
"""Seconds for the first worker to come: a batch system starts them one by one."""


@contextmanager
def joined(scheduler: str | None, workers: int | None = None) -> Iterator[Client]:
    """A client of the scheduler at an address or in a scheduler file, or of ``workers`` processes here.

    It has at least one worker. What was started is ended with the context.

    Raises :class:`~lorapipe.errors.UsageError` ``no-dask`` or ``bad-scheduler``,
    :class:`~lorapipe.errors.BuildError` ``no-scheduler``, ``no-workers`` or ``no-local-cluster``.
    """
    try:
        import distributed  # noqa: F401  # whether it is there
    except ImportError as error:
        message, hint = "the engine 'dask' needs the package distributed", "pip install 'lorapipe[dask]'"
        raise UsageError("no-dask", message, hint=hint) from error
    with _quiet(), _deaf_loop() as runner, _found(scheduler, workers, runner) as client:
        yield client


def _found(scheduler: str | None, workers: int | None, runner: LoopRunner) -> AbstractContextManager[Client]:
    return _local(workers or default_workers(), runner) if scheduler is None else _remote(scheduler, runner)


def gpus(scheduler: str) -> int:
    """How many GPUs the best of a scheduler's workers declares. Raises as :func:`joined`."""
    with joined(scheduler) as client:
        found = client.scheduler_info(n_workers=-1)["workers"].values()
        return max(int((worker.get("resources") or {}).get("GPU", 0)) for worker in found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of dask's on standard error: what matters of it is said by us."""
    from distributed.utils import silence_logging_cmgr
    from distributed.versions import VersionMismatchWarning

    with silence_logging_cmgr(logging.CRITICAL), warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)
        yield


@contextmanager
def _deaf_loop() -> Iterator[LoopRunner]:
    """A loop whose thread, and so the processes that it starts, hear nothing of Ctrl-C.

    A terminal sends it to all of them; the client hears it, and tells the others what to do.
    """
    from distributed.utils import LoopRunner

    _start_tracker()
    runner = LoopRunner()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        runner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield runner
    finally:
        runner.stop()


def _start_tracker() -> None:
    """Start the process that clears away after others: whichever thread does hears signals again.

    What a cluster leaves that was interrupted while it started, it clears away without a word.
    """
    told = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker:UserWarning"
    try:
        resource_tracker.ensure_running()
    finally:
        os.environ.pop("PYTHONWARNINGS")
        if told is not None:
            os.environ["PYTHONWARNINGS"] = told


@contextmanager
def _local(workers: int, runner: LoopRunner) -> Iterator[Client]:
    from distributed import Client, LocalCluster

    try:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None would be the port that everybody's has
            scheduler_kwargs={"dashboard": False},
            memory_limit=0,  # lorapipe keeps to --memory itself: nobody is killed for it
            resources={"GPU": 1} if cuda_devices() else None,  # which they share
            silence_logs=logging.CRITICAL,
            loop=runner.loop,
        )
    except (RuntimeError, OSError) as error:
        raise BuildError(
            "no-local-cluster",
            f"no processes can be started here: {error}",
            hint="in a script, what starts them stands under: if __name__ == '__main__'",
        ) from error
    with cluster, Client(cluster, set_as_default=False) as client:
        try:
            yield client
        finally:
            # Nothing is left to do in them, and torch takes seconds to be taken apart.
            for nanny in cluster.workers.values():
                nanny.auto_restart = False
                with suppress(ProcessLookupError, TypeError):
                    os.kill(nanny.pid, signal.SIGKILL)


@contextmanager
def _remote(scheduler: str, runner: LoopRunner) -> Iterator[Client]:
    from distributed import Client
    from distributed.utils import sync

    address = _address(scheduler)
    try:
        what = sync(runner.loop, _knock, address, callback_timeout=_ANSWER_S + 1)
    except (ValueError, TypeError) as error:
        raise _no_address(f"'{scheduler}' is no address of a scheduler: {error}") from error
    except Exception as error:  # a web server's answer is a length of exabytes to dask
        raise _nobody(scheduler, error) from error
    if what != "Scheduler":
        raise _no_address(f"at {scheduler} is a {what.lower()}, not the scheduler")
    with Client(address, timeout=_ANSWER_S, set_as_default=False, loop=runner.loop) as client:
        try:
            client.wait_for_workers(1, timeout=_WORKERS_S)
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise BuildError(
                "no-workers",
                f"the scheduler at {scheduler} has no workers, not even after {_WORKERS_S:.0f} s",
                hint=f"start some: dask worker {address} --nthreads 1",
            ) from error
        yield client


async def _knock(address: str) -> str:
    """What answers at an address. A client would wait for ever where something else listens."""
    from distributed.core import rpc
    from distributed.security import Security

    security = Security().get_connection_args("client")
    async with rpc(address, timeout=_ANSWER_S, connection_args=security) as server:
        found = await server.identity()
    return str(found["type"])


def _address(scheduler: str) -> str:
    """The address in a scheduler file, where one is named; else what is given."""
    if not scheduler.endswith(".json"):
        return scheduler
    try:
        return str(json.loads(Path(scheduler).read_text())["address"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no address"
        raise _no_address(f"the scheduler's file '{scheduler}' cannot be read: {reason}") from error


def _no_address(message: str) -> UsageError:
    hint = "such as tcp://10.0.0.1:8786, or the file of 'dask scheduler --scheduler-file'"
    return UsageError("bad-scheduler", message, hint=hint)


def _nobody(scheduler: str, error: BaseException) -> BuildError:
    cause = error.__cause__ or error
    return BuildError(
        "no-scheduler",
        f"no scheduler answers at {scheduler} ({type(cause).__name__})",
        hint="'dask scheduler' prints its address when it starts; this machine has to reach it",
    )
