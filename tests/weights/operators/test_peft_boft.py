"""PEFT's BOFT: stages of turned input columns, then a scale for each row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.operators.peft_boft import PeftBOFT

from .kit import Array, applied, close, inverse_rotation, random, skew, tensor


def boft(stages: int, count: int, size: int, rows: int = 6) -> PeftBOFT:
    blocks = random(stages, count, size, size, seed=3, size=0.4)
    return PeftBOFT(tensor(blocks), tensor(1.0 + random(rows, 1, seed=4, size=0.2)))


def permutation(columns: int, size: int, stage: int) -> Array:
    """P with ``P[i, order[i]] = 1``: in each group the half blocks 0, 2, 4, ..., then 1, 3, 5, ..."""
    group, half = size * 2**stage, size // 2
    order = []
    for first in range(0, columns, group):
        halves = [list(range(start, start + half)) for start in range(first, first + group, half)]
        order += [place for chunk in halves[0::2] + halves[1::2] for place in chunk]
    matrix = np.zeros((columns, columns))
    for i, place in enumerate(order):
        matrix[i, place] = 1.0
    return matrix


def rotation(operator: PeftBOFT) -> Array:
    """``M = B_m ... B_1`` with ``B = P blockdiag(R) P^T``, whole."""
    stages, count, size, _ = operator.blocks.shape
    whole = np.eye(count * size)
    for stage in range(stages):
        diagonal = np.zeros_like(whole)
        for k in range(count):
            rows = slice(k * size, (k + 1) * size)
            diagonal[rows, rows] = inverse_rotation(-skew(operator.blocks[stage, k].numpy()) / 2)
        p = permutation(count * size, size, stage) if stage else np.eye(count * size)
        whole = p @ diagonal @ p.T @ whole
    return whole


@pytest.mark.parametrize(("stages", "count", "size"), [(1, 4, 3), (2, 4, 4), (3, 8, 2), (3, 4, 6)])
@pytest.mark.parametrize("strength", [0.0, 1.0, -0.4])
def test_columns_are_turned_in_stages_and_rows_scaled(
    stages: int, count: int, size: int, strength: float
) -> None:
    weight, operator = random(6, count * size), boft(stages, count, size)
    full = weight @ rotation(operator).T * operator.scale.numpy()
    close(applied(operator, weight, strength), weight + strength * (full - weight))


def test_kernels_are_columns() -> None:
    weight, operator = random(6, 4, 3, 3), boft(1, 9, 4)
    close(applied(operator, weight).reshape(6, 36), applied(operator, weight.reshape(6, 36)))


def test_rows_are_each_on_their_own() -> None:
    weight, operator = random(6, 16), boft(2, 4, 4)
    close(applied(operator.rows(2, 5), weight[2:5]), applied(operator, weight)[2:5])


def test_blocks_that_do_not_make_the_columns_are_refused() -> None:
    with pytest.raises(BuildError) as caught:
        boft(1, 4, 4).apply(tensor(random(6, 12)), 1.0)
    assert (caught.value.code, caught.value.message) == (
        "blocks-misfit",
        "4 blocks of 4 do not make 12 columns",
    )


@pytest.mark.parametrize("rule", ["comfy", "lycoris"])
def test_neither_comfy_nor_lycoris_has_it(rule: str) -> None:
    with pytest.raises(BuildError, match="has no PEFT BOFT, and so no rule"):
        boft(1, 4, 4).apply(tensor(random(6, 16)), 0.5, rule)


def test_it_is_written_as_it_was_read() -> None:
    operator = boft(2, 4, 4)
    written = operator.written()
    assert torch.equal(written[".boft_R"], operator.blocks)
    assert torch.equal(written[".boft_s"], operator.scale)
    with pytest.raises(BuildError, match="the format PEFT BOFT can only say strength 1"):
        operator.written(0.5)
