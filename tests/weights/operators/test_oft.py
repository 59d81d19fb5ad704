"""OFT: blocks of rows are turned, never stretched, and each program's limit and strength."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import BuildError
from lorapipe.weights.operators.oft import OFT, Rotations, cayley

from .kit import SHAPES, Array, applied, close, inverse_rotation, limited, random, skew, tensor

LIMIT = 0.02
"""An alpha that binds: the norms here are near 3, and twelve rows make it 0.24."""


def rotations(count: int, size: int, seed: int = 3, spread: float = 0.3) -> Rotations:
    return Rotations.of(tensor(random(count, size, size, seed=seed, size=spread)), count * size)


def oft(count: int = 3, size: int = 4, *, alpha: float | None = None, rescale: bool = False) -> OFT:
    gains = tensor(1.0 + 0.2 * random(count * size, seed=8)) if rescale else None
    return OFT((rotations(count, size),), gains, alpha)


def turns(operator: OFT, limit: float = 0.0) -> list[Array]:
    """R of each block, the limit taken over all of them."""
    blocks = [skew(block) for block in operator.splits[0].blocks.numpy()]
    return [inverse_rotation(q) for q in limited(blocks, limit)]


def turned(weight: Array, matrices: list[Array], part: float = 1.0) -> Array:
    """``W'[k][m] = sum_n R[n, m] W[k][n]``, R on the way from the identity."""
    size = len(matrices[0])
    found = np.zeros_like(weight)
    for k, matrix in enumerate(matrices):
        r = np.eye(size) + part * (matrix - np.eye(size))
        for m in range(size):
            for n in range(size):
                found[k * size + m] += r[n, m] * weight[k * size + n]
    return found


def rescaled(weight: Array, operator: OFT) -> Array:
    found = weight.copy()
    assert operator.rescale is not None
    for row, gain in enumerate(operator.rescale.numpy()):
        found[row] = weight[row] * gain
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [None, 0.0])
def test_alpha_none_or_0_is_no_limit(shape: tuple[int, ...], alpha: float | None) -> None:
    weight, operator = random(*shape), oft(alpha=alpha)
    close(applied(operator, weight), turned(weight, turns(operator)))


@pytest.mark.parametrize("alpha", [LIMIT, 10.0])
def test_alpha_limits_the_norm_of_all_blocks_together_times_the_rows(alpha: float) -> None:
    weight, operator = random(12, 10), oft(alpha=alpha)
    close(applied(operator, weight), turned(weight, turns(operator, alpha * 12)), 1e-7)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.floats(0.0, 0.1))
def test_blocks_keep_their_lengths_and_angles(count: int, size: int, columns: int, alpha: float) -> None:
    weight = random(count * size, columns)
    found = applied(oft(count, size, alpha=alpha), weight)
    for k in range(count):
        before, after = weight[k * size : (k + 1) * size], found[k * size : (k + 1) * size]
        close(after.T @ after, before.T @ before, 1e-9)


def test_rescale_comes_after_the_turn() -> None:
    weight, operator = random(12, 4, 3, 3), oft(rescale=True)
    close(applied(operator, weight), rescaled(turned(weight, turns(operator)), operator))


@pytest.mark.parametrize("strength", [0.0, 0.3, -0.5, 2.0])
def test_strength_interpolates_between_the_weights(strength: float) -> None:
    weight, operator = random(12, 10), oft(rescale=True)
    full = rescaled(turned(weight, turns(operator)), operator)
    close(applied(operator, weight, strength), weight + strength * (full - weight))


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_lycoris_rescales_in_full_at_any_strength(strength: float) -> None:
    weight, operator = random(12, 10), oft(alpha=LIMIT, rescale=True)
    part = turned(weight, turns(operator, LIMIT * 12), strength)
    close(applied(operator, weight, strength, "lycoris"), rescaled(part, operator), 1e-7)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_comfy_takes_strength_twice_and_neither_rescale_nor_rows(strength: float) -> None:
    weight, operator = random(12, 10), oft(alpha=LIMIT, rescale=True)
    full = turned(weight, turns(operator, LIMIT))
    found = applied(operator, weight, strength, "comfy")
    close(found, weight + strength**2 * (full - weight), 1e-7)


def flux() -> OFT:
    """Blocks of each of four parts, the last one larger, as sd-scripts has them for Flux."""
    splits = tuple(rotations(2, size, seed) for seed, size in enumerate((3, 3, 3, 6)))
    return OFT(splits, alpha=LIMIT, numbered=True)


def test_parts_of_a_fused_weight_have_blocks_and_limits_of_their_own() -> None:
    weight, operator, first = random(30, 5), flux(), 0
    found = applied(operator, weight)
    for split in operator.splits:
        rows = slice(first, first + split.height)
        own = [
            inverse_rotation(q)
            for q in limited([skew(b) for b in split.blocks.numpy()], LIMIT * split.height)
        ]
        close(found[rows], turned(weight[rows], own), 1e-6)
        first += split.height


def test_the_first_files_hold_the_rotations_themselves() -> None:
    matrices = [inverse_rotation(skew(block)) for block in random(3, 4, 4)]
    operator = OFT((Rotations.of(tensor(np.stack(matrices)), 12),), direct=True)
    weight = random(12, 5)
    close(applied(operator, weight), turned(weight, matrices))
    assert set(operator.written()) == {".oft_diag"}


@pytest.mark.parametrize(
    ("operator", "name"), [(flux(), "kohya OFT"), (OFT((rotations(10, 3),), direct=True), "old OFT")]
)
@pytest.mark.parametrize("rule", ["comfy", "lycoris"])
def test_what_a_program_cannot_read_has_no_rule_of_its(operator: OFT, name: str, rule: str) -> None:
    with pytest.raises(BuildError, match=f"has no {name}, and so no rule"):
        operator.apply(tensor(random(30, 5)), 0.5, rule)


@pytest.mark.parametrize("rule", ["exact", "lycoris", "comfy"])
@pytest.mark.parametrize(("start", "stop"), [(0, 4), (4, 12), (4, 8), (0, 12)])
def test_rows_keep_the_limit_of_the_whole(start: int, stop: int, rule: str) -> None:
    weight, operator = random(12, 10), oft(alpha=LIMIT, rescale=True)
    part = applied(operator.rows(start, stop), weight[start:stop], 0.6, rule)
    close(part, applied(operator, weight, 0.6, rule)[start:stop])


@pytest.mark.parametrize(("start", "stop"), [(6, 24), (3, 12), (0, 18), (18, 24)])
def test_rows_of_several_parts(start: int, stop: int) -> None:
    weight, operator = random(30, 5), flux()
    close(applied(operator.rows(start, stop), weight[start:stop]), applied(operator, weight)[start:stop])


def test_rows_that_cross_a_block_are_refused() -> None:
    with pytest.raises(ValueError, match="rows 0 to 6 cut a block of 4"):
        oft().rows(0, 6)


def test_it_is_written_as_it_was_read() -> None:
    operator = oft(alpha=LIMIT, rescale=True)
    written = operator.written()
    assert torch.equal(written[".oft_blocks"], operator.splits[0].blocks)
    assert operator.rescale is not None
    assert torch.equal(written[".rescale"], operator.rescale)
    assert math.isclose(float(written[".alpha"]), LIMIT, rel_tol=1e-7)
    assert set(flux().written()) == {*(f".oft_blocks.{i}" for i in range(4)), ".alpha"}


def test_some_rows_cannot_be_written_since_the_limit_is_that_of_all() -> None:
    with pytest.raises(ValueError, match="under a common limit"):
        oft().rows(4, 12).written()


def test_another_strength_is_not_written() -> None:
    with pytest.raises(BuildError, match="the format OFT can only say strength 1"):
        oft().written(0.5)


def test_half_types_are_computed_in_the_weights_type() -> None:
    operator = OFT((Rotations.of(tensor(random(3, 4, 4), torch.float16), 12),))
    exact = OFT((Rotations.of(operator.splits[0].blocks.double(), 12),))
    close(applied(operator, random(12, 5)), applied(exact, random(12, 5)))


def test_a_quarter_turn() -> None:
    assert cayley(torch.tensor([[0.0, -1.0], [1.0, 0.0]])).tolist() == [[0.0, -1.0], [1.0, 0.0]]
