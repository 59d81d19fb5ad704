"""GLoRA: a low-rank function of the weight and a delta, in two generations of files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.weights.operators.glora import GLoRA
from lorapipe.weights.structures.products import Tucker
from lorapipe.weights.structures.structure import LowRank

from .kit import SHAPES, Array, applied, close, random, tensor


def glora(shape: tuple[int, ...], *, old: bool = False) -> GLoRA:
    columns = int(np.prod(shape[1:]))
    delta = LowRank(tensor(random(shape[0], 2, seed=3)), tensor(random(2, columns, seed=4)))
    return GLoRA(tensor(random(shape[1], 2, seed=1)), tensor(random(2, shape[1], seed=2)), delta, 0.5, old)


def added(operator: GLoRA, weight: Array) -> Array:
    """``c (sum_j W[o, j, ...] (a b)[j, i] + delta)``, channel by channel."""
    ab = operator.a.numpy() @ operator.b.numpy()
    found = operator.delta.dense(torch.float64).numpy().reshape(weight.shape).copy()
    for i in range(weight.shape[1]):
        for j in range(weight.shape[1]):
            found[:, i] += weight[:, j] * ab[j, i]
    return operator.coefficient * found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", ["exact", "comfy", "lycoris"])
@pytest.mark.parametrize("strength", [0.0, 1.0, -0.4])
def test_strength_multiplies_what_is_added(shape: tuple[int, ...], rule: str, strength: float) -> None:
    weight, operator = random(*shape), glora(shape)
    close(applied(operator, weight, strength, rule), weight + strength * added(operator, weight), 1e-11)


def test_a_core_makes_the_delta_a_tucker_product() -> None:
    core = Tucker(tensor(random(12, 2)), tensor(random(2, 2, 3, 3)), tensor(random(2, 4)))
    operator = GLoRA(tensor(random(4, 2)), tensor(random(2, 4)), core, 0.5)
    weight = random(12, 4, 3, 3)
    close(applied(operator, weight), weight + added(operator, weight), 1e-11)
    assert set(operator.written()) == {
        ".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight", ".bm.weight", ".alpha",
    }  # fmt: skip


def test_rows_are_each_on_their_own() -> None:
    weight, operator = random(12, 4, 3, 3), glora((12, 4, 3, 3))
    close(applied(operator.rows(2, 7), weight[2:7]), applied(operator, weight)[2:7])


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("strength", [1.0, 0.25, -2.0])
def test_any_strength_is_written_into_alpha_and_its_sign_into_a_factor(old: bool, strength: float) -> None:
    operator = glora((6, 8), old=old)
    written = {name: value.numpy() for name, value in operator.written(strength).items()}
    a1, a2, b1, b2 = (written[f".{name}.weight"] for name in ("a1", "a2", "b1", "b2"))
    assert written[".alpha"] == abs(strength) * 0.5 * 2
    weight = random(6, 8)
    if old:
        expected = weight + written[".alpha"] / 2 * (b2 @ b1 + weight @ a2 @ a1)
    else:
        expected = weight + written[".alpha"] / 2 * (weight @ a1 @ a2 + b1 @ b2)
    close(applied(operator, weight, strength), expected)
