"""A checkpoint: its tensors, and where the weights of the reference layout are in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lorapipe.remote.url import Location
from lorapipe.weights.specs.tensors import TensorSpec

__all__ = ["CheckpointSpec", "FolderSpec", "Place", "Scales"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a checkpoint keeps a reference weight, or some rows of it: its tensor ``key``.

    Rows ``rows`` of the reference weight (all if ``None``) are the rows of the tensor from
    ``first`` on. ``transposed`` says that the tensor is the weight's transpose; it is then
    all of it.
    """

    key: str
    rows: tuple[int, int] | None = None
    first: int = 0
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Scales:
    """Where the scales of a scaled fp8 weight are: tensor ``key``, in its order of blocks.

    The weight ``[O, I*k]`` is what is stored times the scale of its block of ``block`` rows
    and columns, the last of each row and column cut short.
    """

    key: str
    block: tuple[int, int]


@dataclass(frozen=True, slots=True)
class FolderSpec:
    """The folder that a checkpoint came in, apart from its weights.

    ``stems`` maps each component (``""`` where tensors' names begin with none) to what its
    files of weights are called before ``.safetensors``. ``carried`` maps the other files that
    go along when the checkpoint is saved as a folder, by name relative to ``path``, to their
    bytes; ``left_out`` names those that do not, although they may be wanted.
    """

    path: Location
    stems: Mapping[str, str]
    carried: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckpointSpec:
    """A checkpoint: its tensors in file order, and where the reference keys live.

    ``keys`` maps a key of the family's reference layout to its places: one, unless the file
    keeps the rows of a fused weight apart or in another order.
    ``touched`` holds the file keys that a merge changes. ``hidden``: see
    :class:`AdapterSpec`. ``folder`` is the one that it came in, if it came in one.
    ``scales`` belong to the scaled fp8 weights of these file keys, ``companions`` are the
    tensors that plain weights do not need. ``frozen`` maps reference keys to the
    quantised format, into which nothing can be merged, that the file has them in. ``held``
    is the most elements of a weight that an operator has to see at once.
    """

    family: str | None
    tensors: Mapping[str, TensorSpec]
    keys: Mapping[str, tuple[Place, ...]]
    metadata: Mapping[str, str] = field(default_factory=dict)
    touched: frozenset[str] = frozenset()
    hidden: bool = False
    folder: FolderSpec | None = None
    scales: Mapping[str, Scales] = field(default_factory=dict)
    companions: frozenset[str] = frozenset()
    frozen: Mapping[str, str] = field(default_factory=dict)
    held: int = 0

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in self.tensors.values())
