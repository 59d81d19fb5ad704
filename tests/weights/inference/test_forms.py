"""What joining, cutting and factoring make of a module's format, and that values agree with it."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.forms import (
    FULL,
    LOHA,
    LOKR,
    SUM,
    TUCKER,
    common_shape,
    cut,
    factored,
    needs_deltas,
    passes,
    summed,
)
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling, TensorSpec
from tests.weights.sorts import SORTS, Sample, loha, loha_core, lokr, plain, tucker

F16, F32 = "F16", "F32"


def full(*shape: int, dtype: str = F16, suffix: str = ".diff", stem: str = "m") -> ModuleSpec:
    form = Form(FULL, ((suffix, TensorSpec(dtype, shape)),))
    spec = ModuleSpec(shape, 0, Spelling(stem), form)
    return replace(spec, rank=spec.full_rank)


def of(name: str, shape: tuple[int, ...], rank: int, **tensors: tuple[int, ...]) -> ModuleSpec:
    held = tuple((f".{suffix}", TensorSpec(F16, size)) for suffix, size in tensors.items())
    return ModuleSpec(shape, rank, Spelling("m"), Form(name, held))


LOHA_SPEC = of(LOHA, (12, 10), 4, hada_w1_a=(12, 2), hada_w1_b=(2, 10), hada_w2_a=(12, 2), hada_w2_b=(2, 10))
LOKR_SPEC = of(LOKR, (12, 12), 8, lokr_w1=(2, 3), lokr_w2=(6, 4))
LORA = ModuleSpec((12, 10), 3, Spelling("lora"))


@pytest.mark.parametrize(
    ("first", "second", "flat", "common"),
    [
        ((8, 6), (8, 6), (False, False), (8, 6)),
        ((8, 6), (8, 6, 1, 1), (False, False), (8, 6)),
        ((8, 6, 1, 1), (8, 6), (False, False), (8, 6, 1, 1)),
        ((8, 54), (8, 6, 3, 3), (True, False), (8, 6, 3, 3)),
        ((8, 6, 3, 3), (8, 54), (False, True), (8, 6, 3, 3)),
        ((8, 54), (8, 6, 3, 3), (True, True), (8, 6, 3, 3)),
        ((8, 54), (8, 6, 3, 3), (False, True), None),
        ((8, 54), (8, 6, 3, 3), (False, False), None),
        ((8, 6, 3, 3), (8, 2, 3, 9), (True, True), None),
        ((8, 6), (8, 7), (True, True), None),
        ((8, 6), (7, 6), (True, True), None),
        ((8,), (8,), (True, True), (8,)),
        ((8,), (8, 1), (True, True), None),
        ((8,), (9,), (True, True), None),
    ],
)
def test_shapes_are_common_up_to_a_kernel_that_is_not_told(
    first: tuple[int, ...], second: tuple[int, ...], flat: tuple[bool, bool], common: tuple[int, ...] | None
) -> None:
    assert common_shape(first, second, flat=flat) == common


def test_plain_factors_stack_beyond_the_full_rank() -> None:
    assert summed(replace(LORA, rank=9), replace(LORA, rank=8)) == replace(LORA, rank=17)


def test_a_sum_with_another_structure_has_no_format_and_at_most_full_rank() -> None:
    assert summed(LORA, LOHA_SPEC) == ModuleSpec((12, 10), 7, Spelling("lora"), SUM)
    assert summed(LOHA_SPEC, LOHA_SPEC) == ModuleSpec((12, 10), 8, Spelling("m"), SUM)
    assert summed(replace(LORA, rank=40), LOHA_SPEC) == ModuleSpec((12, 10), 10, Spelling("lora"), SUM)
    assert (SUM.tensors, SUM.additive) == ((), True)


def test_a_sum_of_full_differences_is_one_in_a_type_that_holds_both() -> None:
    assert summed(full(12, 10), full(12, 10)) == full(12, 10)
    assert summed(full(12, 10), full(12, 10, dtype="BF16")) == full(12, 10, dtype=F32)
    bias = full(12, suffix=".diff_b")
    assert summed(bias, full(12, suffix=".b_norm")) == bias
    assert summed(full(12, 10), LORA) == ModuleSpec((12, 10), 10, Spelling("m"), SUM)


def test_the_first_name_there_is_stays() -> None:
    nameless = replace(LOHA_SPEC, spelling=Spelling(""))
    joined = summed(nameless, LORA)
    assert joined is not None
    assert joined.spelling == Spelling("lora")


def test_a_kernel_that_one_format_does_not_tell_is_the_others() -> None:
    conv, flat = ModuleSpec((8, 6, 3, 3), 2, Spelling("conv")), of(LOHA, (8, 54), 4)
    for pair in ((conv, flat), (flat, conv)):
        joined = summed(*pair)
        assert joined is not None
        assert joined.shape == (8, 6, 3, 3)
    assert summed(conv, ModuleSpec((8, 54), 4, Spelling("flat"))) is None


def test_all_rows_are_the_module_itself() -> None:
    assert cut(LOHA_SPEC, 12) is LOHA_SPEC


def test_rows_of_plain_factors_keep_their_rank() -> None:
    assert cut(replace(LORA, rank=9), 4) == ModuleSpec((4, 10), 9, Spelling(""))


def test_rows_of_a_loha_are_a_loha_of_fewer_rows() -> None:
    part = cut(LOHA_SPEC, 3)
    assert (part.shape, part.rank, part.spelling) == ((3, 10), 3, Spelling(""))
    assert part.form is not None
    assert {suffix: tensor.shape for suffix, tensor in part.form.tensors} == {
        ".hada_w1_a": (3, 2), ".hada_w1_b": (2, 10), ".hada_w2_a": (3, 2), ".hada_w2_b": (2, 10),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("known", "sample"),
    [
        (LOHA_SPEC, loha(12, 10, 2)),
        (
            of(
                LOHA, (12, 5, 3, 3), 4, hada_w1_a=(2, 12), hada_w1_b=(2, 5), hada_w2_a=(2, 12),
                hada_w2_b=(2, 5), hada_t1=(2, 2, 3, 3), hada_t2=(2, 2, 3, 3),
            ),
            loha_core(12, 5, (3, 3), 2),
        ),
        (
            of(
                TUCKER, (12, 5, 3, 3), 4,
                **{"lora_down.weight": (4, 5), "lora_mid.weight": (4, 4, 3, 3), "lora_up.weight": (12, 4)},
            ),
            tucker(12, 5, (3, 3), 4),
        ),
        (full(12, 10), SORTS["full difference"](0, torch.float16)),
    ],
    ids=["LoHa", "LoHa with cores", "Tucker", "full difference"],
)  # fmt: skip
@pytest.mark.parametrize("rows", [(0, 3), (5, 12), (4, 5)])
def test_the_cut_spec_is_that_of_the_cut_value(
    known: ModuleSpec, sample: Sample, rows: tuple[int, int]
) -> None:
    part, value = cut(known, rows[1] - rows[0]), sample.structure.rows(*rows)
    assert part.rank == value.rank
    assert part.form is not None
    written = {role: tuple(tensor.shape) for role, tensor in value.written(1.0).tensors.items()}
    assert {suffix: tensor.shape for suffix, tensor in part.form.tensors} == written


def test_rows_of_a_lokr_and_of_a_sum_have_no_format() -> None:
    for known in (LOKR_SPEC, replace(LOHA_SPEC, form=SUM)):
        part = cut(known, 5)
        assert part.form is not None
        assert (part.form.tensors, part.form.additive, part.rank) == ((), True, min(known.rank, 5))


def test_rows_of_what_the_file_has_transposed_are_columns_there() -> None:
    part = cut(replace(LOHA_SPEC, spelling=Spelling("m", transposed=True)), 5)
    assert part.form is not None
    assert part.form.tensors == ()


OF_ONE_SHAPE = {
    "plain": plain(12, 10, 9),
    "plain of low rank": plain(12, 10, 2),
    "Tucker": tucker(12, 10, (), 3),
    "LoHa": loha(12, 10, 2),
    "LoHa of full rank": loha(12, 10, 5),
    "LoKr": lokr((2, 5), (6, 2), (None, 1)),
    "full": SORTS["full difference"](0, torch.float32),
}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(OF_ONE_SHAPE)), min_size=1, max_size=4), st.integers(1, 12))
def test_ranks_of_sums_and_rows_are_those_that_values_have(sorts: list[str], height: int) -> None:
    """Specs fold from the left, values all at once; cut before or after, both ways."""
    deltas = [OF_ONE_SHAPE[sort].delta() for sort in sorts]
    specs = [
        ModuleSpec((12, 10), d.rank, Spelling("x"), None if d.plain else Form("a format")) for d in deltas
    ]
    value = deltas[0].joined(*deltas[1:])
    joined = reduce(both, specs)
    assert (joined.rank, joined.form is None) == (value.rank, value.plain)
    assert cut(joined, height).rank == value.rows(0, height).rank
    assert reduce(both, [cut(spec, height) for spec in specs]).rank == value.rows(0, height).rank


def both(first: ModuleSpec, second: ModuleSpec) -> ModuleSpec:
    joined = summed(first, second)
    assert joined is not None
    return joined


def test_biases_and_norms_pass_where_deltas_are_factored() -> None:
    bias = full(12)
    assert passes(bias)
    assert factored(bias, 4) is bias
    assert not passes(full(12, 10))


def test_factored_modules_are_plain_and_within_the_rank() -> None:
    assert factored(LOHA_SPEC, 3) == ModuleSpec((12, 10), 3, Spelling("m"))
    assert factored(LOHA_SPEC, 99) == ModuleSpec((12, 10), 4, Spelling("m"))
    assert factored(LORA, 3) == LORA


def adapter(*modules: ModuleSpec) -> AdapterSpec:
    return AdapterSpec("sd1", {ModuleId("unet", f"m{i}.weight"): m for i, m in enumerate(modules)}, F16)


def test_what_is_no_delta_is_refused_by_name() -> None:
    dora, oft = (
        ModuleSpec((12, 10), 0, Spelling("m"), Form(name, additive=False)) for name in ("DoRA", "OFT")
    )
    needs_deltas(adapter(LORA, LOHA_SPEC, full(12)), "shuffle")
    with pytest.raises(RecipeError) as caught:
        needs_deltas(adapter(LORA, oft, dora), "svd-resize")
    assert str(caught.value) == (
        "error: m1.weight: 'svd-resize' takes LoRAs that add to a weight; 2 modules of this one are"
        " DoRA and OFT, a function of the weight"
        " - merge it into a checkpoint and extract a LoRA from the difference"
    )
    assert (caught.value.code, caught.value.option) == ("not-additive", "svd-resize")
    with pytest.raises(RecipeError, match="1 module of this one is DoRA, a function of the weight"):
        needs_deltas(adapter(dora), "shuffle")


def test_the_names_are_what_people_say() -> None:
    assert (TUCKER, LOHA, LOKR, FULL) == ("Tucker LoRA", "LoHa", "LoKr", "full difference")
    assert lokr((2, 3), (6, 4)).structure.rank == LOKR_SPEC.rank
