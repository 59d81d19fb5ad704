"""What other programs get wrong with LoRAs, each as a test that it is right here.

Their formulas are written out beside each test, so that one sees what is told apart.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import concat, scale
from lorapipe.weights.algebra.resize import resize
from lorapipe.weights.filing.saving import saved_tensors
from lorapipe.weights.inference.ranks import Ranks
from lorapipe.weights.specs import ModuleId
from tests.weights.samples import LINEAR, SHAPES, Matrix, adapter, adapter_of, delta, dense, loaded, stem


def saved(value: Adapter, dtype: str = "F64") -> dict[str, Matrix]:
    return loaded({t.name: t.make().tensor for t in saved_tensors(value, dtype)})


def close(found: Matrix, expected: Matrix) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("weight", [0.5, 2.0, -1.0, 1e-3])
def test_half_strength_is_half_and_not_a_quarter(weight: float) -> None:
    """kohya's merge puts the ratio on both factors: strength w acts as w * |w|."""
    value = adapter(8, 0.5)
    for module in SHAPES:
        close(saved(concat([("a", weight, value)]))[stem(module)], weight * dense(value.modules[module]))
        close(saved(scale(value, weight))[stem(module)], weight * dense(value.modules[module]))


def test_two_at_full_strength_are_their_sum_and_not_half_of_it() -> None:
    """kohya's --concat keeps the first alpha while the rank doubles."""
    a, b = adapter(4, 0.5), adapter(4, 0.5, seed=9)
    found = saved(concat([("a", 1.0, a), ("b", 1.0, b)]))
    for module in SHAPES:
        close(found[stem(module)], dense(a.modules[module]) + dense(b.modules[module]))


def test_ranks_and_alphas_may_differ() -> None:
    """kohya's merge without --concat asserts equal ranks, and adds factors: cross terms."""
    a, b = adapter(4, 2.0), adapter(16, 0.25, seed=9)
    found = saved(concat([("a", 0.7, a), ("b", 0.4, b)]))
    for module in SHAPES:
        close(found[stem(module)], 0.7 * dense(a.modules[module]) + 0.4 * dense(b.modules[module]))


def test_negative_weights_subtract() -> None:
    """A negative weight gives NaN or loses its sign elsewhere (resize_lora, block weights)."""
    a, b = adapter(4), adapter(4, seed=9)
    difference = concat([("a", 1.0, a), ("b", -1.0, b)])
    for module in SHAPES:
        expected = dense(a.modules[module]) - dense(b.modules[module])
        close(saved(difference)[stem(module)], expected)
        close(saved(resize(difference, Ranks(8)).adapter)[stem(module)], expected)


def test_a_strength_and_a_component_strength_act_once_each() -> None:
    """With block weights on both factors the block weight is squared and its sign lost."""
    value = adapter(4)
    found = saved(concat([("a", 0.5, scale(value, {**dict.fromkeys(SHAPES, 1.0), LINEAR: -0.5}))]))
    close(found[stem(LINEAR)], -0.25 * dense(value.modules[LINEAR]))


def test_alpha_over_rank_is_applied_once() -> None:
    """PEFT's *_svd combinations and LyCORIS's get_diff_weight apply it twice."""
    value = adapter(8, 0.25)
    small = resize(value, Ranks(99, conv=99)).adapter
    for module in SHAPES:
        close(saved(small)[stem(module)], dense(value.modules[module]))


def test_joining_q_k_and_v_into_a_fused_weight_keeps_their_strength() -> None:
    """Fused block-diagonally, three LoRAs have three times the rank: alpha must follow (sd-scripts#2204)."""
    whole = ModuleId("te2", "in_proj_weight")
    parts = [ModuleId("te2", "in_proj_weight", r) for r in [(0, 4), (4, 8), (8, 12)]]
    split = adapter_of({m: delta((4, 6), (0.5, 2), seed=i) for i, m in enumerate(parts)})
    fused = adapter_of({whole: delta((12, 6), (2.0, 3), seed=7)})
    found = saved(concat([("split", 1.0, split), ("fused", 1.0, fused)]))
    for module in parts:
        start, stop = module.rows or (0, 0)
        close(found[stem(module)], dense(split.modules[module]) + dense(fused.modules[whole])[start:stop])


def test_resizing_changes_no_value_by_clamping() -> None:
    """kohya and supermerger clamp both factors at their 0.99 quantile after the SVD."""
    spiked = delta((40, 30), (1.0, 4))
    spiked.terms[0].structure.up[0, 0] = 100.0
    value = adapter_of({LINEAR: spiked})
    (small,) = saved(resize(concat([("a", 1.0, value), ("b", 1e-9, value)]), Ranks(4)).adapter).values()
    close(small, (1 + 1e-9) * dense(spiked))


def test_a_rank_that_is_asked_for_is_the_rank_that_comes() -> None:
    """kohya's dynamic ranks come out one higher, and a rank above the dims is an IndexError."""
    value = adapter_of({LINEAR: delta((12, 10), (1.0, 9))})
    assert resize(value, Ranks(3)).adapter.modules[LINEAR].rank == 3
    assert (
        resize(concat([("a", 1.0, value), ("b", 1.0, value)]), Ranks(500)).adapter.modules[LINEAR].rank == 10
    )


def test_a_lora_without_alpha_resizes() -> None:
    """resize_lora needs .alpha (sd-scripts#2169); here a missing one is a strength of 1."""
    assert resize(adapter(8, 1.0), Ranks(4)).adapter.modules[LINEAR].rank == 4


def test_alpha_is_a_positive_float_and_never_an_integer_or_a_half() -> None:
    """svd_merge saves int64 alphas; half types make 300 of 301."""
    value = concat([("a", -1.0, adapter(7, 43.0))])
    tensors = {t.name: t.make().tensor for t in saved_tensors(value, "BF16")}
    alpha = tensors[stem(LINEAR) + ".alpha"]
    assert (alpha.dtype, alpha.item(), alpha.shape) == (torch.float32, 301.0, ())
