"""What formats have in common: factors, cores, and messages that show the shapes."""

from __future__ import annotations

import pytest

from lorapipe.formats.forms.form import Misshapen
from lorapipe.formats.forms.shapes import all_of, badly_shaped, core, left, right, shown
from lorapipe.weights.specs import TensorSpec


def specs(**shapes: tuple[int, ...]) -> dict[str, TensorSpec]:
    return {f".{role.replace('__', '.')}": TensorSpec("F16", shape) for role, shape in shapes.items()}


@pytest.mark.parametrize("shape", [(8, 4), (8, 4, 1), (8, 4, 1, 1)])
def test_a_left_factor_may_have_a_kernel_of_one(shape: tuple[int, ...]) -> None:
    assert left(specs(a=shape), ".a") == (8, 4)


@pytest.mark.parametrize("shape", [(), (8,), (8, 4, 3, 3), (0, 4), (8, 0)])
def test_a_left_factor_is_a_matrix(shape: tuple[int, ...]) -> None:
    with pytest.raises(Misshapen) as caught:
        left(specs(a=shape), ".a")
    assert (caught.value.code, str(caught.value)) == ("bad-factor-shape", f"a {list(shape)}")


@pytest.mark.parametrize(
    ("shape", "columns"), [((4, 8), (8,)), ((4, 8, 3, 3), (8, 3, 3)), ((4, 8, 1), (8, 1))]
)
def test_a_right_factor_may_have_any_kernel(shape: tuple[int, ...], columns: tuple[int, ...]) -> None:
    assert right(specs(b=shape), ".b") == (4, columns)


@pytest.mark.parametrize("shape", [(), (4,), (4, 8, 0, 3)])
def test_a_right_factor_has_rows_and_columns(shape: tuple[int, ...]) -> None:
    with pytest.raises(Misshapen, match="b"):
        right(specs(b=shape), ".b")


def test_a_core_has_both_ranks_and_the_kernel() -> None:
    assert core(specs(t=(4, 3, 5, 7)), ".t", 4, 3) == (5, 7)
    assert core(specs(t=(4, 3)), ".t", 4, 3) == ()
    with pytest.raises(Misshapen) as caught:
        core(specs(t=(4, 3, 5, 7)), ".t", 3, 4)
    assert caught.value.code == "ranks-disagree"


def test_all_that_is_missing_is_named_at_once() -> None:
    all_of(specs(a=(1, 1), b=(1, 1)), ".a", ".b")
    with pytest.raises(Misshapen) as caught:
        all_of(specs(a=(1, 1)), ".a", ".b", ".lora_up.weight")
    assert (caught.value.code, str(caught.value)) == ("half-missing", "without b, lora_up")


def test_messages_show_the_tensors_in_question() -> None:
    held = specs(a=(8, 4), lora_mid__weight=(4, 4, 3, 3))
    assert shown(held) == "a [8, 4], lora_mid [4, 4, 3, 3]"
    assert str(badly_shaped(held)) == shown(held)
    assert str(badly_shaped(held, ".a")) == "a [8, 4]"
