"""Merges of operators: what they see, in which order, at which rows, and how the result is rounded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import BuildError, RecipeError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.checkpoints import edits as under_test
from lorapipe.weights.checkpoints.checkpoint import Checkpoint, merge
from lorapipe.weights.inference.binding import bind
from lorapipe.weights.inference.cuts import ANYWHERE, Cuts
from lorapipe.weights.operators.dora import DoRA, epsilon
from lorapipe.weights.operators.full_weight import FullWeight, Padded
from lorapipe.weights.operators.ia3 import IA3
from lorapipe.weights.operators.oft import OFT, Rotations
from lorapipe.weights.operators.operator import Operated, Operator
from lorapipe.weights.specs import (
    AdapterSpec,
    CheckpointSpec,
    Form,
    ModuleId,
    ModuleSpec,
    Place,
    Spelling,
    TensorSpec,
)
from lorapipe.weights.structures.delta import Delta
from lorapipe.weights.structures.structure import LowRank
from lorapipe.weights.tensors import from_bytes
from tests.weights.samples import Matrix, Memory, checkpoint_spec, delta, dense, to_numpy

KEY = "attn.qkv.weight"
SHAPE = (24, 10)
WHOLE = ModuleId("unet", KEY)


def model(
    tensors: Mapping[str, torch.Tensor], keys: Mapping[str, tuple[Place, ...]] | None = None
) -> Checkpoint:
    source = Memory(tensors)
    spec = checkpoint_spec(source)
    return Checkpoint(spec if keys is None else CheckpointSpec("sd1", spec.tensors, keys), source)


def weight(*shape: int, seed: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape or SHAPE)).to(dtype)


def lora(
    value: Delta | Operator, form: Form | None = None, module: ModuleId = WHOLE, **said: object
) -> Adapter:
    """A LoRA of one module: a delta, or an operator of the format ``form``."""
    shape = said.get("shape", value.shape if isinstance(value, Delta) else SHAPE)
    assert isinstance(shape, tuple)
    rank = value.rank if isinstance(value, Delta) else 0
    spec = AdapterSpec("sd1", {module: ModuleSpec(shape, rank, Spelling("x"), form)}, "F64")
    held = value if isinstance(value, Delta) else Operated(shape, 1.0, lambda: value)
    return Adapter(spec, {module: held})


def form(name: str, cuts: Cuts = ANYWHERE, **said: bool) -> Form:
    return Form(name, additive=False, cuts=cuts, **said)


def merged(base: Checkpoint, *terms: tuple[float, Adapter], rule: str = "exact") -> Checkpoint:
    bound = [(by, value, bind(value.spec, base.spec)) for by, value in terms]
    assert not any(binding.problems for _, _, binding in bound)
    return merge(base, bound, rule)


def made(value: Checkpoint, key: str = KEY, compute: str = "float64") -> torch.Tensor:
    data = bytearray().join(value.chunks(key, compute=compute))
    return from_bytes(data, TensorSpec(value.spec.tensors[key].dtype, value.spec.tensors[key].shape))


def ia3(height: int = 24, seed: int = 5) -> IA3:
    return IA3(weight(height, seed=seed), on_input=False)


def dora(height: int = 24, columns: int = 10) -> DoRA:
    factors = LowRank(weight(height, 2, seed=6), weight(2, columns, seed=7))
    return DoRA(factors, 0.5, weight(height, seed=8).abs())


def oft(height: int = 24, size: int = 4, alpha: float = 0.01) -> OFT:
    return OFT((Rotations.of(weight(height // size, size, size, seed=9), height),), None, alpha)


def close(found: torch.Tensor, expected: Matrix, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(
        to_numpy(found).reshape(expected.shape), expected, rtol=tolerance, atol=tolerance
    )


def row_scaled(values: Matrix, gain: torch.Tensor, by: float = 1.0) -> Matrix:
    return np.stack([row * (1.0 + by * g) for row, g in zip(values, to_numpy(gain), strict=True)])


def normalised(values: Matrix, operator: DoRA) -> Matrix:
    assert isinstance(operator.delta, LowRank)
    v = values + 0.5 * to_numpy(operator.delta.up) @ to_numpy(operator.delta.down)
    return np.stack(
        [
            row * m / (np.sqrt((row**2).sum()) + epsilon(operator.magnitude.dtype))
            for row, m in zip(v, to_numpy(operator.magnitude), strict=True)
        ]
    )


# --- what an operator sees ----------------------------------------------------------------


def test_an_operator_sees_the_deltas_of_its_own_merge_wherever_they_stand() -> None:
    base, added = weight(), delta(SHAPE, (0.5, 3))
    expected = normalised(to_numpy(base) + dense(added), dora())
    for terms in (
        [(1.0, lora(added)), (1.0, lora(dora(), form("DoRA")))],
        [(1.0, lora(dora(), form("DoRA"))), (1.0, lora(added))],
    ):
        close(made(merged(model({KEY: base}), *terms)), expected)


def test_chained_merges_come_one_after_the_other() -> None:
    base, added = weight(), delta(SHAPE, (0.5, 3))
    first = merged(model({KEY: base}), (1.0, lora(dora(), form("DoRA"))))
    close(made(merged(first, (1.0, lora(added)))), normalised(to_numpy(base), dora()) + dense(added))


def test_two_operators_are_chained_in_their_order() -> None:
    base = weight()
    rows_first = merged(model({KEY: base}), (1.0, lora(ia3(), form("IA3"))))
    found = made(merged(rows_first, (1.0, lora(dora(), form("DoRA")))))
    close(found, normalised(row_scaled(to_numpy(base), ia3().gain), dora()))
    norm_first = merged(model({KEY: base}), (1.0, lora(dora(), form("DoRA"))))
    other = made(merged(norm_first, (1.0, lora(ia3(), form("IA3")))))
    close(other, row_scaled(normalised(to_numpy(base), dora()), ia3().gain))
    assert not torch.allclose(found, other)


def test_two_operators_in_one_merge_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"\(IA3\) and 'a LoRA' \(DoRA\) are both functions of a weight"):
        merged(model({KEY: weight()}), (1.0, lora(ia3(), form("IA3"))), (0.5, lora(dora(), form("DoRA"))))


@pytest.mark.parametrize("by", [0.3, -0.5, 2.0])
def test_the_weight_of_a_term_is_the_strength_and_multiplies_with_a_scale(by: float) -> None:
    base = weight()
    adapter = lora(dora(), form("DoRA"))
    scaled = Adapter(adapter.spec, {WHOLE: adapter.modules[WHOLE].scaled(0.5)})
    full = normalised(to_numpy(base), dora())
    found = made(merged(model({KEY: base}), (by, scaled)))
    close(found, to_numpy(base) + 0.5 * by * (full - to_numpy(base)))


def test_each_merge_of_a_chain_has_its_own_rule() -> None:
    base = weight()
    by_lycoris = merged(model({KEY: base}), (0.5, lora(dora(), form("DoRA"))), rule="lycoris")
    both = merged(by_lycoris, (0.5, lora(FullWeight(weight(seed=11)), form("full weight"))), rule="comfy")
    assert torch.equal(made(both), weight(seed=11))
    exact = merged(by_lycoris, (0.5, lora(FullWeight(weight(seed=11)), form("full weight"))))
    close(made(exact), (to_numpy(made(by_lycoris)) + to_numpy(weight(seed=11))) / 2)


# --- rows, transposes, weights that a file keeps apart ---------------------------------------


def test_rows_of_a_fused_weight_are_changed_alone_beside_a_delta_of_others() -> None:
    base, added = weight(), delta((8, 10), (1.0, 2))
    terms = [
        (1.0, lora(ia3(8), form("IA3"), ModuleId("unet", KEY, (8, 16)), shape=(8, 0))),
        (1.0, lora(added, module=ModuleId("unet", KEY, (0, 8)))),
        (1.0, lora(oft(8), form("OFT", ((8, 4),)), ModuleId("unet", KEY, (16, 24)), shape=(8, 0))),
    ]
    found = to_numpy(made(merged(model({KEY: base}), *terms)))
    exact = to_numpy(base)
    np.testing.assert_allclose(found[:8], exact[:8] + dense(added), rtol=1e-12)
    np.testing.assert_allclose(found[8:16], row_scaled(exact[8:16], ia3(8).gain), rtol=1e-12)
    turned = oft(8).apply(base[16:], 1.0)
    np.testing.assert_array_equal(found[16:], to_numpy(turned))


APART = {KEY: (Place("q", (0, 8)), Place("k", (8, 16)), Place("v", (16, 24)))}


@pytest.mark.parametrize(
    ("operator", "known"),
    [(dora(), form("DoRA", ((24, 1),))), (oft(), form("OFT", ((24, 4),))), (ia3(), form("IA3"))],
)
def test_a_fused_weight_that_a_file_keeps_apart_is_changed_as_if_it_were_one(
    operator: Operator, known: Form
) -> None:
    base = weight()
    whole = made(merged(model({KEY: base}), (0.7, lora(operator, known))))
    parts = model({"q": base[:8], "k": base[8:16], "v": base[16:]}, APART)
    found = merged(parts, (0.7, lora(operator, known)))
    assert torch.equal(torch.cat([made(found, key) for key in "qkv"]), whole)


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (form("DoRA", ()), "DoRA cannot be cut at rows 0:8, which the checkpoint keeps apart"),
        (form("OFT", ((24, 12),)), "OFT cannot be cut at rows 0:8, which the checkpoint keeps apart"),
    ],
)
def test_what_sees_several_parts_at_once_is_refused_by_the_plan(known: Form, reason: str) -> None:
    parts = model({key: weight(8, 10) for key in "qkv"}, APART)
    binding = bind(lora(dora(), known).spec, parts.spec)
    assert [problem.reason for problem in binding.problems] == [reason]


def test_a_format_that_knows_no_rows_takes_those_that_the_file_has() -> None:
    base, gains = weight(), IA3(weight(10, seed=5), on_input=True)
    parts = model({"q": base[:8], "k": base[8:16], "v": base[16:]}, APART)
    found = merged(parts, (1.0, lora(gains, form("IA3"), shape=(0, 10))))
    close(torch.cat([made(found, key) for key in "qkv"]), to_numpy(base) * (1.0 + to_numpy(gains.gain)))


def test_halves_in_another_order_are_put_where_they_belong() -> None:
    base = weight()
    swapped = {KEY: (Place("t", (0, 12), first=12), Place("t", (12, 24), first=0))}
    found = made(
        merged(
            model({"t": torch.cat([base[12:], base[:12]])}, swapped),
            (1.0, lora(dora(), form("DoRA", ((24, 1),)))),
        ),
        "t",
    )
    close(torch.cat([found[12:], found[:12]]), normalised(to_numpy(base), dora()))


def test_a_transposed_tensor_is_changed_as_its_weight() -> None:
    base = weight()
    place = {KEY: (Place("t", transposed=True),)}
    found = made(merged(model({"t": base.T.contiguous()}, place), (0.7, lora(dora(), form("DoRA")))), "t")
    expected = to_numpy(base) + 0.7 * (normalised(to_numpy(base), dora()) - to_numpy(base))
    close(found, expected.T)


def test_pefts_gain_changes_the_bias_too_where_there_is_one() -> None:
    tensors = {KEY: weight(), "attn.qkv.bias": weight(24, seed=4)}
    gain = IA3(weight(24, seed=5), on_input=False, of_peft=True)
    adapter = lora(gain, form("PEFT IA3", biased=True), shape=(24, 0))
    found = merged(model(tensors), (0.5, adapter))
    assert found.spec.touched == {KEY, "attn.qkv.bias"}
    close(
        made(found, "attn.qkv.bias"),
        to_numpy(tensors["attn.qkv.bias"]) * (1 + 0.5 * (to_numpy(gain.gain) - 1)),
    )
    alone = merged(model({KEY: weight()}), (0.5, adapter))
    assert alone.spec.touched == {KEY}


# --- slabs ------------------------------------------------------------------------------------


@given(st.integers(1, 300))
def test_slabs_do_not_change_what_an_operator_makes(elements: int) -> None:
    base = weight()
    value = merged(
        model({KEY: base}), (0.7, lora(oft(), form("OFT", ((24, 4),)))), (1.0, lora(delta(SHAPE, (0.5, 3))))
    )
    whole = made(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(under_test, "OPERATED_ELEMENTS", elements)
        assert len(list(value.slabs(KEY))) == -(-24 // max(4, elements // 10 // 4 * 4))
        close(made(value), to_numpy(whole))


def test_a_weight_that_must_be_seen_whole_is_one_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "OPERATED_ELEMENTS", 20)
    base = weight()
    factors = LowRank(weight(24, 2, seed=6), weight(2, 10, seed=7))
    on_input = DoRA(factors, 0.5, weight(10, seed=8).abs(), on_input=True)
    value = merged(model({KEY: base}), (1.0, lora(on_input, form("DoRA", ()))))
    assert list(value.slabs(KEY)) == [(0, 24)]
    assert torch.equal(made(value), on_input.apply(base, 1.0))


def test_the_spec_says_how_much_an_operator_has_to_see() -> None:
    assert merged(model({KEY: weight()}), (1.0, lora(dora(), form("DoRA", ())))).spec.held == 240
    assert merged(model({KEY: weight()}), (1.0, lora(delta(SHAPE, (1.0, 2))))).spec.held == 0


# --- shapes and types ---------------------------------------------------------------------------


def test_a_kernel_is_seen_in_its_shape() -> None:
    base = weight(12, 4, 3, 3)
    gains = IA3(weight(4, seed=5), on_input=True)
    found = made(merged(model({KEY: base}), (1.0, lora(gains, form("IA3"), shape=(0, 0)))))
    close(found, to_numpy(base) * (1.0 + to_numpy(gains.gain).reshape(1, 4, 1, 1)))


@pytest.mark.parametrize("shape", [(24,), ()])
def test_a_norm_and_a_single_number_can_be_set(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    base, value = (torch.from_numpy(np.asarray(rng.standard_normal(shape))) for _ in range(2))
    adapter = lora(FullWeight(value), form("full weight", ()), shape=shape)
    assert torch.equal(made(merged(model({KEY: base}), (1.0, adapter))), value)
    close(made(merged(model({KEY: base}), (0.25, adapter))), 0.75 * to_numpy(base) + 0.25 * to_numpy(value))


def padded(columns: int = 16) -> Adapter:
    factors = LowRank(weight(24, 2, seed=6), weight(2, columns, seed=7))
    known = form("padded LoRA", (), grows=True)
    return lora(Padded(factors, 0.5, (24, columns)), known, shape=(24, columns))


def test_a_padded_weight_is_larger_in_the_result_and_for_what_comes_after() -> None:
    base, wide = weight(), delta((24, 16), (1.0, 2))
    narrow = delta(SHAPE, (1.0, 2), seed=5)
    value = merged(model({KEY: base}), (2.0, padded()), (1.0, lora(narrow)))
    assert value.spec.tensors[KEY] == TensorSpec("F64", (24, 16))
    factors = padded().modules[WHOLE].read().delta  # type: ignore[union-attr]
    expected = np.zeros((24, 16))
    expected[:, :10] = to_numpy(base) + dense(narrow)
    expected += 2.0 * 0.5 * to_numpy(factors.up) @ to_numpy(factors.down)
    close(made(value), expected)
    close(made(merged(value, (1.0, lora(wide)))), expected + dense(wide))


def test_rows_are_padded_too() -> None:
    factors = LowRank(weight(30, 2, seed=6), weight(2, 10, seed=7))
    adapter = lora(Padded(factors, 1.0, (30, 10)), form("padded LoRA", (), grows=True), shape=(30, 10))
    found = to_numpy(made(merged(model({KEY: weight()}), (1.0, adapter))))
    np.testing.assert_allclose(found[24:], (to_numpy(factors.up) @ to_numpy(factors.down))[24:], rtol=1e-12)


def test_a_weight_that_is_no_single_tensor_cannot_be_padded() -> None:
    parts = model({key: weight(8, 10) for key in "qkv"}, APART)
    (problem,) = bind(padded(10).spec, parts.spec).problems
    assert "cannot be cut" in problem.reason
    turned = model({"t": weight(10, 24)}, {KEY: (Place("t", transposed=True),)})
    (problem,) = bind(padded(16).spec, turned.spec).problems
    assert problem.reason == "the weight is to be padded, which the checkpoint does not keep as one tensor"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("operator", [dora(), oft(), ia3()])
def test_half_types_are_computed_in_float64_and_rounded_once(dtype: torch.dtype, operator: Operator) -> None:
    base = weight(dtype=dtype)
    exact = operator.apply(base.double(), 0.7)
    found = made(merged(model({KEY: base}), (0.7, lora(operator, form("IA3")))))
    assert found.dtype == dtype
    step = torch.finfo(dtype).eps
    assert bool(((found.double() - exact).abs() <= step / 2 * exact.abs() * (1 + 2 * step)).all())


def test_float32_is_computed_in_when_that_is_asked_for() -> None:
    base = weight(dtype=torch.float32)
    value = merged(model({KEY: base}), (1.0, lora(dora(), form("DoRA"))))
    assert torch.equal(made(value, compute="float32"), dora().apply(base, 1.0))


# --- faults ----------------------------------------------------------------------------------------


def test_an_operators_fault_names_its_module() -> None:
    with pytest.raises(BuildError) as caught:
        made(merged(model({KEY: weight()}), (1.0, lora(ia3(23), form("IA3"), shape=(0, 0)))))
    assert str(caught.value) == f"error: {KEY}: 23 gains are not for 24 rows"


def test_a_rule_that_a_format_has_not_is_refused_before_anything_is_read() -> None:
    def unread() -> Operator:
        raise AssertionError

    adapter = lora(ia3(), form("IA3"))
    silent = Adapter(adapter.spec, {WHOLE: Operated(SHAPE, 1.0, unread)})
    with pytest.raises(RecipeError, match="IA3, which ComfyUI does not have"):
        merged(model({KEY: weight()}), (1.0, silent), rule="comfy")


def test_a_result_that_is_not_finite_names_the_module() -> None:
    huge = IA3(torch.full((24,), 1e300, dtype=torch.float64), on_input=False)
    with pytest.raises(BuildError) as caught:
        made(merged(model({KEY: weight(dtype=torch.float16)}), (1.0, lora(huge, form("IA3")))))
    assert (caught.value.code, caught.value.module) == ("overflow", KEY)


@pytest.mark.parametrize("rows", [(0, 24), (5, 19), (23, 24)])
def test_values_of_some_rows_are_those_of_the_whole(rows: tuple[int, int]) -> None:
    """An operator that cannot be parted sees all of the weight, whatever rows are asked for."""
    base = model({KEY: weight()})
    value = merged(base, (0.7, lora(oft(size=12), form("OFT", cuts=((24, 12),)))))
    whole = to_numpy(made(value))
    found = [(row, to_numpy(block)) for row, block in value.values(KEY, *rows)]
    np.testing.assert_array_equal(np.concatenate([block for _, block in found]), whole[rows[0] : rows[1]])
    assert found[0][0] == rows[0]
