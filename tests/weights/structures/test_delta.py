"""A delta stays a list of factors until it is used, and is then the sum that it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.errors import RecipeError
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.products import Hadamard, Kronecker
from lorapipe.weights.structures.structure import Dense, LowRank
from tests.weights.samples import delta, dense, factors, to_numpy
from tests.weights.sorts import full, loha, lokr, plain, summed, tucker


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


def test_joining_leaves_out_what_is_nothing_so_that_the_others_coefficient_stays_alone() -> None:
    nothing, a = delta((4, 6), (1.0, 0)), delta((4, 6), (0.5, 3))
    for joined in (nothing.joined(a), a.joined(nothing), nothing.joined(a, nothing)):
        assert joined.terms == a.terms
        assert joined.magnitude == 0.5
    assert nothing.joined(nothing).rank == 0
    np.testing.assert_array_equal(to_numpy(nothing.joined(nothing).dense(torch.float64)), np.zeros((4, 6)))


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


# --- structures that are not two factors ------------------------------------------------


MIXED = [
    ("plain", plain(12, 10, 3, 1)),
    ("Tucker", tucker(12, 10, (), 3, 2)),
    ("LoHa", loha(12, 10, 2, 3)),
    ("LoKr", lokr((2, 5), (6, 2), (None, 1), seed=4)),
    ("full", full(12, 10, 5)),
]


@pytest.mark.parametrize("count", range(1, len(MIXED) + 1))
def test_a_sum_of_any_structures_is_their_weighted_sum(count: int) -> None:
    value, expected = summed([(0.7 - 0.5 * i, s) for i, (_, s) in enumerate(MIXED[:count])])
    found = value.dense(torch.float64)
    np.testing.assert_allclose(to_numpy(found), expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    stacked = value.stacked(torch.float64)
    np.testing.assert_allclose(to_numpy(stacked.up @ stacked.down), expected, rtol=0, atol=1e-12)
    side, coefficients = value.side_by_side(torch.float64)
    again = (side.up * coefficients) @ side.down
    np.testing.assert_allclose(to_numpy(again), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(to_numpy(value.total(torch.float64).matrix), expected, rtol=0, atol=1e-13)
    assert stacked.rank == side.rank == value.rank == min(10, sum(s.structure.rank for _, s in MIXED[:count]))


def test_rows_of_a_sum_are_those_rows() -> None:
    value, expected = summed([(0.5, s) for _, s in MIXED])
    found = value.dense(torch.float64, 3, 8)
    np.testing.assert_allclose(to_numpy(found), expected[3:8], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        to_numpy(value.transposed().dense(torch.float64)), expected.T, rtol=0, atol=1e-12
    )


def test_an_addend_stacks_what_stacks_and_adds_the_rest_row_by_row() -> None:
    value, expected = summed([(0.5, s) for _, s in MIXED])
    addend = value.addend(torch.float64)
    assert addend.product is not None
    assert addend.product.rank == 3 + 3  # the plain term and Tucker's
    assert [type(structure) for _, structure in addend.others] == [Hadamard, Kronecker, Dense]
    rows = torch.ones(4, 10, dtype=torch.float64)
    addend.add_to(rows, 5, 9)
    np.testing.assert_allclose(to_numpy(rows), 1 + expected[5:9], rtol=0, atol=1e-12)


def test_folding_other_structures_is_exact_in_the_dtype_asked_for() -> None:
    for terms in (
        [(-0.5, MIXED[2][1])],
        [(0.5, MIXED[0][1]), (-2.0, MIXED[2][1])],
        [(0.3, s) for _, s in MIXED],
    ):
        value, expected = summed(terms)
        folded = value.folded(torch.float64)
        product = folded.coefficient * (folded.factors.up.double() @ folded.factors.down.double())
        np.testing.assert_allclose(to_numpy(product), expected, rtol=0, atol=1e-12)
        assert folded.factors.rank == value.rank


def test_ranks_are_capped_as_soon_as_one_term_is_not_plain() -> None:
    plainly, _ = summed([(1.0, plain(12, 10, 8)), (1.0, plain(12, 10, 9))])
    mixed, _ = summed([(1.0, plain(12, 10, 8)), (1.0, MIXED[2][1])])
    assert (plainly.rank, plainly.plain) == (17, True)
    assert (mixed.rank, mixed.plain) == (10, False)


def test_a_kernel_that_one_structure_does_not_tell_is_the_others() -> None:
    flat, conv = loha(8, 54).delta(), delta((8, 6, 3, 3), (1.0, 2))
    assert flat.joined(conv).shape == conv.joined(flat).shape == (8, 6, 3, 3)
    with pytest.raises(RecipeError):
        delta((8, 54), (1.0, 2)).joined(conv)


def test_one_term_is_written_in_its_own_format() -> None:
    value = loha(12, 10, 2).delta(-0.5)
    written = value.written()
    assert list(written.tensors) == [".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b"]
    assert written.alpha == 1.0
    assert delta((6, 5), (0.25, 2)).written().alpha == 0.5


def test_full_differences_are_written_as_their_sum_in_float64() -> None:
    value, expected = summed([(0.5, full(12, 10, 1, torch.float16)), (-2.0, full(12, 10, 2, torch.float16))])
    (tensor,) = value.written().tensors.values()
    assert (list(value.written().tensors), tensor.dtype) == ([".diff"], torch.float64)
    np.testing.assert_allclose(to_numpy(tensor), expected, rtol=0, atol=1e-15)


def test_a_sum_that_no_format_holds_is_not_written() -> None:
    for terms in ([(1.0, MIXED[2][1]), (1.0, MIXED[4][1])], [(1.0, MIXED[0][1]), (1.0, MIXED[0][1])]):
        with pytest.raises(ValueError, match="no format holds a sum"):
            summed(terms)[0].written()


def test_a_bias_is_a_column() -> None:
    value = Delta((12,), (Term(0.5, full(12, 1, 1).structure), Term(1.0, full(12, 1, 2).structure)))
    assert (value.columns, value.rank, value.shape) == (1, 1, (12,))
    expected = 0.5 * full(12, 1, 1).matrix + full(12, 1, 2).matrix
    np.testing.assert_allclose(to_numpy(value.dense(torch.float64)), expected, rtol=1e-15)
    assert value.rows(3, 5).shape == (2,)


def test_loading_a_delta_reads_every_term_once() -> None:
    shelf = [0]

    def read() -> Hadamard:
        shelf[0] += 1
        found = loha(12, 10).structure
        assert isinstance(found, Hadamard)
        return found

    value = Delta((12, 10), (Term(0.5, Lazy((12, 10), 9, read, plain=False)),))
    held = value.loaded()
    held.dense(torch.float64)
    held.side_by_side(torch.float64)
    assert shelf == [1]
