"""A merge is the rounded float64 sum, made block by block; the rest is copied as bytes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError, RecipeError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.shuffle import shuffle
from lorapipe.weights.checkpoints import edits as under_test
from lorapipe.weights.checkpoints.checkpoint import Checkpoint, merge
from lorapipe.weights.inference.binding import bind
from lorapipe.weights.specs import ModuleId, TensorSpec
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import LowRank
from lorapipe.weights.tensors import from_bytes
from tests.weights.samples import (
    CONV,
    LINEAR,
    POINT,
    TEXT,
    Matrix,
    Memory,
    adapter,
    adapter_of,
    checkpoint_spec,
    delta,
    dense,
    error,
    to_numpy,
)
from tests.weights.test_tensors import nearest

WEIGHTS = {LINEAR.key: (12, 10), CONV.key: (9, 5, 3, 3), POINT.key: (8, 6), TEXT.key: (7, 11)}


def model(dtype: torch.dtype, shapes: dict[str, tuple[int, ...]] | None = None) -> Checkpoint:
    rng = np.random.default_rng(3)
    tensors = {k: torch.from_numpy(rng.standard_normal(s)).to(dtype) for k, s in (shapes or WEIGHTS).items()}
    tensors["vae.weight"] = torch.from_numpy(rng.standard_normal((5, 4))).to(dtype)
    tensors["position_ids"] = torch.arange(7)
    source = Memory(tensors)
    return Checkpoint(checkpoint_spec(source), source)


def merged(base: Checkpoint, *terms: tuple[float, Adapter]) -> Checkpoint:
    return merge(base, [(weight, value, bind(value.spec, base.spec)) for weight, value in terms])


def result(value: Checkpoint, key: str, dtype: str | None = None, compute: str = "float64") -> torch.Tensor:
    data = bytearray().join(value.chunks(key, dtype, compute=compute))
    spec = value.spec.tensors[key]
    return from_bytes(data, TensorSpec(dtype if dtype and spec.dtype != "I64" else spec.dtype, spec.shape))


def reference(base: Checkpoint, key: str, *terms: tuple[float, Matrix]) -> Matrix:
    source = base.source
    assert isinstance(source, Memory)
    total = to_numpy(source.held[key]).reshape(source.held[key].shape[0], -1)
    for weight, matrix in terms:
        total = total + weight * matrix
    return total


@pytest.fixture
def loras() -> tuple[Adapter, Adapter]:
    return adapter(8, 0.5), adapter(12, seed=40, dtype=torch.float16)


@pytest.mark.parametrize(("dtype", "name"), [(torch.float16, "F16"), (torch.bfloat16, "BF16")])
def test_in_half_types_every_value_is_the_rounded_float64_sum(
    loras: tuple[Adapter, Adapter], dtype: torch.dtype, name: str
) -> None:
    base = model(dtype)
    value = merged(base, (0.7, loras[0]), (-0.3, loras[1]))
    for module in (LINEAR, CONV, POINT, TEXT):
        terms = [(0.7, dense(loras[0].modules[module])), (-0.3, dense(loras[1].modules[module]))]
        expected = nearest(reference(base, module.key, *terms), name)
        np.testing.assert_array_equal(to_numpy(result(value, module.key)).reshape(expected.shape), expected)


@pytest.mark.parametrize("compute", ["float64", "float32"])
def test_in_float32_the_sum_holds_to_1e_6(loras: tuple[Adapter, Adapter], compute: str) -> None:
    base = model(torch.float32)
    value = merged(base, (0.7, loras[0]), (-0.3, loras[1]))
    for module in (LINEAR, CONV, POINT, TEXT):
        terms = [(0.7, dense(loras[0].modules[module])), (-0.3, dense(loras[1].modules[module]))]
        added = reference(base, module.key, *terms) - reference(base, module.key)
        out = to_numpy(result(value, module.key, compute=compute)).reshape(added.shape)
        assert error(out - reference(base, module.key), terms) < 1e-6


def test_a_tie_of_the_sum_is_not_rounded_twice() -> None:
    """1 + 2**-11 + 2**-40 lies just above a tie of fp16; by way of float32 it would fall on it."""
    base = model(torch.float16, {"w": (1, 1)})
    assert isinstance(base.source, Memory)
    base.source.held["w"] = torch.ones(1, 1, dtype=torch.float16)
    factors = LowRank(torch.tensor([[2.0**-11 + 2.0**-34]]), torch.ones(1, 1))
    value = merged(base, (1.0, adapter_of({ModuleId("unet", "w"): Delta((1, 1), (Term(1.0, factors),))})))
    assert result(value, "w").item() == 1 + 2**-10


def test_a_named_dtype_casts_floating_tensors_only(loras: tuple[Adapter, Adapter]) -> None:
    base = model(torch.float16)
    value = merged(base, (1.0, loras[0]))
    expected = reference(base, LINEAR.key, (1.0, dense(loras[0].modules[LINEAR])))
    np.testing.assert_array_equal(result(value, LINEAR.key, "F32").numpy(), expected.astype(np.float32))
    np.testing.assert_array_equal(to_numpy(result(value, "vae.weight", "F32")), reference(base, "vae.weight"))
    assert result(value, "position_ids", "F32").tolist() == list(range(7))


def test_an_untouched_tensor_is_its_bytes_even_where_they_are_nan(loras: tuple[Adapter, Adapter]) -> None:
    base = model(torch.float16)
    assert isinstance(base.source, Memory)
    held = base.source.held["vae.weight"]
    held[0, 0] = math.nan
    held.view(torch.int16)[0, 1] = 0x7E01  # a NaN whose payload arithmetic would not keep
    data = b"".join(bytes(c) for c in merged(base, (1.0, loras[0])).chunks("vae.weight"))
    assert data == held.view(torch.uint8).numpy().tobytes()


def test_a_cast_passes_nan_through_and_refuses_an_overflow() -> None:
    base = model(torch.float32)
    assert isinstance(base.source, Memory)
    base.source.held["vae.weight"][0, 0] = math.nan
    assert torch.isnan(result(base, "vae.weight", "F16")[0, 0])
    base.source.held["vae.weight"][1, 1] = 1e5
    with pytest.raises(BuildError) as caught:
        result(base, "vae.weight", "F16")
    assert (caught.value.code, caught.value.module) == ("overflow", "vae.weight")


@pytest.mark.parametrize(("weight_shape", "delta_shape"), [((8, 6, 1, 1), (8, 6)), ((8, 6), (8, 6, 1, 1))])
def test_linear_deltas_fit_1x1_kernels_and_the_other_way_round(
    weight_shape: tuple[int, ...], delta_shape: tuple[int, ...]
) -> None:
    base = model(torch.float32, {POINT.key: weight_shape})
    lora = adapter_of({POINT: delta(delta_shape, (1.0, 3))})
    out = result(merged(base, (1.0, lora)), POINT.key)
    assert tuple(out.shape) == weight_shape
    expected = reference(base, POINT.key, (1.0, dense(lora.modules[POINT])))
    np.testing.assert_allclose(to_numpy(out).reshape(8, 6), expected, rtol=1e-6)


def fused(dtype: torch.dtype = torch.float32) -> tuple[Checkpoint, Adapter]:
    parts = [ModuleId("te2", "in_proj_weight", r) for r in [(0, 4), (8, 12)]]
    lora = adapter_of({m: delta((4, 6), (1.0, 2), seed=i) for i, m in enumerate(parts)})
    return model(dtype, {"in_proj_weight": (12, 6)}), lora


def test_rows_of_a_fused_weight_are_added_where_they_belong() -> None:
    base, lora = fused()
    matrix = np.zeros((12, 6))
    for module, value in lora.modules.items():
        start, stop = module.rows or (0, 0)
        matrix[start:stop] = dense(value)
    out = to_numpy(result(merged(base, (0.5, lora)), "in_proj_weight"))
    np.testing.assert_array_equal(out[4:8], reference(base, "in_proj_weight")[4:8])
    np.testing.assert_allclose(out, reference(base, "in_proj_weight", (0.5, matrix)), rtol=1e-6)


@pytest.mark.parametrize("elements", [1, 7, 13, 36, 10_000])
def test_blocks_of_any_size_give_the_same_sum(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    base, lora = fused(torch.float16)
    whole = result(merged(base, (0.5, lora)), "in_proj_weight")
    monkeypatch.setattr(under_test, "BLOCK_ELEMENTS", elements)
    assert torch.equal(result(merged(base, (0.5, lora)), "in_proj_weight"), whole)


def test_no_more_than_a_block_is_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "BLOCK_ELEMENTS", 30)
    base = model(torch.float16)
    chunks = merged(base, (1.0, adapter())).chunks(LINEAR.key)
    assert isinstance(base.source, Memory)
    next(chunks)
    assert base.source.reads == [(LINEAR.key, 0, 3)]


def test_untouched_tensors_are_copied_slab_by_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "BLOCK_ELEMENTS", 4)
    monkeypatch.setattr(under_test, "SLAB_ELEMENTS", 8)
    base = model(torch.float16)
    chunks = [bytes(c) for c in base.chunks("vae.weight")]
    assert [len(c) for c in chunks] == [16, 16, 8]


@pytest.mark.parametrize("slab_elements", [1, 40, 10_000])
def test_slabs_of_any_size_are_the_tensor_in_pieces(
    slab_elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "BLOCK_ELEMENTS", 16)
    base, lora = fused(torch.float16)
    value = merged(base, (0.5, lora))
    whole = b"".join(bytes(c) for c in value.chunks("in_proj_weight"))
    monkeypatch.setattr(under_test, "SLAB_ELEMENTS", slab_elements)

    slabs = list(value.slabs("in_proj_weight"))

    pieces = [c for slab in slabs for c in value.chunks("in_proj_weight", slab=slab)]
    assert b"".join(bytes(piece) for piece in pieces) == whole
    assert len(slabs) > 1 or slab_elements == 10_000


def test_merging_reads_nothing() -> None:
    base = model(torch.float16)
    value = merged(base, (1.0, adapter()))
    assert isinstance(value.source, Memory)
    assert value.source.reads == []
    assert value.spec.touched == set(WEIGHTS)


def test_merges_chain_in_order(loras: tuple[Adapter, Adapter]) -> None:
    base = model(torch.float16)
    chained = merged(merged(base, (0.7, loras[0])), (-0.3, loras[1]))
    at_once = merged(base, (0.7, loras[0]), (-0.3, loras[1]))
    assert [e.value.terms[0].coefficient for e in chained.edits[LINEAR.key]] == [0.35, -0.3]
    assert torch.equal(result(chained, LINEAR.key), result(at_once, LINEAR.key))


def test_a_merge_leaves_its_base_alone() -> None:
    base = model(torch.float16)
    merged(base, (1.0, adapter()))
    assert (base.edits, base.spec.touched) == ({}, frozenset())


def test_a_term_of_weight_zero_touches_nothing(loras: tuple[Adapter, Adapter]) -> None:
    base = model(torch.float16)
    small = adapter_of({LINEAR: delta((12, 10), (1.0, 2))})
    assert set(merged(base, (0.0, loras[0]), (1.0, small)).edits) == {LINEAR.key}
    with pytest.raises(RecipeError, match="no LoRA adds anything"):
        merged(base, (0.0, loras[0]))


def test_a_shuffled_lora_merges_the_same_and_hides() -> None:
    base = model(torch.float32)
    lora = adapter(4)
    plain, hidden = merged(base, (1.0, lora)), merged(base, (1.0, shuffle(lora)))
    np.testing.assert_allclose(result(plain, CONV.key), result(hidden, CONV.key), rtol=1e-5, atol=1e-6)
    assert (plain.spec.hidden, hidden.spec.hidden) == (False, True)


def test_scalars_and_empty_tensors_are_copied_and_cast() -> None:
    source = Memory({"s": torch.tensor(2.5), "n": torch.tensor(3), "e": torch.zeros(0, 4)})
    value = Checkpoint(checkpoint_spec(source), source)
    assert result(value, "s").item() == 2.5
    assert result(value, "s", "F16").item() == 2.5
    assert result(value, "n", "F16").item() == 3
    assert result(value, "e", "F16").shape == (0, 4)


def test_an_fp8_weight_is_cast_up_summed_and_rounded_once() -> None:
    base = model(torch.float8_e4m3fn, {LINEAR.key: (12, 10)})
    lora = adapter_of({LINEAR: delta((12, 10), (0.1, 3))})
    out = to_numpy(result(merged(base, (1.0, lora)), LINEAR.key))
    expected = reference(base, LINEAR.key, (1.0, dense(lora.modules[LINEAR])))
    np.testing.assert_array_equal(out, nearest(expected, "F8_E4M3"))


def test_nan_in_a_touched_weight_is_the_checkpoints_fault() -> None:
    base = model(torch.float16)
    assert isinstance(base.source, Memory)
    base.source.held[LINEAR.key][3, 3] = math.nan
    with pytest.raises(BuildError) as caught:
        result(merged(base, (1.0, adapter())), LINEAR.key)
    assert str(caught.value) == (
        "error: attn.to_q.weight: the checkpoint's own tensor holds NaN or Inf where a LoRA is to be added"
        " - the checkpoint is damaged"
    )


def test_nan_in_a_lora_names_its_module() -> None:
    base, lora = fused()
    module = list(lora.modules)[1]
    spoiled = LowRank(torch.full((4, 2), math.nan), torch.ones(2, 6))
    bad = adapter_of({**lora.modules, module: Delta((4, 6), (Term(1.0, spoiled),))})
    only = adapter_of({module: bad.modules[module]})
    with pytest.raises(BuildError) as caught:
        result(merged(base, (1.0, only)), "in_proj_weight")
    assert str(caught.value) == "error: in_proj_weight[8:12]: NaN or Inf in what is computed"


def test_an_overflow_of_the_sum_names_the_module() -> None:
    with pytest.raises(BuildError) as caught:
        result(merged(model(torch.float16), (1e6, adapter())), LINEAR.key)
    assert (caught.value.code, caught.value.module) == ("overflow", "attn.to_q.weight")


def test_values_that_become_zero_are_reported() -> None:
    source = Memory({"w": torch.tensor([[1e-9, 1.0]])})
    counts: list[int] = []
    value = Checkpoint(checkpoint_spec(source), source)
    list(value.chunks("w", "F16", underflow=counts.append))
    assert counts == [1]


@pytest.mark.parametrize("rows", [(0, 9), (2, 7), (8, 9)])
def test_values_are_the_sum_before_it_is_rounded(
    loras: tuple[Adapter, Adapter], rows: tuple[int, int]
) -> None:
    base = model(torch.float16)
    value = merged(base, (0.7, loras[0]), (-0.3, loras[1]))
    start, stop = rows
    found = np.zeros((stop - start, 45))
    for row, block in value.values(CONV.key, start, stop):
        found[row - start : row - start + len(block)] = to_numpy(block)
    terms = [(0.7, dense(loras[0].modules[CONV])), (-0.3, dense(loras[1].modules[CONV]))]
    np.testing.assert_allclose(found, reference(base, CONV.key, *terms)[start:stop], rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(to_numpy(value.rows(CONV.key, start, stop)), found)


@pytest.mark.parametrize(
    ("shape", "matrix"), [((), (1, 1)), ((3,), (3, 1)), ((2, 0), (2, 0)), ((0, 3), (0, 3))]
)
def test_a_number_a_vector_and_an_empty_tensor_are_matrices_of_rows(
    shape: tuple[int, ...], matrix: tuple[int, int]
) -> None:
    source = Memory({"x": torch.arange(math.prod(shape), dtype=torch.float32).add(1).reshape(shape)})
    found = Checkpoint(checkpoint_spec(source), source).rows("x", 0, matrix[0])
    np.testing.assert_array_equal(to_numpy(found), np.arange(1.0, 1 + math.prod(shape)).reshape(matrix))


def test_values_may_be_written_to() -> None:
    base = model(torch.float64)
    for _ in range(2):
        ((_, block),) = base.values(LINEAR.key, 0, 12)
        np.testing.assert_array_equal(to_numpy(block), reference(base, LINEAR.key))
        block.zero_()


def test_a_delta_on_the_latents_leaves_an_inpainting_models_other_inputs_as_they_are() -> None:
    shapes = {CONV.key: (9, 9, 3, 3)}
    base = model(torch.float16, shapes)
    four, nine = (delta((9, inputs, 3, 3), (0.5, 3), seed=inputs) for inputs in (4, 9))
    for value, added in ((four, dense(four)), (nine, dense(nine))):
        out = result(merged(base, (0.7, adapter_of({CONV: value}))), CONV.key)
        wide = np.zeros((9, 81))
        wide[:, : added.shape[1]] = added
        expected = nearest(reference(base, CONV.key, (0.7, wide)), "F16")
        np.testing.assert_array_equal(to_numpy(out).reshape(9, 81), expected)
    both = merged(base, (0.7, adapter_of({CONV: four})), (-0.2, adapter_of({CONV: nine})))
    wide = np.zeros((9, 81))
    wide[:, :36] = 0.7 * dense(four)
    expected = reference(base, CONV.key, (1.0, wide - 0.2 * dense(nine)))
    assert np.abs(to_numpy(result(both, CONV.key)).reshape(9, 81) - expected).max() < 2e-3
