"""sd-scripts' OFT for Flux: parts of a fused weight, each with blocks and a limit of its own."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from lorapipe.errors import InputError
from lorapipe.formats.forms.kohya_oft import FORM

from .kit import array, measured, numbers, refused
from .operators import close, made, operator, weight
from .test_oft import oft, rotations

SIZES = (3, 3, 3, 6)


def flux(parts: int = 4) -> dict[str, Tensor]:
    shapes = {f"oft_blocks__{i}": (2, size, size) for i, size in enumerate(SIZES[:parts])}
    return numbers(1, **shapes)


@pytest.mark.parametrize("parts", [1, 3, 4])
@pytest.mark.parametrize("alpha", [None, 0.01])
def test_parts_follow_one_another_down_the_rows(parts: int, alpha: float | None) -> None:
    tensors = flux(parts)
    heights = [2 * size for size in SIZES[:parts]]
    w, first, expected = weight(sum(heights), 5), 0, []
    for i, height in enumerate(heights):
        matrices = rotations(array(tensors[f".oft_blocks.{i}"]), height * (alpha or 0.0))
        expected.append(oft(w[first : first + height], matrices))
        first += height
    close(made(FORM, tensors, w, alpha), np.concatenate(expected), 1e-6 if alpha else 1e-10)


def test_it_may_be_cut_between_blocks_of_each_part() -> None:
    known = measured(FORM, flux())
    assert (known.shape, known.cuts) == ((30, 0), ((6, 3), (6, 3), (6, 3), (12, 6)))


def test_a_part_that_is_missing_in_between_is_named() -> None:
    tensors = flux()
    del tensors[".oft_blocks.1"]
    assert refused(FORM, tensors) == ("half-missing", "without oft_blocks.1")


def test_blocks_that_make_no_rows_are_refused() -> None:
    tensors = {**flux(2), **numbers(1, oft_blocks__1=(2, 3, 4))}
    assert refused(FORM, tensors) == ("bad-factor-shape", "oft_blocks.0 [2, 3, 3], oft_blocks.1 [2, 3, 4]")


def test_an_alpha_of_0_is_refused_as_its_program_would_turn_nothing() -> None:
    with pytest.raises(InputError, match="its alpha is 0, with which sd-scripts turns nothing"):
        operator(FORM, flux(), 0.0)
