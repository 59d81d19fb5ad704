"""An adapter with a weight of its own: that is set first, and then the adapter acts on it."""

from __future__ import annotations

import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.operators.full_weight import FullWeight
from lorapipe.weights.operators.ia3 import IA3
from lorapipe.weights.operators.rebased import BASE, Added, Rebased
from lorapipe.weights.structures.structure import Dense, LowRank

W = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=torch.float64)
SAVED = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
DELTA = LowRank(torch.tensor([[1.0], [0.0], [2.0]]), torch.tensor([[10.0, 1.0]]))
SUM = torch.tensor([[6.0, 0.5], [0.0, 1.0], [12.0, 3.0]], dtype=torch.float64)
"""The saved weight and half the delta."""


def rebased() -> Rebased:
    return Rebased(SAVED, Added(DELTA, 0.5), {".lora_A.weight": DELTA.down, BASE: SAVED})


def test_a_delta_is_added_to_the_saved_weight_not_to_the_models() -> None:
    assert torch.equal(rebased().apply(W, 1.0), SUM)
    assert torch.equal(rebased().apply(torch.zeros_like(W), 1.0), SUM)


@pytest.mark.parametrize("strength", [0.0, 0.25, -1.0, 2.0])
def test_strength_goes_that_part_of_the_way(strength: float) -> None:
    torch.testing.assert_close(rebased().apply(W, strength), W + strength * (SUM - W))


def test_an_operator_acts_on_the_saved_weight() -> None:
    gains = torch.tensor([2.0, 0.5, 1.0])
    found = Rebased(SAVED, IA3(gains, on_input=False, of_peft=True)).apply(W, 1.0)
    assert torch.equal(found, SAVED.double() * gains.double()[:, None])


def test_the_models_weight_is_not_written_over() -> None:
    before, saved = W.clone(), SAVED.clone()
    rebased().apply(W, 0.5)
    rebased().apply(W, 1.0)
    assert torch.equal(W, before)
    assert torch.equal(SAVED, saved)


def test_kernels_may_be_flat() -> None:
    flat = Rebased(SAVED, Added(Dense(SAVED), 1.0)).apply(W[:, :, None, None], 1.0)
    assert torch.equal(flat, 2 * SAVED.double()[:, :, None, None])


def test_rows_are_rows_of_both() -> None:
    assert torch.equal(rebased().rows(1, 3).apply(W[1:], 1.0), SUM[1:])
    assert torch.equal(Rebased(SAVED, FullWeight(SAVED)).rows(0, 2).apply(W[:2], 1.0), SAVED.double()[:2])


def test_the_files_own_tensors_are_written_and_rows_have_none() -> None:
    assert list(rebased().written()) == [".lora_A.weight", BASE]
    with pytest.raises(BuildError) as caught:
        rebased().written(0.5)
    assert caught.value.code == "strength-not-kept"
    with pytest.raises(ValueError, match="have no format"):
        rebased().rows(0, 2).written()


@pytest.mark.parametrize("rule", ["comfy", "lycoris"])
def test_programs_that_do_not_know_it_have_no_rule(rule: str) -> None:
    with pytest.raises(BuildError) as caught:
        rebased().apply(W, 0.5, rule)
    assert caught.value.code == "no-strength-rule"


def test_it_goes_to_a_device_whole() -> None:
    moved = rebased().to("meta")
    assert {tensor.device.type for tensor in (moved.base, *moved.tensors.values())} == {"meta"}
    assert moved.apply(W.to("meta"), 1.0).shape == (3, 2)


def test_what_adds_can_be_written_by_itself() -> None:
    written = Added(DELTA, 0.5).written(2.0)
    assert float(written[".alpha"]) == 1.0
    assert torch.equal(written[".lora_down.weight"], DELTA.down)
    assert torch.equal(
        Added(DELTA, 0.5).rows(2, 3).apply(W[2:], 2.0), W[2:] + 2 * torch.tensor([[10.0, 1.0]])
    )
