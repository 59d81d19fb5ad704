"""The files of an output folder that can be made apart, each as a task of its own."""

from __future__ import annotations

from dataclasses import dataclass

from lorapipe.plan.plan import PlannedStep
from lorapipe.remote.url import Url
from lorapipe.weights.specs import FileSpec

__all__ = ["Part", "parts_of"]


@dataclass(frozen=True, slots=True)
class Part:
    """One file of weights in the folder that ``step`` writes.

    ``name`` is relative to the folder, ``tensors`` those in it, in their order; ``nbytes`` are the
    bytes of their data.
    """

    step: str
    name: str
    tensors: tuple[str, ...]
    nbytes: int


def parts_of(planned: PlannedStep) -> tuple[Part, ...]:
    """The files of weights of a step's output folder, in their order; none unless it has several.

    Each can be made alone, in any order, by any process
    (:func:`~lorapipe.build.running.parts.write_part`); indices and files that go along are no parts:
    they are made when the folder gets its name. A folder elsewhere is written by one process.
    """
    spec = planned.spec
    if planned.kind.work_part is None or not isinstance(spec, FileSpec) or len(spec.files) < 2:
        return ()
    if isinstance(planned.output, Url):
        return ()
    return tuple(
        Part(planned.step.id, name, tensors, spec.nbytes_of(name)) for name, tensors in spec.files.items()
    )
