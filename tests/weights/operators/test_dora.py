"""DoRA: lengths after the delta, on either axis, by each program's rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import BuildError
from lorapipe.weights.operators.dora import MAGNITUDE, SCALE, DoRA, epsilon
from lorapipe.weights.structures.products import Hadamard, Kronecker, Tucker
from lorapipe.weights.structures.structure import Dense, Loaded, LowRank

from .kit import SHAPES, Array, applied, close, random, tensor

EPSILON = 2.0**-52
"""What is added to a norm whose magnitude is kept in float64, as all here are."""


def lengths(weight: Array, *, on_input: bool) -> Array:
    """The norm of each row, or of each input channel over all rows and the kernel."""
    count = weight.shape[1 if on_input else 0]
    found = np.empty(count)
    for i in range(count):
        part = weight[:, i] if on_input else weight[i]
        found[i] = sum(float(value) ** 2 for value in part.ravel()) ** 0.5
    return found


def stretched(weight: Array, gains: Array, *, on_input: bool) -> Array:
    found = weight.copy()
    for i, gain in enumerate(gains):
        if on_input:
            found[:, i] = weight[:, i] * gain
        else:
            found[i] = weight[i] * gain
    return found


def low_rank(shape: tuple[int, ...], seed: int = 5) -> LowRank:
    columns = int(np.prod(shape[1:]))
    return LowRank(tensor(random(shape[0], 2, seed=seed)), tensor(random(2, columns, seed=seed + 1)))


def added(delta: Loaded, weight: Array, coefficient: float) -> Array:
    return weight + coefficient * delta.dense(torch.float64).numpy().reshape(weight.shape)


def dora(shape: tuple[int, ...], *, on_input: bool = False, role: str = SCALE) -> DoRA:
    magnitude = np.abs(random(shape[1 if on_input else 0], seed=9)) + 0.5
    return DoRA(low_rank(shape), 0.5, tensor(magnitude), on_input, role)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("on_input", [False, True])
def test_rows_or_input_channels_get_their_trained_lengths(shape: tuple[int, ...], on_input: bool) -> None:
    weight, operator = random(*shape), dora(shape, on_input=on_input)
    v = added(operator.delta, weight, 0.5)
    gains = operator.magnitude.numpy() / (lengths(v, on_input=on_input) + EPSILON)
    found = applied(operator, weight)
    close(found, stretched(v, gains, on_input=on_input))
    close(lengths(found, on_input=on_input), operator.magnitude.numpy(), 1e-6)


@pytest.mark.parametrize("on_input", [False, True])
def test_strength_interpolates_between_the_weights(on_input: bool) -> None:
    weight, operator = random(6, 8), dora((6, 8), on_input=on_input)
    full = applied(operator, weight)
    close(applied(operator, weight, 0.3), weight + 0.3 * (full - weight))
    close(applied(operator, weight, 0.0), weight, 0.0)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("on_input", [False, True])
def test_lycoris_leaves_the_delta_in_at_any_strength(strength: float, on_input: bool) -> None:
    weight, operator = random(6, 8), dora((6, 8), on_input=on_input)
    v = added(operator.delta, weight, 0.5)
    gains = strength * (operator.magnitude.numpy() / (lengths(v, on_input=on_input) + EPSILON) - 1) + 1
    close(applied(operator, weight, strength, "lycoris"), stretched(v, gains, on_input=on_input))


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_comfy_divides_by_the_lengths_of_the_rows_without_the_delta(strength: float) -> None:
    weight, operator = random(6, 8), dora((6, 8))
    gains = operator.magnitude.numpy() / (lengths(weight, on_input=False) + EPSILON)
    full = stretched(added(operator.delta, weight, 0.5), gains, on_input=False)
    close(applied(operator, weight, strength, "comfy"), weight + strength * (full - weight))


def test_comfy_takes_input_channels_as_the_trainers_do() -> None:
    weight, operator = random(6, 8), dora((6, 8), on_input=True)
    close(applied(operator, weight, 0.3, "comfy"), applied(operator, weight, 0.3))


def test_peft_adds_nothing_to_a_norm_and_has_no_rule_but_the_exact_one() -> None:
    weight, operator = 1e-7 * random(6, 8), dora((6, 8), role=MAGNITUDE)
    tiny = DoRA(operator.delta, 1e-9, operator.magnitude, False, MAGNITUDE)
    close(lengths(applied(tiny, weight), on_input=False), operator.magnitude.numpy())
    for rule, program in (("comfy", "ComfyUI"), ("lycoris", "LyCORIS")):
        with pytest.raises(BuildError, match=f"{program} has no PEFT DoRA"):
            operator.apply(tensor(weight), 1.0, rule)


def test_lengths_in_half_types_were_trained_in_fp32() -> None:
    assert {epsilon(dtype) for dtype in (torch.float16, torch.bfloat16, torch.float32)} == {2.0**-23}
    assert epsilon(torch.float64) == EPSILON


@pytest.mark.parametrize("role", [SCALE, MAGNITUDE])
def test_a_row_of_zeros_stays_one(role: str) -> None:
    delta = LowRank(torch.zeros(3, 1, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64))
    weight = random(3, 4)
    weight[1] = 0.0
    found = applied(DoRA(delta, 1.0, torch.ones(3, dtype=torch.float64), False, role), weight)
    close(found[1], np.zeros(4), 0.0)
    assert np.isfinite(found).all()


def around(name: str) -> Loaded:
    """Each structure that a DoRA wraps, for a weight [12, 4, 3, 3]."""
    one, two = low_rank((12, 4, 3, 3), 1), low_rank((12, 4, 3, 3), 3)
    tucker = Tucker(tensor(random(12, 2)), tensor(random(2, 3, 3, 3)), tensor(random(3, 4)))
    kronecker = Kronecker(Dense(tensor(random(3, 2))), LowRank(tensor(random(4, 2)), tensor(random(2, 18))))
    return {"Tucker": tucker, "LoHa": Hadamard(one, two), "LoKr": kronecker}[name]


@pytest.mark.parametrize("name", ["Tucker", "LoHa", "LoKr"])
def test_any_structure_may_be_inside(name: str) -> None:
    weight, delta = random(12, 4, 3, 3), around(name)
    magnitude = np.abs(random(12, seed=9)) + 0.5
    v = added(delta, weight, 0.25)
    expected = stretched(v, magnitude / (lengths(v, on_input=False) + EPSILON), on_input=False)
    close(applied(DoRA(delta, 0.25, tensor(magnitude)), weight), expected)


@given(st.integers(0, 11), st.integers(1, 12), st.sampled_from(["LoRA", "Tucker", "LoHa", "LoKr"]))
def test_rows_are_each_on_their_own(start: int, height: int, name: str) -> None:
    stop = min(12, start + height)
    weight = random(12, 4, 3, 3)
    delta = low_rank((12, 4, 3, 3)) if name == "LoRA" else around(name)
    operator = DoRA(delta, 0.5, tensor(np.abs(random(12, seed=9))))
    close(applied(operator.rows(start, stop), weight[start:stop]), applied(operator, weight)[start:stop])


def test_input_channels_see_all_rows() -> None:
    with pytest.raises(ValueError, match="sees all rows"):
        dora((6, 8), on_input=True).rows(0, 3)


def test_it_is_written_as_it_was_read() -> None:
    operator = dora((6, 8))
    assert isinstance(operator.delta, LowRank)
    written = operator.written()
    assert set(written) == {".lora_up.weight", ".lora_down.weight", ".dora_scale", ".alpha"}
    assert torch.equal(written[".lora_up.weight"], operator.delta.up)
    assert torch.equal(written[".dora_scale"], operator.magnitude)
    assert float(written[".alpha"]) == 1.0
    assert ".lora_magnitude_vector" in dora((6, 8), role=MAGNITUDE).written()


def test_another_strength_is_not_written() -> None:
    with pytest.raises(BuildError, match="the format DoRA can only say strength 1"):
        dora((6, 8)).written(0.5)
