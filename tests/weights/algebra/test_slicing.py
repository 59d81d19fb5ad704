"""Slices of factors, against products made apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError, RecipeError
from lorapipe.weights.algebra.combine import concat
from lorapipe.weights.algebra.slicing import sliced
from lorapipe.weights.inference.steps import slice_spec

from ..samples import LINEAR, SHAPES, adapter, dense, to_numpy


@pytest.mark.parametrize("components", [1, 3, 4])
@pytest.mark.parametrize("trained", [False, True])
def test_a_slice_is_the_product_of_the_first_components_at_its_strength(
    components: int, trained: bool
) -> None:
    value = adapter(4, 0.75)
    found = sliced(value, components, trained=trained)
    strength = 0.75 * (math.sqrt(4 / components) if trained else 4 / components)
    for module in SHAPES:
        whole = value.delta(module).terms[0].structure.load().factors(torch.float64)
        exact = strength * (to_numpy(whole.up)[:, :components] @ to_numpy(whole.down)[:components])
        np.testing.assert_allclose(dense(found.delta(module)), exact, rtol=1e-13, atol=1e-13)
    found.check(slice_spec(value.spec, components))


def test_the_strength_of_training_and_the_papers_meet_at_the_whole() -> None:
    value = adapter(4)
    for trained in (False, True):
        assert sliced(value, 4, trained=trained).delta(LINEAR) is value.delta(LINEAR)


def test_the_slices_of_a_transposed_module_are_the_transposed_slices() -> None:
    delta = adapter(4).delta(LINEAR)
    (term,) = delta.transposed().terms
    (part,) = sliced(adapter(4), 2).delta(LINEAR).transposed().terms
    whole, first = (t.structure.load().factors(torch.float64) for t in (term, part))
    assert torch.equal(first.up, whole.up[:, :2])
    assert torch.equal(first.down, whole.down[:2])


def test_extras_stay_and_the_source_is_not_changed() -> None:
    value = adapter(4, extras={"e": torch.ones(2)})
    found = sliced(value, 2)
    assert found.extras["e"] is value.extras["e"]
    assert value.delta(LINEAR).rank == 4


def test_sums_and_too_many_components_are_refused() -> None:
    both = concat([("a", 1.0, adapter(4)), ("b", 1.0, adapter(4, seed=9))])
    with pytest.raises(BuildError, match="no first components") as caught:
        sliced(both, 2)
    assert caught.value.module == str(LINEAR)
    with pytest.raises(RecipeError, match="has 4 components, not 5"):
        sliced(adapter(4), 5)
