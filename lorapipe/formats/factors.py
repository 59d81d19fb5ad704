"""One low-rank module as a file has it: which tensors, and what their shapes say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from lorapipe.architectures import Target
from lorapipe.formats.problems import Problems
from lorapipe.weights.specs import FLOATING, TensorSpec

__all__ = ["Contents", "Extra", "Factors", "factor_shape"]


@dataclass(frozen=True, slots=True)
class Factors:
    """The tensors of a module, by their names in the file.

    ``stem`` is how messages call the module and, unless a ``target`` says where it
    belongs (a file that numbers its modules), what the architecture looks up.
    """

    stem: str
    up: str
    down: str
    alpha: str | None = None
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Extra:
    """A tensor that is no weight: its name in the file, and the spec it is kept with."""

    tensor: str
    spec: TensorSpec


@dataclass(frozen=True, slots=True)
class Contents:
    """What a dialect's reader finds in a file.

    ``extras`` go by the name under which they are saved. ``metadata`` is the file's own
    less what speaks of the dialect. ``family`` is set by a dialect that is of one family.
    """

    modules: tuple[Factors, ...]
    extras: Mapping[str, Extra] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    family: str | None = None


def factor_shape(
    factors: Factors, tensors: Mapping[str, TensorSpec], problems: Problems
) -> tuple[tuple[int, ...], int] | None:
    """Shape ``[O, I, *k]`` and rank of a module, or ``None`` with the problem noted.

    ``up: [O, r]`` or ``[O, r, 1, ...]``, ``down: [r, I, *k]``. The two need not have the
    same number of axes: trainers and converters mix 2-D factors with 1x1 kernels.
    """
    up, down = tensors[factors.up], tensors[factors.down]
    for name in (factors.up, factors.down):
        if tensors[name].dtype not in FLOATING:
            problems.add("factors-not-floating", f"{name} ({tensors[name].dtype})")
            return None
    shown = f"{factors.stem} (up {list(up.shape)}, down {list(down.shape)})"
    if len(up.shape) < 2 or len(down.shape) < 2 or prod(up.shape[2:]) != 1 or not (up.size and down.size):
        problems.add("bad-factor-shape", shown)
        return None
    if up.shape[1] != down.shape[0]:
        problems.add("ranks-disagree", shown)
        return None
    kernel = down.shape[2:] or up.shape[2:]
    return (up.shape[0], down.shape[1], *kernel), up.shape[1]
