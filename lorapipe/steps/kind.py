"""What a step kind is: the interface between the plan, the executor and the algebra.

A kind is one module beside this one. Its schema (``schemas/steps/<kind>.schema.json``)
says which options it takes and which of them are ports; this value says what it does:

* ``infer``: from the specs of its inputs to the spec of its result. Torch-free: it
  runs in ``lorapipe plan``.
* ``cost``: bytes, operations and memory that its work will take. Torch-free.
* ``work``: from values to a value. It imports torch, through ``weights``, when called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Generic, TypeVar

from lorapipe.recipe.model import JSON
from lorapipe.weights.specs import Spec

__all__ = ["Context", "Cost", "Inputs", "Kind", "Materialise", "Weighted"]

T = TypeVar("T")


class Materialise(Enum):
    """When a kind's result comes to be."""

    LAZY = "lazy"
    """Free: fused into whatever uses it."""
    STORED = "stored"
    """Computed once and kept in the store by its content key."""
    OUTPUT = "output"
    """Written to a file that the recipe names."""


@dataclass(frozen=True, slots=True)
class Weighted(Generic[T]):
    """One term of a port: the step it came from, its weight, its spec or value."""

    step: str
    weight: float
    value: T


@dataclass(frozen=True, slots=True)
class Inputs(Generic[T]):
    """A step's inputs by port: specs in ``infer``, values in ``work``.

    ``files`` maps the options that the schema marks as files (``load``, ``to``) to
    absolute paths: the input file found, the output file to be.
    """

    ports: Mapping[str, tuple[Weighted[T], ...]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    def one(self, port: str) -> T:
        """The value of a port that takes exactly one step."""
        (term,) = self.ports[port]
        return term.value

    def terms(self, port: str) -> tuple[Weighted[T], ...]:
        return self.ports[port]


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes read and written, floating-point operations, peak memory in bytes."""

    read: int = 0
    written: int = 0
    flops: int = 0
    peak: int = 0


def _ignore(done: int, total: int, label: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Context:
    """What ``work`` may know of the machine; none of it changes a result's bytes.

    ``device`` is a torch device name, ``compute`` the dtype of arithmetic
    (``float64`` or ``float32``; this one is part of the key). ``progress(done, total,
    label)`` reports modules or bytes; ``checkpoint()`` raises
    :class:`~lorapipe.errors.Interrupted` when the user asked to stop and is called
    between modules. ``scratch`` is where a kind may write: for an output it is the
    temporary file that becomes the output by a rename.
    """

    device: str = "cpu"
    compute: str = "float64"
    workers: int = 1
    progress: Callable[[int, int, str], None] = _ignore
    checkpoint: Callable[[], None] = lambda: None
    scratch: Path | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)


Params = Mapping[str, JSON]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A step kind. ``version`` rises when the same inputs give other bytes."""

    name: str
    version: int
    materialise: Materialise
    infer: Callable[[Inputs[Spec], Params], Spec]
    work: Callable[[Inputs[Any], Params, Context], Any]
    cost: Callable[[Inputs[Spec], Params], Cost]
