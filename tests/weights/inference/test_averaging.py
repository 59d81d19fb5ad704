"""What checkpoints count in an average, against the recursions and integrals that define it."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.averaging import (
    WIDEST,
    average_spec,
    decay_weights,
    exponent,
    power_weights,
)
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling

from ..samples import CONV, LINEAR, TEXT, adapter

# --- weights --------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_decay_weighs_as_the_recursion_does(decay: float, count: int) -> None:
    values = np.random.default_rng(count).standard_normal(count)
    running = values[0]
    for value in values[1:]:
        running = decay * running + (1 - decay) * value
    assert values @ decay_weights(count, decay) == pytest.approx(running, rel=1e-12)


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.15, 0.25, 0.28])
def test_the_exponent_is_the_root_of_the_papers_cubic(sigma_rel: float) -> None:
    """Algorithm 2: gamma^3 + 7 gamma^2 + (16 - t) gamma + (12 - t) = 0 with t = sigma_rel^-2."""
    t = sigma_rel**-2
    roots = np.roots([1, 7, 16 - t, 12 - t])
    wanted = roots[np.isreal(roots) & (roots.real >= 0)].real.max()
    assert exponent(sigma_rel) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.2])
def test_the_profile_is_as_wide_as_was_asked(sigma_rel: float) -> None:
    """The standard deviation of a density t^gamma on [0, 1], by moments."""
    gamma = exponent(sigma_rel)
    mean = (gamma + 1) / (gamma + 2)
    variance = (gamma + 1) / (gamma + 3) - mean**2
    assert math.sqrt(variance) == pytest.approx(sigma_rel, rel=1e-9)


@pytest.mark.parametrize("sigma_rel", [0.0, -0.1, WIDEST, 0.5, float("nan")])
def test_a_width_that_no_profile_has_is_an_error(sigma_rel: float) -> None:
    with pytest.raises(RecipeError) as caught:
        exponent(sigma_rel)
    assert (caught.value.code, caught.value.option) == ("bad-width", "sigma-rel")


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1, 0.25])
@pytest.mark.parametrize("count", [2, 5, 40])
def test_even_steps_weigh_as_the_papers_recursion_does(sigma_rel: float, count: int) -> None:
    """Equation 2: beta(t) = (1 - 1/t)^(gamma + 1)."""
    gamma = exponent(sigma_rel)
    values = np.random.default_rng(count).standard_normal(count)
    running = 0.0
    for t, value in enumerate(values, 1):
        beta = (1 - 1 / t) ** (gamma + 1)
        running = beta * running + (1 - beta) * value
    assert values @ power_weights(range(1, count + 1), sigma_rel) == pytest.approx(running, rel=1e-9)


def test_steps_from_zero_weigh_as_musubi_tuner_does() -> None:
    """lora_post_hoc_ema.py@30c658c: the i-th file after the first has t = i, the first is the beginning."""
    gamma = exponent(0.2)
    values = np.random.default_rng(0).standard_normal(5)
    running = values[0]
    for i, value in enumerate(values[1:]):
        beta = (1 - 1 / (i + 1)) ** (gamma + 1)
        running = running * beta + value * (1 - beta)
    weights = power_weights(range(5), 0.2)
    assert weights[0] == 0.0
    assert values @ weights == pytest.approx(running, rel=1e-12)


def test_uneven_steps_weigh_by_the_share_of_the_profile() -> None:
    gamma = exponent(0.15)
    grid = (np.arange(1_000_000) + 0.5) / 1_000_000
    density = (gamma + 1) * grid**gamma
    ends = [0, 0.1, 0.15, 0.7, 1.0]
    shares = [density[(grid > a) & (grid <= b)].mean() * (b - a) for a, b in pairwise(ends)]
    np.testing.assert_allclose(power_weights([200, 300, 1400, 2000], 0.15), shares, atol=1e-6)


@given(
    st.lists(st.integers(1, 10_000), min_size=2, max_size=12, unique=True).map(sorted),
    st.floats(0.02, 0.28),
    st.floats(0.01, 0.99),
)
@settings(max_examples=50, deadline=None)
def test_weights_are_shares_and_only_the_ratios_of_steps_count(
    steps: list[int], sigma_rel: float, decay: float
) -> None:
    for weights in (power_weights(steps, sigma_rel), decay_weights(len(steps), decay)):
        assert all(weight >= 0 for weight in weights)
        assert sum(weights) == pytest.approx(1.0, abs=1e-12)
    doubled = power_weights([2 * step for step in steps], sigma_rel)
    assert doubled == pytest.approx(power_weights(steps, sigma_rel), abs=1e-12)


def test_the_decays_weights_are_exact() -> None:
    half = Fraction(1, 2)
    assert decay_weights(4, 0.5) == [float(half**3), float(half**3), float(half**2), float(half)]


@pytest.mark.parametrize("steps", [[1, 1], [2, 1], [1, 3, 2], [-1, 1]])
def test_steps_rise(steps: list[int]) -> None:
    with pytest.raises(RecipeError) as caught:
        power_weights(steps, 0.1)
    assert (caught.value.code, caught.value.option) == ("bad-steps", "steps")


# --- specs ----------------------------------------------------------------------------------


def test_an_average_has_the_ranks_of_its_terms() -> None:
    spec = adapter(rank=4).spec
    assert average_spec([("a", spec), ("b", spec), ("c", spec)]) == spec


def refused(first: AdapterSpec, second: AdapterSpec) -> str:
    with pytest.raises(RecipeError) as caught:
        average_spec([("a", first), ("b", second)])
    assert caught.value.option == "ema"
    return str(caught.value)


def test_checkpoints_of_two_runs_are_told_apart() -> None:
    shapes = {LINEAR: (12, 10), TEXT: (7, 11)}
    both, one = adapter(shapes=shapes).spec, adapter(shapes={LINEAR: (12, 10)}).spec
    message = "text.q_proj.weight: 'a' has a module that 'b' lacks: they are not of one training run"
    assert message in refused(both, one)
    assert message.replace("'a'", "'x'").replace("'b'", "'a'").replace("'x'", "'b'") in refused(one, both)
    assert "attn.to_q.weight: 'a' has rank 4 here, 'b' rank 8 - 'average: deltas'" in refused(
        adapter(4).spec, adapter(8).spec
    )


def of_form(name: str, shape: tuple[int, ...] = (12, 10), *, additive: bool = True) -> AdapterSpec:
    form = Form(name, additive=additive)
    module = ModuleSpec(shape, min(shape) if additive else 0, Spelling("x"), form)
    return AdapterSpec("sd1", {LINEAR: module}, "F32")


def test_formats_without_two_factors_are_refused_and_full_differences_are_not() -> None:
    assert "'a' has a LoHa here, whose factors are not averaged" in refused(of_form("LoHa"), of_form("LoHa"))
    full = of_form("full difference")
    assert average_spec([("a", full), ("b", full)]) == full
    bias = AdapterSpec(
        "sd1", {ModuleId("unet", "b"): ModuleSpec((9,), 1, Spelling("x"), Form("bias"))}, "F32"
    )
    assert average_spec([("a", bias), ("b", bias)]).modules.keys() == bias.modules.keys()
    dora = of_form("DoRA", additive=False)
    assert "a function of the weight" in refused(dora, dora)


def test_what_the_checkpoints_agree_on_is_kept() -> None:
    first = adapter(metadata={"ss_output_name": "x", "ss_steps": "10"}).spec
    later = adapter(metadata={"ss_output_name": "x", "ss_steps": "20"}).spec
    assert average_spec([("a", first), ("b", later)]).metadata == {"ss_output_name": "x"}
    assert CONV in first.modules
