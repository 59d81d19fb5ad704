"""A target's rows follow from the module's own shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.architectures import Target
from lorapipe.errors import RecipeError


def test_a_module_with_a_tensor_of_its_own_has_no_rows() -> None:
    assert Target("unet", "proj_in.weight").rows(320) == ()


@pytest.mark.parametrize(
    ("parts", "out_features", "rows"),
    [
        (((0, 1, 3),), 1024, ((0, 1024),)),
        (((1, 2, 3),), 1280, ((1280, 2560),)),
        (((2, 3, 3),), 80, ((160, 240),)),  # a model cut down by 16
        (((3, 7, 7),), 400, ((300, 700),)),  # Flux: the mlp is four of linear1's seven parts
        (((3, 4, 5),), 768, ((2304, 3072),)),  # Lumina 2: k is one of five, q three
        (((1, 2, 2), (0, 1, 2)), 6144, ((3072, 6144), (0, 3072))),  # diffusers' scale stands before shift
    ],
)
def test_rows_are_counted_in_units_of_the_modules_own_height(
    parts: tuple[tuple[int, int, int], ...], out_features: int, rows: tuple[tuple[int, int], ...]
) -> None:
    assert Target("te", "in_proj_weight", parts).rows(out_features) == rows


def test_rows_that_do_not_divide_name_the_tensor() -> None:
    with pytest.raises(RecipeError) as caught:
        Target("unet", "linear1.weight", ((3, 7, 7),)).rows(402)
    assert str(caught.value) == (
        "error: 402 rows do not divide into 4 parts of linear1.weight"
        " - the module's shape is not one of this architecture"
    )
    assert caught.value.code == "rows-do-not-divide"


@given(st.integers(1, 8), st.integers(1, 4096))
def test_the_parts_of_a_fused_tensor_cover_it_without_gap_or_overlap(n: int, unit: int) -> None:
    cuts = [cut for i in range(n) for cut in Target("te", "w", ((i, i + 1, n),)).rows(unit)]
    assert cuts == [(i * unit, (i + 1) * unit) for i in range(n)]


@given(st.permutations(range(5)), st.integers(1, 64))
def test_a_permuted_module_has_each_row_of_the_tensor_once(order: list[int], unit: int) -> None:
    cuts = Target("te", "w", tuple((i, i + 1, 5) for i in order)).rows(5 * unit)
    assert [row for cut in cuts for row in range(*cut)] == [
        i * unit + row for i in order for row in range(unit)
    ]


def test_targets_are_values_that_differ_by_parts_and_orientation() -> None:
    q, k = (Target("te", "w", ((i, i + 1, 3),)) for i in range(2))
    others = (Target("te", "w"), Target("te", "w", transpose=True), Target("te", "w", ((0, 1, 3),)))
    assert len({q, k, *others}) == 4


@pytest.mark.parametrize(
    ("target", "bias"),
    [
        (Target("u", "conv_in.weight", kind="conv3x3"), Target("u", "conv_in.bias", kind="bias")),
        (
            Target("te", "attn.in_proj_weight", ((1, 2, 3),)),
            Target("te", "attn.in_proj_bias", ((1, 2, 3),), kind="bias"),
        ),
        (Target("u", "norm.weight", kind="norm"), Target("u", "norm.bias", kind="bias")),
        (Target("te", "text_projection", transpose=True), None),
        (Target("te", "token_embedding.weight", kind="embedding"), None),
        (Target("u", "norm.scale", kind="norm"), None),
        (Target("u", "norm.bias", kind="bias"), None),
    ],
)
def test_a_bias_stands_beside_its_weight_with_the_same_parts(target: Target, bias: Target | None) -> None:
    assert target.bias == bias
    if bias is not None:
        assert bias.weight_key == target.weight_key == target.key
