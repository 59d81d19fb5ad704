"""Which engine runs a build, and on what machine: as the options say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from lorapipe.build.engines.threads import imported
from lorapipe.build.ownership import Ownership
from lorapipe.build.planning import Options
from lorapipe.build.running.means import Means
from lorapipe.errors import UsageError
from lorapipe.plan.device import HERE, Machine

if TYPE_CHECKING:
    from lorapipe.build.running.executor import Begin

__all__ = ["ENGINES", "engine_of", "machine_of"]

ENGINES = ("threads", "dask")


def machine_of(options: Options) -> Machine:
    """The machine that a build's work is done on: of a cluster it is the workers'.

    Raises :class:`~lorapipe.errors.UsageError` ``unknown-engine`` or ``no-cluster``.
    """
    if options.engine not in ENGINES:
        hint = f"the engines are {' and '.join(ENGINES)}"
        raise UsageError("unknown-engine", f"no engine '{options.engine}'", hint=hint)
    if options.scheduler is None:
        return HERE
    if options.engine != "dask":
        message = f"the engine '{options.engine}' has no scheduler"
        raise UsageError("no-cluster", message, hint="--engine dask works with one")
    from lorapipe.build.cluster.joining import gpus

    return Machine(cuda=partial(gpus, options.scheduler), mps=lambda: False)


@contextmanager
def engine_of(options: Options, ownership: Ownership, means: Means) -> Iterator[Begin]:
    """What begins the engine for a plan; a cluster is joined, or started, for as long as the context lasts.

    Raises as :func:`~lorapipe.build.cluster.joining.joined` does.
    """
    if options.engine == "dask":
        from lorapipe.build.cluster.dask import dask_engine
        from lorapipe.build.cluster.joining import joined

        with joined(options.scheduler, options.workers) as client:
            yield partial(dask_engine, client=client, ownership=ownership, options=options)
    else:
        imported("torch")
        from lorapipe.build.running.bench import local_engine

        yield partial(local_engine, ownership=ownership, means=means)
