"""What a step kind is: the interface between the plan, the executor and the algebra.

A kind is one module beside this one. Its schema (``schemas/steps/<kind>.schema.json``)
says which options it takes and which of them are ports; this value says what it does:

* ``infer``: from the specs of its inputs to the spec of its result. Torch-free: it
  runs in ``lorapipe plan``.
* ``cost``: bytes, operations and memory that its work will take, from the inputs' specs
  and the inferred result's. Torch-free.
* ``work``: from values to a value. It imports torch, through ``weights``, when called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, BinaryIO, Generic, TypeVar

from lorapipe.formats.containers.output import Create, Written
from lorapipe.formats.shelf import Shelf
from lorapipe.recipe.model import JSON
from lorapipe.remote.url import Location
from lorapipe.weights.each import Each, PutAway, in_memory, serial
from lorapipe.weights.specs import Spec

__all__ = ["Context", "Cost", "Inputs", "Kind", "Materialise", "Params", "Weighted"]

T = TypeVar("T")


class Materialise(Enum):
    """When a kind's result comes to be."""

    LAZY = "lazy"
    """Free: fused into whatever uses it."""
    STORED = "stored"
    """Computed once and kept in the store by its content key."""
    OUTPUT = "output"
    """Written to a file that the recipe names."""
    CHECK = "check"
    """Nothing that a step could take: it holds back what is written of its main input."""


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
    files: Mapping[str, Location] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=Shelf)

    def one(self, port: str) -> T:
        """The value of a port that takes exactly one step."""
        (term,) = self.ports[port]
        return term.value

    def terms(self, port: str) -> tuple[Weighted[T], ...]:
        return self.ports[port]


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes read and written, floating-point operations, memory in bytes.

    ``each`` is what one item takes (a module, a slab of a tensor) while it is at work or
    waits for its turn, ``kept`` what the result takes until the last step has used it. ``items``
    are the operations of each item in the order of the work, where they are unequal: by them the
    time left is told.
    """

    read: int = 0
    written: int = 0
    flops: int = 0
    each: int = 0
    kept: int = 0
    items: tuple[int, ...] = ()

    @property
    def peak(self) -> int:
        """Memory on two cores: two items at work, two that wait, one that is being used."""
        return 5 * self.each + self.kept


def _forget(fact: str, value: object) -> None:
    pass


def _unheard(count: int) -> None:
    pass


def _unkept(name: str, written: Written) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Context:
    """What ``work`` may know of the machine; only the numeric profile can change last bits.

    ``device`` is a torch device name, ``compute`` the dtype of arithmetic
    (``float64`` or ``float32``; this one is part of the key). ``each(function, items)``
    is ``map`` on all workers: results in the order of the items, a few items ahead of
    the consumer, progress reported and a request to stop heeded between items.
    ``note(fact, value)`` tells the user something about the result ("energy"); the store
    keeps it beside the result, so the value is JSON.
    ``put_away(factors)`` takes a finished module's factors out of memory, where that is
    needed, and gives them as they can be had again. ``wrote(count)`` is told the bytes
    written since it was told last. ``output`` is the stream that an output kind writes, a
    temporary file that becomes the output by a rename; where it is a folder, ``create`` opens
    the files in it instead, one after the other, by relative name. Of these ``finished`` are there
    already, from a build of the same key that was interrupted; ``finish`` says that the file opened
    last is whole, so that it would be kept. ``provenance`` are the metadata keys which say how the
    output came to be.
    """

    device: str = "cpu"
    compute: str = "float64"
    each: Each = serial
    note: Callable[[str, object], None] = _forget
    put_away: PutAway = in_memory
    wrote: Callable[[int], None] = _unheard
    output: BinaryIO | None = None
    create: Create | None = None
    finished: Mapping[str, Written] = field(default_factory=dict)
    finish: Callable[[str, Written], None] = _unkept
    provenance: Mapping[str, str] = field(default_factory=dict)


Params = Mapping[str, JSON]


def _free(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:  # noqa: ARG001  # the kinds' one signature
    return Cost()


def _nothing_to_say(inputs: Inputs[Spec], params: Params, result: Spec) -> tuple[str, ...]:  # noqa: ARG001  # the kinds' one signature
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A step kind. ``version`` rises when the same inputs give other bytes.

    ``schema`` is the options' JSON schema where it is not in ``schemas/steps/``, that is
    for a third party's kind. ``keyless`` names the options that never change the result (a pin, a policy), so
    that they stay out of its key. ``cost`` is nothing unless given. ``warn`` says what a user should know
    before a build although nothing is wrong. ``work_part`` writes one file of a folder that the result is, by
    its relative name, as ``work`` would write it; only of a checkpoint.
    """

    name: str
    version: int
    materialise: Materialise
    infer: Callable[[Inputs[Spec], Params], Spec]
    work: Callable[[Inputs[Any], Params, Context], Any]
    cost: Callable[[Inputs[Spec], Params, Spec], Cost] = _free
    keyless: frozenset[str] = frozenset()
    schema: Mapping[str, Any] | None = None
    warn: Callable[[Inputs[Spec], Params, Spec], tuple[str, ...]] = _nothing_to_say
    work_part: Callable[[Inputs[Any], Params, Context, str], Written] | None = None
