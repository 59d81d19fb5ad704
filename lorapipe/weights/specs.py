"""What is known of weights from headers alone: dtypes, shapes, ranks, names.

Torch-free on purpose: ``lorapipe plan`` infers every step's result from these
values and never touches tensor data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import NamedTuple

from lorapipe.weights.verdicts import CheckSpec

__all__ = [
    "DTYPES",
    "FLOATING",
    "AdapterSpec",
    "CheckpointSpec",
    "FileSpec",
    "FolderSpec",
    "Form",
    "ModuleId",
    "ModuleSpec",
    "Place",
    "Scales",
    "Spec",
    "Spelling",
    "TensorSpec",
    "canonical_shape",
]

DTYPES: Mapping[str, int] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes per element, by safetensors' name of the dtype."""

FLOATING = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a file: a safetensors dtype name and a shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * DTYPES[self.dtype]


# A tuple: a LoRA has a thousand, and they are looked up in every step.
class ModuleId(NamedTuple):
    """Where a module's delta belongs, whatever a file calls it.

    ``key`` is the weight's key in the family's reference layout (for Stable
    Diffusion: the LDM single file) and ``rows`` the half-open range of its first
    axis, or ``None`` for all of it. Of an unknown family, ``component`` is empty
    and ``key`` is the verbatim name that the file uses.
    """

    component: str
    key: str
    rows: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.key if self.rows is None else f"{self.key}[{self.rows[0]}:{self.rows[1]}]"


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a file writes a module, so that ``layout: keep`` can write it again.

    ``stem`` is the name before ``.lora_up.weight``. ``transposed`` says that the
    file's delta is the transpose of what the reference key takes (OpenCLIP's
    ``text_projection``). ``up`` is what the file puts behind the stem for that factor
    (``.lora_B.weight``), which tells how it names the others; a module without such a
    factor has the default. Modules of one file that are parts of one weight there, and
    of several or of permuted rows elsewhere, share a stem.
    """

    stem: str
    transposed: bool = False
    up: str = ".lora_up.weight"


@dataclass(frozen=True, slots=True)
class Form:
    """The format of a module that is no plain pair of factors.

    ``name`` is what people call it: ``LoHa``, ``DoRA``, ``full difference``. ``tensors``
    are those of the module in a file, by what follows the module's stem, in the order in
    which they are written; none where there is no format for it (a sum of a LoHa and a
    LoRA). ``additive`` says that it is a delta, which adds to a weight whatever that is;
    others (DoRA, OFT) are a function of the weight. Of those, ``cuts`` say where the weight's
    rows may be parted without another result (see :mod:`~lorapipe.weights.inference.cuts`), ``grows``
    that the weight may be smaller than the module's shape, and is padded to it, and ``biased``
    that the bias beside the weight, if there is one, is changed in the same way. ``undecided``
    says that only the data tell whether a module is of this format or plain factors; ``tensors``
    are then those of both.
    """

    name: str
    tensors: tuple[tuple[str, TensorSpec], ...] = ()
    additive: bool = True
    cuts: tuple[tuple[int, int], ...] = ()
    grows: bool = False
    biased: bool = False
    undecided: bool = False

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for _, tensor in self.tensors)


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """A module: its weight's shape, the rank of its delta, how it is spelled.

    ``shape`` is ``[O, I, *k]`` in the reference key's orientation, as the file's
    factors have it: 2-D factors give ``[O, I]``, 4-D ones ``[O, I, kh, kw]`` (a 1x1
    kernel included), and the two are the same module when they differ by a 1x1
    kernel only. Of a bias or a norm it is ``[O]``. ``rank`` is the stacked rank of a plain
    LoRA, the rank of the exact factors of another additive form, 0 of a form that is
    not additive; such a form may leave axes open, which are then 0 in ``shape``. ``form``
    is ``None`` for plain factors, which stack.
    """

    shape: tuple[int, ...]
    rank: int
    spelling: Spelling
    form: Form | None = None

    @property
    def columns(self) -> int:
        """``I * prod(k)``: the width of ``down``."""
        return prod(self.shape[1:])

    @property
    def full_rank(self) -> int:
        """The highest rank that a delta of this shape can have."""
        return min(self.shape[0], self.columns)

    @property
    def elements(self) -> int:
        """Elements of both factors together."""
        return self.rank * (self.shape[0] + self.columns)

    @property
    def additive(self) -> bool:
        """Whether the module is a delta, whatever the weight it is added to."""
        return self.form is None or self.form.additive

    @property
    def empty(self) -> bool:
        """Whether the module turned out to be no delta at all: no file holds it."""
        return self.additive and not self.rank

    def admits(self, found: ModuleSpec) -> bool:
        """Whether the data may have made ``found`` of what this bounds."""
        if (found.shape, found.spelling) != (self.shape, self.spelling) or found.rank > self.rank:
            return False
        if self.form is None or not self.form.undecided:
            return found.form == self.form
        return found.form is None or set(found.form.tensors) <= set(self.form.tensors)


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """A LoRA: module by module what is known of it before its data is read.

    ``family`` is an architecture's name or ``None`` when unknown. ``dtype`` is the
    one dtype common to all factors (``F32`` when they differ): what ``dtype: keep``
    writes. ``metadata`` is the file's own; ``extras`` are tensors which are not
    weights (``bundle_emb.*``) and pass through. ``hidden`` is set by ``shuffle``:
    nothing of the sources may be written with what follows. ``bounded`` says that ranks
    are upper bounds, since only the data tell them, and down to 0, which is no module to a
    file; the spec of a value never is. ``also`` are
    further families, variants of the first, to which it may belong just as well.
    """

    family: str | None
    modules: Mapping[ModuleId, ModuleSpec]
    dtype: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, TensorSpec] = field(default_factory=dict)
    hidden: bool = False
    bounded: bool = False
    also: tuple[str, ...] = ()

    @property
    def families(self) -> frozenset[str]:
        """All that it may belong to; none of an unknown family."""
        return frozenset(() if self.family is None else (self.family, *self.also))

    @property
    def elements(self) -> int:
        """Numbers in all factors together; at most, where ranks are bounds."""
        return sum(m.elements for m in self.modules.values())

    def admits(self, found: AdapterSpec) -> bool:
        """Whether a value of the spec ``found`` is what this one foretold."""
        if not self.bounded or found.modules.keys() != self.modules.keys():
            return found == self
        within = all(known.admits(found.modules[m]) for m, known in self.modules.items())
        return within and replace(found, modules=self.modules, bounded=True) == self


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

    path: Path
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


@dataclass(frozen=True, slots=True)
class FileSpec:
    """What ``save`` will write: the tensors in file order.

    ``bounded`` says that sizes are upper bounds, and tensors may be missing: see
    :class:`AdapterSpec`. Of a folder,
    ``files`` maps each file of weights, by relative name, to the tensors in it, one after the
    other in the order of ``tensors``; ``others`` the further files to their bytes, 0 where these
    are not known before. Without ``files`` it is a single file.
    """

    tensors: Mapping[str, TensorSpec]
    bounded: bool = False
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors and further files; at most, where sizes are bounds."""
        return sum(t.nbytes for t in self.tensors.values()) + sum(self.others.values())

    def admits(self, found: Mapping[str, TensorSpec]) -> bool:
        """Whether a file of the tensors ``found`` is what this spec foretold."""
        expected = [name for name in self.tensors if name in found] if self.bounded else list(self.tensors)
        if list(found) != expected:
            return False
        return all(
            tensor == self.tensors[name] or (self.bounded and _within(tensor, self.tensors[name]))
            for name, tensor in found.items()
        )


Spec = AdapterSpec | CheckpointSpec | FileSpec | CheckSpec


def _within(found: TensorSpec, bound: TensorSpec) -> bool:
    same = found.dtype == bound.dtype and len(found.shape) == len(bound.shape)
    return same and all(n <= most for n, most in zip(found.shape, bound.shape, strict=True))


def canonical_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop a 1x1 kernel: ``[O, I, 1, 1]`` and ``[O, I]`` are one module.

    >>> canonical_shape((320, 640, 1, 1))
    (320, 640)
    >>> canonical_shape((320, 640, 3, 3))
    (320, 640, 3, 3)
    """
    kernel = shape[2:]
    return shape[:2] if kernel and prod(kernel) == 1 else shape
