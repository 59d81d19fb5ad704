"""What becomes of a module's format when modules are joined, cut or factored anew. Torch-free.

The values' twins are in :mod:`~lorapipe.weights.structures.delta` and
:mod:`~lorapipe.weights.structures.products`: ranks and shapes here are those that come out there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from lorapipe.errors import RecipeError
from lorapipe.weights.specs import AdapterSpec, Form, ModuleSpec, Spelling, TensorSpec, canonical_shape

__all__ = [
    "FULL",
    "LOHA",
    "LOKR",
    "SUM",
    "TUCKER",
    "common_shape",
    "cut",
    "factored",
    "needs_deltas",
    "passes",
    "summed",
]

TUCKER, LOHA, LOKR, FULL = "Tucker LoRA", "LoHa", "LoKr", "full difference"
"""What people call the formats that add, beside the LoRA proper."""

SUM = Form("a sum")
"""Of structures that no format holds together."""

_BY_ROWS: Mapping[str, tuple[str, ...]] = {
    TUCKER: (".lora_up.weight",),
    LOHA: (".hada_w1_a", ".hada_w2_a"),
}
"""The formats of which some rows are the same format again, and the tensors in which rows are an axis."""


def common_shape(
    first: tuple[int, ...], second: tuple[int, ...], *, flat: tuple[bool, bool] = (False, False)
) -> tuple[int, ...] | None:
    """The shape of a sum of deltas of two shapes, or ``None`` where they are not of one weight.

    They are of one if they differ by a 1x1 kernel only, and the first is the sum's. ``flat``
    says which may have a kernel's axes and the inputs' in one, as LoHa and LoKr leave them in
    a file; the other's shape is then the sum's.

    >>> common_shape((320, 36), (320, 4, 3, 3), flat=(True, False))
    (320, 4, 3, 3)
    """
    if first == second or canonical_shape(first) == canonical_shape(second):
        return first
    if len(first) < 2 or len(second) < 2 or (first[0], prod(first[1:])) != (second[0], prod(second[1:])):
        return None
    if flat[0] and len(first) == 2:
        return second
    return first if flat[1] and len(second) == 2 else None


def summed(before: ModuleSpec, new: ModuleSpec) -> ModuleSpec | None:
    """The spec of a sum, or ``None`` where the shapes are those of two weights.

    Plain factors stack: their ranks add up. Full differences stay one. Anything else is a
    sum that no format holds, of no more than its full rank. The first name stays.
    """
    shape = common_shape(before.shape, new.shape, flat=(before.form is not None, new.form is not None))
    if shape is None:
        return None
    spelling = before.spelling if before.spelling.stem else new.spelling
    joined = ModuleSpec(shape, before.rank + new.rank, spelling)
    if before.form is None and new.form is None:
        return joined
    form = SUM
    if before.form is not None and new.form is not None and before.form.name == new.form.name == FULL:
        form = _sum_of_full(before.form, new.form)
    return replace(joined, rank=min(joined.rank, joined.full_rank), form=form)


def _sum_of_full(before: Form, new: Form) -> Form:
    """A full difference as the first file names it, in the type of both or float32."""
    dtypes = {tensor.dtype for form in (before, new) for _, tensor in form.tensors}
    dtype = dtypes.pop() if len(dtypes) == 1 else "F32"
    tensors = tuple((suffix, TensorSpec(dtype, tensor.shape)) for suffix, tensor in before.tensors)
    return replace(before, tensors=tensors)


def cut(known: ModuleSpec, height: int) -> ModuleSpec:
    """The spec of ``height`` rows of a module that adds: nameless, and at most of their full rank.

    A LoKr's rows are no LoKr; they and a sum's have no format.
    """
    if height == known.shape[0]:
        return known
    rows = ModuleSpec((height, *known.shape[1:]), known.rank, Spelling(""))
    if known.form is None:
        return rows
    form = replace(known.form, tensors=_cut_tensors(known, known.form, height))
    return replace(rows, rank=min(rows.rank, rows.full_rank), form=form)


def _cut_tensors(known: ModuleSpec, form: Form, height: int) -> tuple[tuple[str, TensorSpec], ...]:
    if form.name not in (FULL, *_BY_ROWS) or known.spelling.transposed:
        return ()
    # Beside a core, LoHa's factors stand the other way round.
    axis = 1 if any(suffix.startswith(".hada_t") for suffix, _ in form.tensors) else 0
    return tuple(
        (suffix, _resized(tensor, axis, height))
        if form.name == FULL or suffix in _BY_ROWS[form.name]
        else (suffix, tensor)
        for suffix, tensor in form.tensors
    )


def _resized(tensor: TensorSpec, axis: int, size: int) -> TensorSpec:
    return TensorSpec(tensor.dtype, (*tensor.shape[:axis], size, *tensor.shape[axis + 1 :]))


def passes(known: ModuleSpec) -> bool:
    """Whether a step that factors deltas leaves the module as it is: a bias or a norm has no factors."""
    return len(known.shape) == 1


def factored(known: ModuleSpec, rank: int) -> ModuleSpec:
    """The module as plain factors of at most ``rank``; a bias or a norm as it is."""
    return known if passes(known) else replace(known, rank=min(known.rank, rank), form=None)


def needs_deltas(spec: AdapterSpec, step: str) -> None:
    """Refuse what is no delta, where a step is about deltas.

    Raises :class:`RecipeError` ``not-additive``, the formats and the first module named.
    """
    odd = {module: known.form for module, known in spec.modules.items() if not known.additive}
    if not odd:
        return
    names = sorted({form.name for form in odd.values() if form is not None})
    many = "1 module of this one is" if len(odd) == 1 else f"{len(odd)} modules of this one are"
    raise RecipeError(
        "not-additive",
        f"'{step}' takes LoRAs that add to a weight; {many} {' and '.join(names)}, a function of the weight",
        hint="merge it into a checkpoint and extract a LoRA from the difference",
        module=str(next(iter(odd))),
        option=step,
    )
