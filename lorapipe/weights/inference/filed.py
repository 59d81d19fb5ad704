"""Modules as a file has them: the rows they are made of, and the names of their tensors.

A file may cut a weight in other pieces than the reference layout does, and put them in
another order; an adapter's modules become a file's by taking rows, one part after the
other. From specs alone, so torch-free; the values are :mod:`~lorapipe.weights.filing.refiled`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.cuts import can_cut
from lorapipe.weights.inference.forms import FULL
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, TensorSpec

__all__ = [
    "ALPHA",
    "DOWN",
    "KOHYA",
    "UP",
    "FileModule",
    "Part",
    "Words",
    "below",
    "cut_form",
    "own_names",
    "row_axis",
]

ALPHA, DOWN, UP = ".alpha", ".lora_down.weight", ".lora_up.weight"
"""The roles of a plain module's three tensors, as kohya's trainer names them."""

_BY_ROWS: Mapping[str, int] = {
    UP: 0, ".hada_w1_a": 0, ".hada_w2_a": 0, ".dora_scale": 0, ".lora_magnitude_vector": 0, ".set_weight": 0,
}  # fmt: skip
"""Tensors in which the weight's rows are an axis; the others of their formats serve all rows."""

_WHOLE = (
    ".lokr_",
    ".oft_",
    ".boft_",
    ".a1",
    ".a2",
    ".b1",
    ".b2",
    ".ia3_l",
    ".on_input",
    ".weight",
    ".rescale",
)
"""Tensors of formats whose rows are not parted here."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows ``[start, stop)`` of an adapter's module; of no module: as many rows of zeros."""

    module: ModuleId | None
    start: int
    stop: int

    @property
    def height(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Words:
    """How a file names a module's tensors: what stands for a role behind the stem.

    A role that is not in ``suffixes`` is written as it is. ``alpha`` says whether the file
    has alphas. Where not, a module is ``up @ down`` to its reader unless something beside
    the tensors says more; ``folds`` then asks that the coefficient be multiplied into a
    factor where no bit is lost by it.
    """

    suffixes: Mapping[str, str] = field(default_factory=dict)
    alpha: bool = True
    folds: bool = False

    def suffix(self, role: str) -> str:
        return self.suffixes.get(role, role)


KOHYA = Words()
"""The names that kohya's trainer and LyCORIS use, which are those of the roles."""


@dataclass(frozen=True, slots=True)
class FileModule:
    """One module of a file to be.

    Its delta is that of ``parts``, one below the other, and the transpose of that if
    ``transposed``; ``shape`` is the file's own, after all this. ``rank`` is that of the
    factors; ``bounded`` says that it is a bound, since parts that turn out to share their
    ``down`` share its rank as well. ``form`` is ``None`` for plain factors, else the format
    with the tensors as the file will have them.
    """

    stem: str
    parts: tuple[Part, ...]
    shape: tuple[int, ...]
    rank: int
    words: Words = KOHYA
    transposed: bool = False
    form: Form | None = None
    bounded: bool = False

    @property
    def sources(self) -> tuple[ModuleId, ...]:
        """The adapter's modules in it, each once; errors name the first."""
        return tuple(dict.fromkeys(part.module for part in self.parts if part.module is not None))

    def tensors(self, dtype: str) -> dict[str, TensorSpec]:
        """The tensors by role, ``dtype`` being that of plain factors; an alpha is float32."""
        if self.form is not None:
            return {role: t for role, t in self.form.tensors if role != ALPHA or self.words.alpha}
        out, into, *kernel = self.shape
        down, up = (self.rank, into, *kernel), (out, self.rank, *(1 for _ in kernel))
        factors = {DOWN: TensorSpec(dtype, down), UP: TensorSpec(dtype, up)}
        return {ALPHA: TensorSpec("F32", ()), **factors} if self.words.alpha else factors


def own_names(spec: AdapterSpec) -> tuple[FileModule, ...]:
    """Each module of an adapter as a module of a file, under its own stem and kohya's suffixes.

    Raises :class:`RecipeError` ``no-spelling`` for a module without a name, and
    ``no-format`` for one that no format can hold.
    """
    found = []
    for module, known in spec.modules.items():
        if not known.spelling.stem:
            raise RecipeError(
                "no-spelling",
                "no LoRA has a name for exactly these rows of a fused weight",
                module=str(module),
                hint="join LoRAs that split the weight alike, or merge into a checkpoint",
            )
        if known.form is not None and not known.form.tensors:
            raise RecipeError("no-format", f"no file can hold {known.form.name}", module=str(module))
        turned = known.spelling.transposed
        shape = (known.shape[1], known.shape[0], *known.shape[2:]) if turned else known.shape
        part = Part(module, 0, known.shape[0])
        found.append(FileModule(known.spelling.stem, (part,), shape, known.rank, KOHYA, turned, known.form))
    return tuple(found)


def row_axis(form: Form, role: str) -> int | None:
    """The axis of a tensor that is the weight's rows; ``None`` of one that serves all rows.

    >>> row_axis(Form("LoHa"), ".hada_w1_a"), row_axis(Form("LoHa"), ".hada_w1_b")
    (0, None)
    """
    if form.name == FULL:
        return 0
    # Beside a core, LoHa's factors stand the other way round.
    turned = role.startswith(".hada_w") and any(other.startswith(".hada_t") for other, _ in form.tensors)
    axis = _BY_ROWS.get(role)
    return 1 if turned and axis is not None else axis


def cut_form(form: Form, start: int, stop: int, height: int) -> Form | None:
    """The format of rows ``[start, stop)`` of a module of ``height``; ``None`` where it has no such part."""
    if (start, stop) == (0, height):
        return form
    if not form.tensors or _whole(form):
        return None
    if not form.additive and not (can_cut(form.cuts, start) and (stop == height or can_cut(form.cuts, stop))):
        return None
    return _resized(form, stop - start)


def below(forms: Sequence[Form], height: int) -> Form | None:
    """The format of modules one below the other, ``height`` rows in all; ``None`` where they are not of one.

    Tensors that serve all rows have to be the same numbers, which only the data tell.
    """
    first = forms[0]
    if any(
        _whole(form) or form.name != first.name or _resized(form, 0) != _resized(first, 0) for form in forms
    ):
        return None
    return _resized(first, height)


def _whole(form: Form) -> bool:
    """Whether rows of the format are not the same format again, or not yet known to be."""
    return form.undecided or any(role.startswith(_WHOLE) for role, _ in form.tensors)


def _resized(form: Form, height: int) -> Form:
    tensors = []
    for role, tensor in form.tensors:
        axis = row_axis(form, role)
        shape = tensor.shape if axis is None else (*tensor.shape[:axis], height, *tensor.shape[axis + 1 :])
        tensors.append((role, TensorSpec(tensor.dtype, shape)))
    return replace(form, tensors=tuple(tensors))
