"""BOFT: stages of rotations, between which rows change places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import BuildError
from lorapipe.weights.operators.boft import BOFT
from lorapipe.weights.operators.oft import Rotations

from .kit import Array, applied, close, inverse_rotation, limited, random, skew, tensor

LIMIT = 0.02


def boft(
    stages: int = 2, count: int = 4, size: int = 4, *, alpha: float | None = None, rescale: bool = False
) -> BOFT:
    blocks = tensor(random(stages, count, size, size, seed=3, size=0.3))
    gains = tensor(1.0 + 0.2 * random(count * size, seed=8)) if rescale else None
    return BOFT(Rotations.of(blocks, count * size), gains, alpha)


def source_row(place: int, stage: int, size: int) -> int:
    """Which row stands at ``place`` while a stage turns: those of a group's halves, in turn."""
    half = 2**stage * size // 2
    group, inside = divmod(place, 2 * half)
    return group * 2 * half + (inside % 2) * half + inside // 2


def butterfly(operator: BOFT, weight: Array, limit: float = 0.0, part: float = 1.0) -> Array:
    """Row by row: each new row is a sum of the rows in its block, found where they stand."""
    stages, count, size, _ = operator.rotations.blocks.shape
    flat = [skew(block) for block in operator.rotations.blocks.numpy().reshape(-1, size, size)]
    qs = limited(flat, limit)
    for stage in range(stages):
        found = np.zeros_like(weight)
        for k in range(count):
            r = np.eye(size) + part * (inverse_rotation(qs[stage * count + k]) - np.eye(size))
            for i in range(size):
                for j in range(size):
                    to, of = (source_row(k * size + place, stage, size) for place in (i, j))
                    found[to] += r[i, j] * weight[of]
        weight = found
    if operator.rescale is not None:
        weight = np.stack([gain * row for gain, row in zip(operator.rescale.numpy(), weight, strict=True)])
    return weight


@pytest.mark.parametrize(("stages", "count", "size"), [(1, 3, 4), (2, 4, 4), (3, 4, 2), (2, 2, 6)])
@pytest.mark.parametrize("columns", [(5,), (3, 2, 2)])
def test_each_stage_turns_blocks_of_rows_dealt_out(
    stages: int, count: int, size: int, columns: tuple[int, ...]
) -> None:
    weight, operator = random(count * size, *columns), boft(stages, count, size)
    close(applied(operator, weight), butterfly(operator, weight))


@pytest.mark.parametrize("alpha", [LIMIT, 10.0])
def test_alpha_limits_the_norm_of_all_stages_together_times_the_rows(alpha: float) -> None:
    weight, operator = random(16, 5), boft(alpha=alpha)
    close(applied(operator, weight), butterfly(operator, weight, alpha * 16), 1e-6)


@given(st.integers(1, 3), st.integers(1, 2), st.sampled_from([2, 4]))
def test_columns_keep_their_lengths_and_angles(stages: int, groups: int, size: int) -> None:
    count = groups * 2 ** (stages - 1)
    weight = random(count * size, 5)
    found = applied(boft(stages, count, size), weight)
    close(found.T @ found, weight.T @ weight, 1e-9)


@pytest.mark.parametrize("strength", [0.0, 0.3, -0.5, 1.0])
def test_strength_interpolates_between_the_weights(strength: float) -> None:
    weight, operator = random(16, 5), boft(rescale=True)
    close(applied(operator, weight, strength), weight + strength * (butterfly(operator, weight) - weight))


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_lycoris_weakens_each_stage_and_rescales_in_full(strength: float) -> None:
    weight, operator = random(16, 5), boft(alpha=LIMIT, rescale=True)
    expected = butterfly(operator, weight, LIMIT * 16, strength)
    close(applied(operator, weight, strength, "lycoris"), expected, 1e-6)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_comfy_weakens_each_stage_and_then_the_whole(strength: float) -> None:
    weight, operator = random(16, 5), boft(alpha=LIMIT, rescale=True)
    full = butterfly(operator, weight, LIMIT, strength)
    found = applied(operator, weight, strength, "comfy")
    close(found, weight + strength * (full - weight), 1e-6)


@pytest.mark.parametrize("rule", ["exact", "lycoris", "comfy"])
@pytest.mark.parametrize(("start", "stop"), [(0, 8), (8, 16), (8, 24)])
def test_groups_of_rows_are_each_on_their_own(start: int, stop: int, rule: str) -> None:
    weight, operator = random(24, 5), boft(2, 6, 4, alpha=LIMIT, rescale=True)
    part = applied(operator.rows(start, stop), weight[start:stop], 0.6, rule)
    close(part, applied(operator, weight, 0.6, rule)[start:stop])


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (4, 12)])
def test_rows_that_cross_a_group_are_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="cut a group of 8"):
        boft().rows(start, stop)


def test_it_is_written_as_it_was_read() -> None:
    operator = boft(alpha=0.5, rescale=True)
    written = operator.written()
    assert set(written) == {".oft_blocks", ".rescale", ".alpha"}
    assert torch.equal(written[".oft_blocks"], operator.rotations.blocks)
    assert float(written[".alpha"]) == 0.5


def test_some_rows_cannot_be_written_since_the_limit_is_that_of_all() -> None:
    with pytest.raises(ValueError, match="under a common limit"):
        boft().rows(8, 16).written()


def test_another_strength_is_not_written() -> None:
    with pytest.raises(BuildError, match="the format BOFT can only say strength 1"):
        boft().written(0.5)
