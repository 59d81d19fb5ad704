"""The port of operators: strengths, rows and transposes of what is not read yet."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.operators.dora import DoRA
from lorapipe.weights.operators.full_weight import FullWeight
from lorapipe.weights.operators.ia3 import IA3
from lorapipe.weights.operators.operator import Operated, Operator, Turned, blended, kept
from lorapipe.weights.structures.structure import LowRank

from .kit import applied, close, random, tensor


def ia3() -> IA3:
    return IA3(tensor(random(4, seed=1)), on_input=False)


def operated(read: Callable[[], Operator] = ia3, strength: float = 0.5) -> Operated:
    return Operated((4, 6), strength, read)


def test_scaling_multiplies_the_strength_and_reads_nothing() -> None:
    def unread() -> Operator:
        raise AssertionError

    value = operated(unread).scaled(-3.0)
    assert (value.strength, value.shape) == (-1.5, (4, 6))


def test_an_operator_is_read_anew_for_each_use() -> None:
    reads = []

    def read() -> Operator:
        reads.append(1)
        return ia3()

    value = operated(read)
    value.rows(0, 2).read()
    value.transposed().read()
    assert len(reads) == 2


def test_rows_do_what_the_whole_does_to_them() -> None:
    weight = random(4, 6)
    part = operated().rows(1, 3)
    assert (part.shape, part.strength) == ((2, 6), 0.5)
    close(applied(part.read(), weight[1:3]), applied(ia3(), weight)[1:3], 0.0)


def test_a_transposed_operator_sees_the_weight_as_its_file_means_it() -> None:
    weight = random(6, 4, seed=2)
    turned = operated().transposed()
    assert turned.shape == (6, 4)
    close(applied(turned.read(), weight, 0.7), applied(ia3(), weight.T, 0.7).T, 0.0)


def test_a_bias_has_no_other_side() -> None:
    bias = random(4, seed=2)
    close(applied(Turned(ia3()), bias, 0.7), applied(ia3(), bias, 0.7), 0.0)


def test_rows_of_a_transposed_operator_are_columns() -> None:
    with pytest.raises(ValueError, match="columns"):
        Turned(ia3()).rows(0, 2)


def test_a_transposed_operator_is_written_as_its_file_had_it() -> None:
    assert torch.equal(Turned(ia3()).written()[".weight"], ia3().gain)


@pytest.mark.parametrize("strength", [0.0, 1.0, 0.3, -0.5, 2.0])
def test_strength_goes_that_part_of_the_way(strength: float) -> None:
    weight, changed = random(3, 3), random(3, 3, seed=1)
    found = blended(tensor(weight), tensor(changed), strength).numpy()
    close(found, weight + strength * (changed - weight), 1e-15)
    if strength in {0.0, 1.0}:
        close(found, (weight, changed)[int(strength)], 0.0)


def test_strength_0_keeps_even_the_sign_of_a_zero() -> None:
    weight = torch.tensor([-0.0, 0.0])
    found = blended(weight, torch.tensor([1.0, 1.0]), 0.0)
    assert torch.equal(torch.signbit(found), torch.tensor([True, False]))


def test_a_strength_without_a_place_in_the_format_is_refused_with_the_remedy() -> None:
    kept("DoRA", 1.0)
    with pytest.raises(BuildError) as caught:
        kept("DoRA", 0.5)
    assert str(caught.value) == (
        "error: the format DoRA can only say strength 1, this is 0.5"
        " - merge it into its checkpoint at that strength and extract a LoRA"
    )


@pytest.mark.parametrize(
    "operator",
    [
        ia3(),
        FullWeight(tensor(random(4, 6))),
        DoRA(LowRank(tensor(random(4, 2)), tensor(random(2, 6))), 1.0, tensor(random(4))),
    ],
)
def test_a_result_shares_nothing_with_its_operator(operator: Operator) -> None:
    before = applied(operator, random(4, 6))
    operator.apply(tensor(random(4, 6)), 1.0).fill_(0.0)
    close(applied(operator, random(4, 6)), before, 0.0)


def test_operators_move_to_a_device_whole() -> None:
    moved = Turned(DoRA(LowRank(torch.ones(4, 1), torch.ones(1, 6)), 1.0, torch.ones(4))).to("meta")
    assert isinstance(moved.operator, DoRA)
    assert {moved.operator.magnitude.device.type, moved.operator.delta.dense(torch.float32).device.type} == {
        "meta"
    }
