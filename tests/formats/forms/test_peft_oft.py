"""PEFT's OFT by its config, and OneTrainer's without one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lorapipe.formats.forms.form import AdapterForm
from lorapipe.formats.forms.peft_oft import FORM

from .kit import Array, array, measured, numbers, refused
from .operators import close, made, weight

SIZE, ENTRIES = 4, 6


def configured(**settings: Any) -> AdapterForm:
    assert FORM.configured is not None
    return FORM.configured(settings)


def skew(row: Array) -> Array:
    found = np.zeros((SIZE, SIZE))
    found[np.triu_indices(SIZE, 1)] = row
    return found - found.T


def turn(s: Array, terms: int | None) -> Array:
    one = np.eye(SIZE)
    if terms is None:
        return (one - s) @ np.linalg.inv(one + s)
    powers = [np.linalg.matrix_power(s, p) for p in range(1, terms)]
    return one + sum(2 * p for p in powers[:-1]) + powers[-1]


def rotated(w: Array, matrices: list[Array]) -> Array:
    flat = w.reshape(len(w), -1)
    parts = [flat[:, i * SIZE : (i + 1) * SIZE] @ m.T for i, m in enumerate(matrices)]
    return np.concatenate(parts, axis=1).reshape(w.shape)


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({}, 5),
        ({"use_cayley_neumann": True}, 5),
        ({"use_cayley_neumann": True, "num_cayley_neumann_terms": 7}, 7),
        ({"use_cayley_neumann": False}, None),
    ],
)
@pytest.mark.parametrize("shape", [(6, 12), (6, 3, 2, 2)])
def test_the_config_says_which_formula(
    settings: dict[str, Any], terms: int | None, shape: tuple[int, ...]
) -> None:
    tensors, w = numbers(1, oft_R__weight=(3, ENTRIES)), weight(*shape)
    matrices = [turn(skew(row), terms) for row in array(tensors[".oft_R.weight"])]
    close(made(configured(**settings), tensors, w), rotated(w, matrices))


def test_coft_projects_to_the_configs_limit() -> None:
    form = configured(use_cayley_neumann=False, coft=True, eps=0.5)
    tensors, w = numbers(1, oft_R__weight=(3, ENTRIES)), weight(6, 12)
    most, matrices = 0.5 / 3**0.5, []
    for row in array(tensors[".oft_R.weight"]):
        s = skew(row)
        matrices.append(turn(s * min(1.0, most / np.sqrt((s**2).sum())), None))
    close(made(form, tensors, w), rotated(w, matrices))


def test_one_row_of_numbers_is_for_all_blocks_of_whatever_weight() -> None:
    tensors, w = numbers(1, oft_R__weight=(1, ENTRIES)), weight(6, 12)
    assert measured(FORM, tensors).shape == (0, 0)
    matrix = turn(skew(array(tensors[".oft_R.weight"])[0]), 5)
    close(made(FORM, tensors, w), rotated(w, [matrix] * 3))


def test_several_rows_tell_the_columns_and_any_row_of_the_weight_is_on_its_own() -> None:
    known = measured(FORM, numbers(1, oft_R__weight=(3, ENTRIES)))
    assert (known.shape, known.divisor, known.cuts) == ((0, 12), None, ((0, 1),))


@pytest.mark.parametrize("shape", [(6, 12), (6, 3, 2, 2)])
@pytest.mark.parametrize("marked", [False, True])
def test_without_a_config_it_is_onetrainers(shape: tuple[int, ...], marked: bool) -> None:
    tensors, w = numbers(1, oft_R__weight=(3, ENTRIES)), weight(*shape)
    rows = array(tensors[".oft_R.weight"])
    if marked:
        tensors = {**tensors, ".oft_R.scaled_oft": torch.ones((), dtype=torch.float32)}
        rows = rows / (2 * (SIZE - 1) ** 0.5)
    matrices = [turn(skew(row), 5) for row in rows]
    close(made(FORM, tensors, w), rotated(w, [m.T for m in matrices] if len(shape) > 2 else matrices))


@pytest.mark.parametrize("shape", [(3, 5), (3,), (0, 6), (3, 0), (3, 2, 3)])
def test_numbers_that_make_no_triangle_are_refused(shape: tuple[int, ...]) -> None:
    assert refused(FORM, numbers(1, oft_R__weight=shape)) == ("bad-factor-shape", f"oft_R {list(shape)}")
