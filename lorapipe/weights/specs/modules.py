"""The modules of an adapter: where one belongs, how a file spells it, of what format and rank it is."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from lorapipe.weights.specs.tensors import TensorSpec

__all__ = [
    "Form",
    "ModuleId",
    "ModuleSpec",
    "Spelling",
    "canonical_shape",
]


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


def canonical_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop a 1x1 kernel: ``[O, I, 1, 1]`` and ``[O, I]`` are one module.

    >>> canonical_shape((320, 640, 1, 1))
    (320, 640)
    >>> canonical_shape((320, 640, 3, 3))
    (320, 640, 3, 3)
    """
    kernel = shape[2:]
    return shape[:2] if kernel and prod(kernel) == 1 else shape
