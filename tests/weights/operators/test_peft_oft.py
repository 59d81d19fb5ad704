"""PEFT's OFT: input columns are turned, by the formula that the config says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import BuildError
from lorapipe.weights.operators.peft_oft import PeftOFT, PeftSettings, neumann, skew_symmetric

from .kit import SHAPES, Array, applied, close, norm, random, tensor


def peft(count: int, size: int, settings: PeftSettings | None = None, *, scaled: bool = False) -> PeftOFT:
    triangles = tensor(random(count, size * (size - 1) // 2, seed=3, size=0.2))
    return PeftOFT(triangles, settings or PeftSettings(), torch.tensor(True) if scaled else None)


def skews(operator: PeftOFT, size: int) -> list[Array]:
    """S of each block: entries above the diagonal row by row, their negatives below."""
    found = []
    for triangle in operator.triangles.numpy():
        entries, s = iter(triangle), np.zeros((size, size))
        for i in range(size):
            for j in range(i + 1, size):
                s[i, j] = next(entries)
                s[j, i] = -s[i, j]
        found.append(s)
    return found


def series(s: Array, terms: int) -> Array:
    """``I + 2S + ... + 2S^(n-2) + S^(n-1)``."""
    found = np.eye(len(s))
    for power in range(1, terms):
        found = found + (1 if power == terms - 1 > 1 else 2) * np.linalg.matrix_power(s, power)
    return found


def exactly(s: Array) -> Array:
    one = np.eye(len(s))
    found: Array = (one - s) @ np.linalg.inv(one + s)
    return found


def rotated(weight: Array, matrices: list[Array]) -> Array:
    """``W'[o, block k, i] = sum_j R_k[i, j] W[o, block k, j]``."""
    flat = weight.reshape(len(weight), -1)
    found, size = np.zeros_like(flat), len(matrices[0])
    for k, matrix in enumerate(matrices):
        for i in range(size):
            for j in range(size):
                found[:, k * size + i] += matrix[i, j] * flat[:, k * size + j]
    return found.reshape(weight.shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_columns_are_turned_in_blocks_that_may_cross_input_channels(shape: tuple[int, ...]) -> None:
    columns = int(np.prod(shape[1:]))
    size = 2 if columns == 10 else 4 if columns == 36 else 6
    weight, operator = random(*shape), peft(columns // size, size)
    close(applied(operator, weight), rotated(weight, [series(s, 5) for s in skews(operator, size)]))


def test_the_exact_formula_turns_the_other_way() -> None:
    weight, operator = random(6, 12), peft(3, 4, PeftSettings(terms=0))
    matrices = [exactly(s) for s in skews(operator, 4)]
    close(applied(operator, weight), rotated(weight, matrices))
    near = PeftOFT(operator.triangles / 10)
    back = [exactly(-s / 10) for s in skews(operator, 4)]
    close(applied(near, weight), rotated(weight, back), 1e-4)


@pytest.mark.parametrize("terms", [1, 2, 4, 5, 6, 9])
def test_the_series_has_as_many_terms_as_the_config_says(terms: int) -> None:
    s = skews(peft(1, 5), 5)[0]
    close(neumann(tensor(s)[None], terms)[0].numpy(), series(s, terms))


def test_three_terms_are_four_as_in_peft() -> None:
    s = tensor(skews(peft(1, 5), 5)[0])[None]
    assert torch.equal(neumann(s, 3), neumann(s, 4))


def test_one_block_may_serve_all_columns() -> None:
    weight, operator = random(6, 12), peft(1, 4)
    close(applied(operator, weight), rotated(weight, [series(skews(operator, 4)[0], 5)] * 3))


@pytest.mark.parametrize("limit", [0.05, 100.0])
def test_coft_projects_each_block_to_its_share_of_the_limit(limit: float) -> None:
    weight, operator = random(6, 12), peft(3, 4, PeftSettings(terms=0, limit=limit))
    held = []
    for s in skews(operator, 4):
        most = limit / 3**0.5
        held.append(exactly(s * most / norm([s]) if norm([s]) > most else s))
    close(applied(operator, weight), rotated(weight, held))


def test_onetrainers_mark_divides_the_numbers() -> None:
    weight, operator = random(6, 12), peft(3, 4, scaled=True)
    matrices = [series(s / (2 * 3**0.5), 5) for s in skews(operator, 4)]
    close(applied(operator, weight), rotated(weight, matrices))


def test_onetrainer_turns_kernels_back() -> None:
    settings = PeftSettings(kernels_turn_back=True)
    weight, operator = random(6, 4, 3, 3), peft(9, 4, settings)
    matrices = [series(s, 5) for s in skews(operator, 4)]
    close(applied(operator, weight), rotated(weight, [matrix.T for matrix in matrices]))
    flat = weight.reshape(6, 36)
    close(applied(operator, flat), rotated(flat, matrices))


@given(st.integers(1, 4), st.integers(2, 5), st.integers(1, 4))
def test_the_exact_formula_keeps_the_lengths_of_rows(count: int, size: int, rows: int) -> None:
    weight = random(rows, count * size)
    found = applied(peft(count, size, PeftSettings(terms=0)), weight)
    close(found @ found.T, weight @ weight.T, 1e-9)


@pytest.mark.parametrize("strength", [0.0, 0.3, -0.5])
def test_strength_interpolates_between_the_weights(strength: float) -> None:
    weight, operator = random(6, 12), peft(3, 4)
    full = applied(operator, weight)
    close(applied(operator, weight, strength), weight + strength * (full - weight))


def test_rows_are_each_on_their_own() -> None:
    weight, operator = random(6, 12), peft(3, 4)
    close(applied(operator.rows(2, 5), weight[2:5]), applied(operator, weight)[2:5])


@pytest.mark.parametrize(("count", "size", "columns"), [(3, 4, 16), (1, 5, 12)])
def test_blocks_that_do_not_make_the_columns_are_refused(count: int, size: int, columns: int) -> None:
    with pytest.raises(BuildError) as caught:
        peft(count, size).apply(tensor(random(6, columns)), 1.0)
    assert caught.value.code == "blocks-misfit"
    assert caught.value.message == f"{count} blocks of {size} do not make {columns} columns"


@pytest.mark.parametrize("rule", ["comfy", "lycoris"])
def test_neither_comfy_nor_lycoris_has_it(rule: str) -> None:
    with pytest.raises(BuildError, match="has no PEFT OFT, and so no rule"):
        peft(3, 4).apply(tensor(random(6, 12)), 0.5, rule)


def test_it_is_written_as_it_was_read() -> None:
    operator = peft(3, 4, scaled=True)
    written = operator.written()
    assert set(written) == {".oft_R.weight", ".oft_R.scaled_oft"}
    assert torch.equal(written[".oft_R.weight"], operator.triangles)
    with pytest.raises(BuildError, match="the format PEFT OFT can only say strength 1"):
        operator.written(2.0)


def test_the_upper_triangle_goes_row_by_row() -> None:
    s = skew_symmetric(torch.tensor([[1.0, 2.0, 3.0]]))
    assert s[0].tolist() == [[0.0, 1.0, 2.0], [-1.0, 0.0, 3.0], [-2.0, -3.0, 0.0]]


@pytest.mark.parametrize("settings", [PeftSettings(terms=0), PeftSettings(terms=3), PeftSettings(limit=1e-4)])
def test_what_only_a_config_says_is_not_written_without_one(settings: PeftSettings) -> None:
    operator = PeftOFT(torch.zeros(2, 6), settings)
    with pytest.raises(BuildError) as caught:
        operator.written()
    assert str(caught.value) == (
        "error: only PEFT's config says how this OFT turns, a file of its blocks would be another one"
        " - merge it into its checkpoint and extract a LoRA"
    )
