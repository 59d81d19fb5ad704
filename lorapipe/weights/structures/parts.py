"""Structures taken apart into named tensors, and put together again: how the store keeps them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lorapipe.weights.structures.products import Hadamard, Kronecker, Tucker
from lorapipe.weights.structures.structure import Dense, Loaded, LowRank

__all__ = ["put_together", "take_apart"]

Plan = str | list[Any]
"""What a structure is, as JSON: ``low-rank``, or ``["hadamard", one, two]``."""


def take_apart(loaded: Loaded) -> tuple[Plan, dict[str, Tensor]]:
    """What a structure is, and its tensors as they are, by names that tell their place in it.

    >>> import torch
    >>> half = LowRank(torch.eye(2), torch.eye(2))
    >>> plan, tensors = take_apart(Hadamard(half, half))
    >>> plan, list(tensors)
    (['hadamard', 'low-rank', 'low-rank'], ['one.up', 'one.down', 'two.up', 'two.down'])
    """
    if isinstance(loaded, LowRank):
        return "low-rank", {"up": loaded.up, "down": loaded.down}
    if isinstance(loaded, Dense):
        return "dense", {"dense": loaded.matrix}
    if isinstance(loaded, Tucker):
        return "tucker", {"up": loaded.up, "mid": loaded.mid, "down": loaded.down}
    assert isinstance(loaded, Hadamard | Kronecker)
    (one, first), (two, second) = take_apart(loaded.one), take_apart(loaded.two)
    tensors = {f"one.{name}": tensor for name, tensor in first.items()}
    tensors |= {f"two.{name}": tensor for name, tensor in second.items()}
    if isinstance(loaded, Hadamard):
        return ["hadamard", one, two], tensors
    return ["kronecker", one, two, loaded.span], tensors


def put_together(plan: Plan, take: Callable[[str], Tensor]) -> Loaded:
    """The structure that :func:`take_apart` gave ``plan`` of; ``take`` gives its tensors by name.

    Raises ``ValueError`` or ``TypeError`` for a plan that is none, or tensors that do not fit it.
    """
    match plan:
        case "low-rank":
            return LowRank(take("up"), take("down"))
        case "dense":
            return Dense(take("dense"))
        case "tucker":
            return Tucker(take("up"), take("mid"), take("down"))
        case ["hadamard", one, two]:
            return Hadamard(_half(one, "one", take), _half(two, "two", take))
        case ["kronecker", one, two, span]:
            rows = None if span is None else (int(span[0]), int(span[1]))
            return Kronecker(_half(one, "one", take), _half(two, "two", take), rows)
    raise ValueError(f"no structure: {plan}")


def _half(plan: Plan, place: str, take: Callable[[str], Tensor]) -> Any:
    return put_together(plan, lambda name: take(f"{place}.{name}"))
