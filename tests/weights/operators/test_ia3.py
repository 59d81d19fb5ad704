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


@pytest.mark.parametrize("shape", [*SHAPES, (12,)])
@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_pefts_gain_begins_at_1_and_is_for_the_bias_too(shape: tuple[int, ...], strength: float) -> None:
    weight, gain = random(*shape), 1.0 + random(12, seed=1, size=0.3)
    expected = np.stack([row * (1.0 + strength * (g - 1.0)) for row, g in zip(weight, gain, strict=True)])
    close(applied(IA3(tensor(gain), on_input=False, of_peft=True), weight, strength), expected)


@pytest.mark.parametrize("strength", [1.0, -0.5])
def test_any_strength_is_written_into_pefts_gain(strength: float) -> None:
    weight = random(6, 8)
    operator = IA3(tensor(1.0 + random(6, seed=1, size=0.3)), on_input=False, of_peft=True)
    again = IA3(operator.written(strength)[".ia3_l"], on_input=False, of_peft=True)
    close(applied(again, weight), applied(operator, weight, strength))


def test_neither_comfy_nor_lycoris_has_pefts() -> None:
    for rule in ("comfy", "lycoris"):
        with pytest.raises(BuildError, match="has no PEFT IA3, and so no rule"):
            IA3(torch.ones(4), on_input=False, of_peft=True).apply(tensor(random(4, 6)), 0.5, rule)


@pytest.mark.parametrize(("on_input", "side"), [(False, "4 rows"), (True, "6 input channels")])
def test_gains_for_another_weight_are_refused(on_input: bool, side: str) -> None:
    with pytest.raises(BuildError) as caught:
        IA3(torch.ones(5), on_input).apply(tensor(random(4, 6)), 1.0)
    assert caught.value.code == "gain-misfit"
    assert caught.value.message == f"5 gains are not for {side}"
