"""Weights that take another's place, and weights made larger."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.operators.full_weight import FullWeight, Padded
from lorapipe.weights.structures.structure import LowRank

from .kit import applied, close, random, tensor


@pytest.mark.parametrize("shape", [(6,), (6, 8), (6, 4, 3, 3)])
def test_at_strength_1_the_value_is_the_weight_bit_for_bit(shape: tuple[int, ...]) -> None:
    value = random(*shape, seed=1)
    close(applied(FullWeight(tensor(value)), 1e6 * random(*shape)), value, 0.0)


@pytest.mark.parametrize("strength", [0.0, 0.3, -0.5])
def test_exact_goes_part_of_the_way_and_comfy_all_of_it(strength: float) -> None:
    weight, value = random(6, 8), random(6, 8, seed=1)
    operator = FullWeight(tensor(value))
    close(applied(operator, weight, strength), weight + strength * (value - weight), 1e-14)
    close(applied(operator, weight, strength, "comfy"), value, 0.0)


def test_a_flattened_value_takes_the_weights_shape() -> None:
    value = random(6, 36, seed=1)
    close(applied(FullWeight(tensor(value)), random(6, 4, 3, 3)), value.reshape(6, 4, 3, 3), 0.0)


def test_rows_of_a_value() -> None:
    value = random(6, 8, seed=1)
    close(applied(FullWeight(tensor(value)).rows(2, 5), random(3, 8)), value[2:5], 0.0)


def test_a_value_is_written_at_strength_1_only() -> None:
    operator = FullWeight(tensor(random(6, 8)))
    assert torch.equal(operator.written()[".set_weight"], operator.value)
    with pytest.raises(BuildError, match="the format full weight can only say strength 1"):
        operator.written(0.5)


def padded() -> Padded:
    delta = LowRank(tensor(random(6, 2, seed=1)), tensor(random(2, 8, seed=2)))
    return Padded(delta, 0.5, (6, 8))


@pytest.mark.parametrize("shape", [(6, 5), (4, 8), (6, 8)])
@pytest.mark.parametrize("rule", ["exact", "comfy"])
@pytest.mark.parametrize("strength", [0.0, 1.0, -0.4])
def test_zeros_make_the_weight_larger_and_the_delta_is_added(
    shape: tuple[int, int], rule: str, strength: float
) -> None:
    weight, expected = random(*shape), np.zeros((6, 8))
    for o in range(shape[0]):
        for i in range(shape[1]):
            expected[o, i] = weight[o, i]
    expected += strength * 0.5 * padded().delta.dense(torch.float64).numpy()
    close(applied(padded(), weight, strength, rule), expected)


def test_kernels_keep_their_shape() -> None:
    delta = LowRank(tensor(random(6, 2)), tensor(random(2, 36)))
    weight = random(6, 3, 3, 3)
    found = applied(Padded(delta, 1.0, (6, 4, 3, 3)), weight, 0.0)
    close(found[:, :3], weight, 0.0)
    close(found[:, 3], np.zeros((6, 3, 3)), 0.0)


def test_a_weight_is_padded_whole() -> None:
    with pytest.raises(ValueError, match="padded as a whole, not its rows 0 to 3"):
        padded().rows(0, 3)


def test_any_strength_of_a_padded_lora_is_written() -> None:
    written = padded().written(-2.0)
    assert written[".reshape_weight"].tolist() == [6, 8]
    assert float(written[".alpha"]) == 2.0
    assert torch.equal(written[".lora_up.weight"], -tensor(random(6, 2, seed=1)))


@pytest.mark.parametrize(
    ("operator", "name"), [(FullWeight(torch.ones(6, 8)), "full weight"), (padded(), "padded LoRA")]
)
def test_lycoris_has_neither(operator: FullWeight | Padded, name: str) -> None:
    with pytest.raises(BuildError, match=f"LyCORIS has no {name}, and so no rule"):
        operator.apply(tensor(random(6, 8)), 0.5, "lycoris")
