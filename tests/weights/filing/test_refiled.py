"""Rows split, joined and permuted: the numbers of the factors stay, the delta is the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.filing.refiled import refiled, same_bits
from lorapipe.weights.inference.filed import FileModule, Part
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.structure import LowRank
from tests.weights.samples import Matrix, adapter_of, delta, dense, factors

KEY = "attn.qkv.weight"


def rows(start: int, stop: int) -> ModuleId:
    return ModuleId("dit", KEY, (start, stop))


WHOLE, A, B, C = ModuleId("dit", KEY), rows(0, 4), rows(4, 8), rows(8, 12)


def file_module(*parts: Part, rank: int = 99, transposed: bool = False) -> FileModule:
    height = sum(part.height for part in parts)
    return FileModule("m", parts, (5, height) if transposed else (height, 5), rank, transposed=transposed)


def part(module: ModuleId | None, start: int = 0, stop: int = 4) -> Part:
    return Part(module, start, stop)


def thirds(whole: Delta) -> Adapter:
    return adapter_of({rows(i, i + 4): whole.rows(i, i + 4) for i in (0, 4, 8)}, family=None)


def held(value: Delta) -> list[tuple[float, LowRank]]:
    loaded = [(term.coefficient, term.structure.load()) for term in value.terms]
    assert all(isinstance(structure, LowRank) for _, structure in loaded)
    return loaded  # type: ignore[return-value]  # just asserted


def test_rows_share_down_and_slice_up() -> None:
    whole = delta((12, 5), (0.5, 3), dtype=torch.float16)
    found = refiled(file_module(part(WHOLE, 4, 8)), adapter_of({WHOLE: whole}, family=None))
    ((coefficient, product),) = held(found)
    before = whole.terms[0].structure.load()
    assert coefficient == 0.5
    assert same_bits(product.up, before.up[4:8])
    assert same_bits(product.down, before.down)


def test_a_whole_module_is_handed_on_unread() -> None:
    def read() -> LowRank:
        raise AssertionError("nothing is to be read")

    value = Delta((4, 5), (Term(1.0, Lazy((4, 5), 2, read)),))
    assert refiled(file_module(part(A)), adapter_of({A: value}, family=None)) is value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_parts_of_one_down_are_one_module_again_bit_for_bit(dtype: torch.dtype) -> None:
    whole = delta((12, 5), (0.5, 3), dtype=dtype)
    found = refiled(file_module(part(A), part(B), part(C)), thirds(whole))
    assert (found.rank, found.shape) == (3, (12, 5))
    ((coefficient, product),) = held(found)
    before = whole.terms[0].structure.load()
    assert coefficient == 0.5
    assert same_bits(product.up, before.up)
    assert same_bits(product.down, before.down)


def test_parts_of_their_own_are_block_diagonal_and_the_ranks_add_up() -> None:
    """Three LoRAs of rank 3 fused: the rank is 9, so that alpha has to be thrice as much."""
    parts = {m: delta((4, 5), (0.5, 3), seed=i) for i, m in enumerate((A, B, C))}
    found = refiled(file_module(part(A), part(B), part(C)), adapter_of(parts, family=None))
    assert found.rank == 9
    np.testing.assert_allclose(dense(found), np.vstack([dense(p) for p in parts.values()]), rtol=1e-12)
    up = np.hstack([product.up.double().numpy() for _, product in held(found)])
    assert np.count_nonzero(up) == 4 * 9


def test_equal_downs_at_other_strengths_stay_apart() -> None:
    whole = delta((12, 5), (0.5, 3))
    scaled = thirds(whole)
    parts = {**scaled.modules, B: scaled.delta(B).scaled(2.0)}
    found = refiled(file_module(part(A), part(B), part(C)), adapter_of(parts, family=None))  # type: ignore[arg-type]
    assert found.rank == 6
    wanted = dense(whole) * np.repeat([1.0, 2.0, 1.0], 4)[:, None]
    np.testing.assert_allclose(dense(found), wanted, rtol=1e-12)


def test_a_sum_of_a_fused_and_of_separate_loras_shares_what_it_can() -> None:
    fused = delta((12, 5), (0.5, 3))
    own = {m: delta((4, 5), (0.25, 2), seed=i + 1) for i, m in enumerate((A, B, C))}
    parts = {m: thirds(fused).delta(m).joined(value) for m, value in own.items()}
    found = refiled(file_module(part(A), part(B), part(C)), adapter_of(parts, family=None))
    assert found.rank == 3 + 3 * 2
    wanted = dense(fused) + np.vstack([dense(value) for value in own.values()])
    np.testing.assert_allclose(dense(found), wanted, atol=1e-12)


def test_rows_without_a_module_are_zeros() -> None:
    value = delta((4, 5), (1.0, 2))
    found = refiled(file_module(part(None), part(B), part(None)), adapter_of({B: value}, family=None))
    np.testing.assert_array_equal(dense(found)[[0, 1, 2, 3, 8, 9, 10, 11]], 0.0)
    np.testing.assert_allclose(dense(found)[4:8], dense(value), rtol=1e-12)
    assert found.rank == 2


def test_a_permutation_moves_rows_of_up_and_keeps_the_rank() -> None:
    whole = delta((8, 5), (0.5, 3), (-1.0, 2), dtype=torch.float16)
    found = refiled(
        file_module(part(WHOLE, 4, 8), part(WHOLE, 0, 4)), adapter_of({WHOLE: whole}, family=None)
    )
    assert found.rank == 5
    for (c, product), term in zip(held(found), whole.terms, strict=True):
        before = term.structure.load()
        assert c == term.coefficient
        assert same_bits(product.up, torch.cat([before.up[4:], before.up[:4]]))
        assert same_bits(product.down, before.down)


def test_parts_in_another_order_are_joined_in_the_files() -> None:
    whole = delta((12, 5), (1.0, 3))
    found = refiled(file_module(part(C), part(A)), thirds(whole))
    np.testing.assert_allclose(dense(found), np.vstack([dense(whole)[8:], dense(whole)[:4]]), rtol=1e-12)
    assert found.rank == 3


def test_a_transposed_module_is_turned_last() -> None:
    whole = delta((12, 5), (1.0, 3))
    module = file_module(part(WHOLE, 0, 12), transposed=True)
    found = refiled(module, adapter_of({WHOLE: whole}, family=None))
    assert found.shape == (5, 12)
    np.testing.assert_allclose(dense(found), dense(whole).T, rtol=1e-12)


def test_ups_of_two_dtypes_are_joined_in_one_that_holds_both() -> None:
    down = factors((4, 5), 2, seed=0, dtype=torch.float16).down
    ups = [factors((4, 5), 2, seed=i, dtype=d).up for i, d in ((1, torch.float16), (2, torch.bfloat16))]
    parts = {m: Delta((4, 5), (Term(1.0, LowRank(up, down)),)) for m, up in zip((A, B), ups, strict=True)}
    ((_, product),) = held(refiled(file_module(part(A), part(B)), adapter_of(parts, family=None)))
    assert product.up.dtype == torch.float32
    assert torch.equal(product.up, torch.cat([up.float() for up in ups]))


def test_bits_are_compared_and_not_values() -> None:
    zero = torch.zeros(2)
    assert same_bits(zero, torch.zeros(2))
    assert not same_bits(zero, -zero)
    assert not same_bits(zero, zero.half())
    assert not same_bits(zero, torch.zeros(3))


def whole_of(pieces: list[Matrix]) -> Matrix:
    return np.vstack(pieces)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans()), min_size=1, max_size=4),
    st.integers(0, 50),
)
def test_any_cut_of_any_delta_is_joined_to_the_same_delta(
    pieces: list[tuple[int, int, bool]], seed: int
) -> None:
    """Heights, ranks, and whether a piece shares the down of the one before it."""
    parts, made, before, start = {}, [], None, 0
    for index, (height, rank, shares) in enumerate(pieces):
        value = delta((height, 5), (0.5, rank), seed=seed + index)
        if shares and before is not None and before.terms[0].structure.rank == rank:
            up = value.terms[0].structure.load().up
            value = Delta((height, 5), (Term(0.5, LowRank(up, before.terms[0].structure.load().down)),))
        module = rows(start, start + height)
        parts[module] = before = value
        made.append(Part(module, 0, height))
        start += height
    found = refiled(file_module(*made), adapter_of(parts, family=None))
    assert found.rank <= sum(value.rank for value in parts.values())
    np.testing.assert_allclose(dense(found), whole_of([dense(v) for v in parts.values()]), atol=1e-12)
    for module, piece in zip(parts, made, strict=True):
        first, last = module.rows or (0, 0)
        again = refiled(
            FileModule("m", (Part(WHOLE, first, last),), (piece.height, 5), 9),
            adapter_of({WHOLE: found}, family=None),
        )
        np.testing.assert_allclose(dense(again), dense(parts[module]), atol=1e-12)
