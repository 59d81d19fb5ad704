"""Random weights, and the definitions that several operators share, in plain loops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from lorapipe.weights.operators.operator import Operator

Array = npt.NDArray[np.float64]

SHAPES: tuple[tuple[int, ...], ...] = ((12, 10), (12, 4, 3, 3), (12, 10, 1, 1), (12, 3, 2, 3, 2))
"""A matrix, kernels of two and of three axes, a 1x1 kernel."""


def random(*shape: int, seed: int = 0, size: float = 1.0) -> Array:
    found: Array = np.random.default_rng(seed).standard_normal(shape) * size
    return found


def tensor(array: Array, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(array.copy()).to(dtype)


def applied(operator: Operator, weight: Array, strength: float = 1.0, rule: str = "exact") -> Array:
    """What an operator makes of a weight, which it leaves as it was."""
    given = tensor(weight)
    made = operator.apply(given, strength, rule)
    assert torch.equal(given, tensor(weight))
    found: Array = made.numpy()
    return found


def close(found: Array, expected: Array, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def inverse_rotation(q: Array) -> Array:
    """``(I + Q)(I - Q)^-1`` with an inverse, as the paper has it."""
    one = np.eye(len(q))
    found: Array = (one + q) @ np.linalg.inv(one - q)
    return found


def skew(block: Array) -> Array:
    found = np.empty_like(block)
    for i in range(len(block)):
        for j in range(len(block)):
            found[i, j] = block[i, j] - block[j, i]
    return found


def norm(blocks: list[Array]) -> float:
    """The root of the sum of all squares."""
    return float(sum(float(value) ** 2 for block in blocks for value in block.ravel()) ** 0.5)


def limited(blocks: list[Array], limit: float) -> list[Array]:
    """All blocks shrunk alike, so that their common norm is at most ``limit``; 0 is no limit."""
    size = norm(blocks)
    return [block * limit / size for block in blocks] if 0 < limit < size else blocks
