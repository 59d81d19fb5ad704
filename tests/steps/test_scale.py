"""``scale``: deltas times a strength, whole or by component."""

from __future__ import annotations

import numpy as np
import pytest

from lorapipe.errors import RecipeError
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Cost, Materialise

from ..bench import TE, Bench
from .kit import CONV, FILE, POINT, Q, deltas, given, infer, load, lora, model, options, work, written

KIND = find_kind("scale")


def test_it_is_free_and_all_of_its_options_count() -> None:
    spec = lora()
    assert KIND.materialise is Materialise.LAZY
    assert KIND.keyless == frozenset()
    assert KIND.cost(given(scale=spec), options("scale", by=0.5), spec) == Cost()


@pytest.mark.parametrize("by", [0.5, -1, 1e-30, 7])
def test_the_spec_stays(by: float) -> None:
    assert infer("scale", given(scale=lora()), by=by) == lora()


def test_a_component_at_zero_is_left_out() -> None:
    spec = infer("scale", given(scale=lora()), components={"te": 0})
    assert list(spec.modules) == [Q, POINT, CONV]


def test_everything_at_zero_is_an_error() -> None:
    for said in ({"by": 0}, {"components": {"te": 0, "unet": 0}}, {"by": 0, "components": {"te": 1}}):
        with pytest.raises(RecipeError) as caught:
            infer("scale", given(scale=lora()), **said)  # type: ignore[arg-type]
        assert caught.value.code == "nothing-left"


def test_a_component_that_is_not_there_is_an_error_with_those_that_are() -> None:
    with pytest.raises(RecipeError) as caught:
        infer("scale", given(scale=lora()), components={"unte": 0.5})
    assert "did you mean 'unet'?" in str(caught.value)
    with pytest.raises(RecipeError, match="it has unet"):
        infer("scale", given(scale=lora(shapes={Q: (4, 4)})), components={"te": 0.5})


@pytest.mark.parametrize("wrong", [model(), FILE])
def test_only_a_lora_is_scaled(wrong: object) -> None:
    with pytest.raises(RecipeError) as caught:
        infer("scale", given(scale=wrong), by=0.5)
    assert (caught.value.code, caught.value.option) == ("wrong-type", "scale")


def test_the_delta_is_multiplied_once(bench: Bench) -> None:
    scaled = work("scale", given(scale=load(bench.lora("a", alpha=3.0))), by=0.5)
    for stem, delta in deltas(scaled).items():
        np.testing.assert_allclose(delta, 0.5 * bench.deltas["a"][stem], rtol=1e-6)


def test_by_and_components_multiply(bench: Bench) -> None:
    loaded = load(bench.lora("a"))
    found = deltas(work("scale", given(scale=loaded), by=-2.0, components={"te": 0.25}))
    for stem, delta in found.items():
        strength = -0.5 if stem == TE else -2.0
        np.testing.assert_allclose(delta, strength * bench.deltas["a"][stem], rtol=1e-6)


def test_scaling_twice_is_scaling_by_the_product(bench: Bench) -> None:
    loaded = load(bench.lora("a"))
    twice = work("scale", given(scale=work("scale", given(scale=loaded), by=0.5)), by=-4.0)
    once = work("scale", given(scale=loaded), by=-2.0)
    for stem, delta in deltas(twice).items():
        np.testing.assert_array_equal(delta, deltas(once)[stem])


def test_other_formats_are_scaled_in_their_own_files(bench: Bench) -> None:
    """The strength is in alpha; of a full difference in its numbers."""
    loaded = load(bench.lycoris("a"))
    before, after = written(loaded), written(work("scale", given(scale=loaded), by=-0.3))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if name.endswith(".alpha"):
            assert float(after[name]) == pytest.approx(0.3 * float(tensor))
        elif name.endswith(".diff"):
            np.testing.assert_allclose(after[name], -0.3 * tensor.double(), rtol=1e-6)
        else:
            turned = name.endswith((".hada_w1_a", ".lokr_w1", ".lora_up.weight"))
            np.testing.assert_array_equal(after[name], -tensor if turned else tensor)
