"""What a file's header says of its data: ranks, alphas, and coefficients folded without a loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.combine import concat
from lorapipe.weights.filing.settled import Settled, alpha_of, settle
from lorapipe.weights.inference.filed import FileModule, Part, Words, own_names
from lorapipe.weights.inference.output import module_specs
from lorapipe.weights.specs import Form, TensorSpec
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import Dense, LowRank
from tests.weights.samples import (
    CONV,
    LINEAR,
    NAMES,
    SHAPES,
    adapter,
    adapter_of,
    delta,
    dense,
    factors,
    to_numpy,
)

FOLDED = Words(alpha=False, folds=True)
UP, DOWN = ".lora_up.weight", ".lora_down.weight"


def settled(value: Delta, words: Words = FOLDED, dtype: str | None = None) -> Settled:
    common = NAMES[value.terms[0].structure.load().up.dtype]
    held = adapter_of({LINEAR: value}, dtype=common)
    module = FileModule("m", (Part(LINEAR, 0, value.shape[0]),), value.shape, value.rank, words)
    return settle(module, held, dtype)


def product(found: Settled, dtype: str) -> np.ndarray:
    """What a reader makes of the factors alone, without an alpha."""
    made = found.make(module_specs(found.module, dtype, dtype))
    return to_numpy(made[UP].tensor).reshape(-1, found.module.rank) @ to_numpy(made[DOWN].tensor).reshape(
        found.module.rank, -1
    )


@pytest.mark.parametrize("alpha", [1.0, 3.0, 0.1, 1 / 3, 301.0])
@pytest.mark.parametrize("rank", [3, 7, 12])
def test_every_alpha_comes_back_as_its_float32(alpha: float, rank: int) -> None:
    single = float(np.float32(alpha))
    assert alpha_of(delta((12, 10), (single / rank, rank))) == single


@pytest.mark.parametrize("coefficient", [0.0, 1e-50, 1e39, 1e300])
def test_alpha_must_be_a_positive_float32(coefficient: float) -> None:
    with pytest.raises(BuildError, match="no positive fp32 number") as caught:
        settled(delta((4, 4), (coefficient, 2)))
    assert (caught.value.code, caught.value.module) == ("alpha-out-of-range", "attn.to_q.weight")


def test_alphas_are_those_of_the_file() -> None:
    value = concat([("a", 0.7, adapter(8, 0.5)), ("b", -0.4, adapter(3, seed=9, shapes={LINEAR: (12, 10)}))])
    found = {m.sources[0]: settle(m, value) for m in own_names(value.spec)}
    assert set(found) == set(SHAPES)
    for one in found.values():
        made = one.make({".alpha": TensorSpec("F32", ())})
        assert float(made[".alpha"].tensor) == one.alpha
    assert found[LINEAR].alpha == 11.0
    assert found[CONV].alpha == pytest.approx(0.7 * 4, rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("coefficient", [0.5, -0.25, 2.0, 8.0])
def test_a_power_of_two_is_folded_and_no_bit_is_lost(coefficient: float, dtype: torch.dtype) -> None:
    value = delta((12, 10), (coefficient, 4), dtype=dtype)
    found = settled(value)
    assert found.alpha == 4.0
    np.testing.assert_array_equal(product(found, NAMES[dtype]), dense(value))


@pytest.mark.parametrize("coefficient", [0.7, 1 / 3, 0.375])
def test_what_would_be_rounded_is_left_to_the_metadata(coefficient: float) -> None:
    value = delta((12, 10), (coefficient, 4), dtype=torch.float16)
    found = settled(value)
    assert found.alpha == float(np.float32(coefficient * 4))
    np.testing.assert_array_equal(
        product(found, "F16"), dense(delta((12, 10), (1.0, 4), dtype=torch.float16))
    )


def test_what_the_saved_type_has_room_for_is_folded() -> None:
    """0.375 has two binary digits, which fp32 has to spare where fp16 was read."""
    value = delta((12, 10), (0.375, 4), dtype=torch.float16)
    found = settled(value, dtype="F32")
    assert found.alpha == 4.0
    np.testing.assert_array_equal(product(found, "F32"), dense(value))


@pytest.mark.parametrize(("small", "role"), [("up", DOWN), ("down", UP)])
def test_a_factor_that_would_underflow_leaves_it_to_the_other(small: str, role: str) -> None:
    tiny, usual = torch.full((2, 2), 2.0**-24).half(), torch.ones(2, 2).half()
    pair = LowRank(tiny, usual) if small == "up" else LowRank(usual, tiny)
    found = settled(Delta((2, 2), (Term(0.5, pair),)))
    made = found.make(module_specs(found.module, "F16", None))
    assert found.alpha == 2.0
    assert torch.equal(made[role].tensor, torch.full((2, 2), 0.5).half())


def test_where_both_would_underflow_or_overflow_nothing_is_folded() -> None:
    tiny = torch.full((2, 2), 2.0**-24).half()
    assert settled(Delta((2, 2), (Term(0.5, LowRank(tiny, tiny)),))).alpha == 1.0
    large = torch.full((2, 2), 60000.0).half()
    assert settled(Delta((2, 2), (Term(2.0, LowRank(large, large)),))).alpha == 4.0


@settings(max_examples=60, deadline=None)
@given(st.integers(-20, 20), st.integers(0, 100), st.sampled_from(["F16", "BF16", "F32"]))
def test_with_its_alpha_or_without_the_product_is_the_same(power: int, seed: int, dtype: str) -> None:
    value = delta((3, 4), (2.0**power, 2), seed=seed, dtype=torch.float16)
    found = settled(value, dtype=dtype)
    assert found.alpha is not None
    plain = settled(value, Words(), dtype)
    made = plain.make(module_specs(plain.module, dtype, dtype))
    wanted = to_numpy(made[UP].tensor) @ to_numpy(made[DOWN].tensor) * (float(made[".alpha"].tensor) / 2)
    np.testing.assert_array_equal(product(found, dtype) * found.strength, wanted)


def test_an_unequal_sum_has_its_rank_for_an_alpha_and_nothing_to_fold() -> None:
    assert settled(delta((12, 10), (0.7, 2), (-0.4, 3))).alpha == 5.0


def test_alone_an_alpha_is_made_without_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settled(delta((12, 10), (0.5, 4)), Words())
    monkeypatch.setattr(Delta, "folded", None)
    assert float(found.make({".alpha": TensorSpec("F32", ())})[".alpha"].tensor) == 2.0


def bias(strength: float) -> torch.Tensor:
    values = torch.tensor([1.0, -3.0, 0.1]).half()
    value = Delta((3,), (Term(0.3, Dense(values.reshape(3, 1))),))
    form = Form("full difference", ((".diff_b", TensorSpec("F16", (3,))),))
    held = adapter_of({LINEAR: value})
    found = settle(FileModule("m", (Part(LINEAR, 0, 3),), (3,), 1, form=form), held, strength=strength)
    return found.make(dict(form.tensors))[".diff_b"].tensor


def test_a_bias_that_its_reader_scales_is_divided_by_that_first() -> None:
    assert torch.equal(bias(0.3), torch.tensor([1.0, -3.0, 0.1]).half())
    wanted = (torch.tensor([1.0, -3.0, 0.1]).half().double() * 0.3).half()
    assert torch.equal(bias(1.0), wanted)


def test_errors_name_the_module() -> None:
    big = LowRank(torch.full((2, 1), 1e5), factors((2, 2), 1, seed=1).down)
    found = settled(Delta((2, 2), (Term(1.0, big),)), Words())
    with pytest.raises(BuildError, match=r"attn\.to_q\.weight: 1e\+05 is beyond the range of F16"):
        found.make({UP: TensorSpec("F16", (2, 1))})
