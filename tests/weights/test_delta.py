"""A delta stays a list of factors until it is used, and is then the sum that it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.errors import RecipeError
from lorapipe.weights.delta import Delta, Term
from lorapipe.weights.structures import LowRank

from .samples import delta, dense, factors, to_numpy


def test_dense_is_the_sum_of_the_terms() -> None:
    value = delta((12, 10), (0.5, 3), (-2.0, 4), (1e-3, 1))
    np.testing.assert_allclose(to_numpy(value.dense(torch.float64)), dense(value), rtol=1e-13, atol=1e-13)


def test_dense_of_rows_is_those_rows() -> None:
    value = delta((12, 5, 3, 3), (0.5, 3), (1.0, 2))
    np.testing.assert_allclose(
        to_numpy(value.dense(torch.float64, 4, 9)), dense(value)[4:9], rtol=1e-13, atol=1e-13
    )


def test_dense_is_in_the_dtype_asked_for() -> None:
    assert delta((4, 4), (1.0, 2)).dense(torch.float32).dtype == torch.float32


def test_rank_is_stacked() -> None:
    assert delta((12, 10), (0.5, 3), (0.5, 30)).rank == 33


def test_scaling_shares_the_factors() -> None:
    value = delta((4, 6), (0.5, 3))
    scaled = value.scaled(-3.0)
    assert scaled.terms[0].coefficient == -1.5
    assert scaled.terms[0].structure is value.terms[0].structure


def test_scaling_by_one_is_the_delta_itself() -> None:
    value = delta((4, 6), (0.5, 3))
    assert value.scaled(1.0) is value


def test_joining_keeps_every_term_in_order_and_copies_nothing() -> None:
    a, b, c = delta((4, 6), (0.5, 3)), delta((4, 6), (1.0, 2), (2.0, 1)), delta((4, 6), (3.0, 1))
    joined = a.joined(b, c)
    assert joined.terms == (*a.terms, *b.terms, *c.terms)


@pytest.mark.parametrize(("first", "second"), [((8, 6), (8, 6, 1, 1)), ((8, 6, 1, 1), (8, 6))])
def test_a_1x1_kernel_joins_a_linear_weight_and_the_first_shape_stays(
    first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    joined = delta(first, (1.0, 2)).joined(delta(second, (1.0, 2)))
    assert joined.shape == first


@pytest.mark.parametrize("other", [(8, 7), (9, 6), (8, 6, 3, 3), (6, 8)])
def test_other_shapes_do_not_join(other: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError) as caught:
        delta((8, 6), (1.0, 2)).joined(delta(other, (1.0, 2)))
    assert caught.value.code == "shapes-disagree"
    assert str(caught.value) == (
        f"error: deltas of shape [8, 6] and {list(other)} cannot be added"
        " - the LoRAs were trained on different models"
    )


def test_rows_slice_up_and_share_down() -> None:
    value = delta((12, 10), (0.5, 3))
    part = value.rows(4, 8)
    assert part.shape == (4, 10)
    assert part.terms[0].structure.down is value.terms[0].structure.down
    assert part.terms[0].structure.up.untyped_storage().data_ptr() == (
        value.terms[0].structure.up.untyped_storage().data_ptr()
    )
    np.testing.assert_allclose(dense(part), dense(value)[4:8])


def test_the_transpose_is_the_transpose() -> None:
    value = delta((12, 10), (0.5, 3), (-1.0, 2))
    assert value.transposed().shape == (10, 12)
    np.testing.assert_allclose(dense(value.transposed()), dense(value).T)


@pytest.mark.parametrize("magnitude", [0.5, 1.0, 1 / 3])
def test_folding_equal_magnitudes_keeps_the_values_and_puts_signs_on_up(magnitude: float) -> None:
    value = delta((6, 5), (magnitude, 2), (-magnitude, 3), dtype=torch.float16)
    folded = value.folded(torch.float64)
    a, b = (term.structure for term in value.terms)
    assert folded.coefficient == magnitude
    assert torch.equal(folded.factors.up, torch.cat([a.up, -b.up], dim=1))
    assert torch.equal(folded.factors.down, torch.cat([a.down, b.down]))
    assert folded.factors.up.dtype == torch.float16


def test_folding_one_positive_term_copies_nothing() -> None:
    value = delta((6, 5), (0.25, 2))
    assert value.folded(torch.float64).factors.up is value.terms[0].structure.up


def test_folding_factors_of_two_dtypes_is_exact() -> None:
    a, b = factors((6, 5), 2, 1, torch.float16), factors((6, 5), 2, 2, torch.bfloat16)
    folded = Delta((6, 5), (Term(1.0, a), Term(-1.0, b))).folded(torch.float64)
    assert folded.factors.up.dtype == torch.float32
    assert torch.equal(folded.factors.up, torch.cat([a.up.float(), -b.up.float()], dim=1))


def test_folding_unequal_magnitudes_puts_the_root_on_both_factors() -> None:
    value = delta((6, 5), (4.0, 1), (-9.0, 1), dtype=torch.float64)
    folded = value.folded(torch.float64)
    a, b = (term.structure for term in value.terms)
    assert folded.coefficient == 1.0
    assert torch.equal(folded.factors.up, torch.cat([2 * a.up, -3 * b.up], dim=1))
    assert torch.equal(folded.factors.down, torch.cat([2 * a.down, 3 * b.down]))


def test_fp8_factors_fold_with_their_sign() -> None:
    up = torch.tensor([[1.0], [-2.0]]).to(torch.float8_e4m3fn)
    down = torch.tensor([[3.0, 0.5]]).to(torch.float8_e4m3fn)
    folded = Delta((2, 2), (Term(-1.0, LowRank(up, down)),)).folded(torch.float64)
    assert folded.factors.up.dtype == torch.float8_e4m3fn
    assert folded.factors.up.float().tolist() == [[-1.0], [2.0]]


def test_factors_without_a_product_are_refused() -> None:
    with pytest.raises(ValueError, match="no product"):
        LowRank(torch.zeros(4, 3), torch.zeros(2, 4))


def test_factors_that_do_not_make_the_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[4, 4\] is no delta of shape \[4, 5\]"):
        Delta((4, 5), (Term(1.0, LowRank(torch.zeros(4, 2), torch.zeros(2, 4))),))


def test_a_delta_has_a_term() -> None:
    with pytest.raises(ValueError, match="at least one term"):
        Delta((4, 4), ())
