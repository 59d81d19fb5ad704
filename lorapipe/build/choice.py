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
from lorapipe.errors import BuildError, UsageError
from lorapipe.plan.device import HERE, Machine
from lorapipe.recipe.model import Recipe

if TYPE_CHECKING:
    from lorapipe.build.running.executor import Begin

__all__ = ["ENGINES", "engine_of", "machine_of"]

ENGINES = ("threads", "dask")


def machine_of(options: Options, recipe: Recipe) -> Machine:
    """The machine that a recipe's build is done on: of a cluster it is the workers'.

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
    wanted = options.device or str(recipe.defaults["device"])
    return Machine(cuda=partial(_gpus, options.scheduler, wanted), mps=lambda: False)


def _gpus(scheduler: str, wanted: str) -> int:
    """How many GPUs a cluster's best worker has, of which there has to be one if it is ``wanted``."""
    from lorapipe.build.cluster.joining import gpus

    found = gpus(scheduler)
    if not found and wanted.startswith("cuda"):
        raise BuildError(
            "no-worker-able",
            f"no worker of {scheduler} declares a GPU",
            hint="start one for each GPU: dask worker --nthreads 1 --resources GPU=1; or --device cpu",
        )
    return found


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
