"""IA3: a gain for each row or each input channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.operators.ia3 import IA3

from .kit import SHAPES, Array, applied, close, random, tensor


def ia3(shape: tuple[int, ...], *, on_input: bool) -> IA3:
    return IA3(tensor(random(shape[1 if on_input else 0], seed=1, size=0.3)), on_input)


def scaled(weight: Array, gain: Array, strength: float, *, on_input: bool) -> Array:
    found = np.empty_like(weight)
    for o in range(weight.shape[0]):
        for i in range(weight.shape[1]):
            found[o, i] = weight[o, i] * (1.0 + strength * gain[i if on_input else o])
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("on_input", [False, True])
@pytest.mark.parametrize("rule", ["exact", "lycoris"])
@pytest.mark.parametrize("strength", [0.0, 1.0, -0.4])
def test_the_gain_is_on_one_side_and_grows_with_the_strength(
    shape: tuple[int, ...], on_input: bool, rule: str, strength: float
) -> None:
    weight, operator = random(*shape), ia3(shape, on_input=on_input)
    expected = scaled(weight, operator.gain.numpy(), strength, on_input=on_input)
    close(applied(operator, weight, strength, rule), expected)


def test_comfy_has_none() -> None:
    with pytest.raises(BuildError, match="ComfyUI has no IA3, and so no rule for its strength"):
        ia3((4, 6), on_input=True).apply(tensor(random(4, 6)), 0.5, "comfy")


@pytest.mark.parametrize("on_input", [False, True])
def test_rows_are_each_on_their_own(on_input: bool) -> None:
    weight, operator = random(6, 8), ia3((6, 8), on_input=on_input)
    close(applied(operator.rows(2, 5), weight[2:5]), applied(operator, weight)[2:5], 0.0)


@pytest.mark.parametrize("on_input", [False, True])
def test_any_strength_is_written_into_the_gain(on_input: bool) -> None:
    weight, operator = random(6, 8), ia3((6, 8), on_input=on_input)
    written = operator.written(-0.5)
    assert int(written[".on_input"]) == int(on_input)
    again = IA3(written[".weight"], bool(written[".on_input"]))
    close(applied(again, weight), applied(operator, weight, -0.5))
    assert torch.equal(operator.written()[".weight"], operator.gain)
