"""A target's rows follow from the module's own shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.architectures import Target
from lorapipe.errors import RecipeError


def test_a_module_with_a_tensor_of_its_own_has_no_rows() -> None:
    assert Target("unet", "proj_in.weight").rows(320) is None


@pytest.mark.parametrize(
    ("part", "out_features", "rows"),
    [
        ((0, 1, 3), 1024, (0, 1024)),
        ((1, 2, 3), 1280, (1280, 2560)),
        ((2, 3, 3), 80, (160, 240)),  # a model cut down by 16
        ((3, 7, 7), 400, (300, 700)),  # Flux: the mlp is four of linear1's seven parts
    ],
)
def test_rows_are_counted_in_units_of_the_modules_own_height(
    part: tuple[int, int, int], out_features: int, rows: tuple[int, int]
) -> None:
    assert Target("te", "in_proj_weight", part).rows(out_features) == rows


def test_rows_that_do_not_divide_name_the_tensor() -> None:
    with pytest.raises(RecipeError) as caught:
        Target("unet", "linear1.weight", (3, 7, 7)).rows(402)
    assert str(caught.value) == (
        "error: 402 rows do not divide into 4 parts of linear1.weight"
        " - the module's shape is not one of this architecture"
    )
    assert caught.value.code == "rows-do-not-divide"


@given(st.integers(1, 8), st.integers(1, 4096))
def test_the_parts_of_a_fused_tensor_cover_it_without_gap_or_overlap(n: int, unit: int) -> None:
    cuts = [Target("te", "w", (i, i + 1, n)).rows(unit) for i in range(n)]
    covered = [row for cut in cuts if cut is not None for row in cut]
    assert covered == [edge for i in range(n) for edge in (i * unit, (i + 1) * unit)]


def test_targets_are_values_that_differ_by_part_and_orientation() -> None:
    q, k = (Target("te", "w", (i, i + 1, 3)) for i in range(2))
    assert (
        len({q, k, Target("te", "w"), Target("te", "w", transpose=True), Target("te", "w", (0, 1, 3))}) == 4
    )
