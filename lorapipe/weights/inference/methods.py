"""The methods of ``combine``: what each takes, and what comes of it. Torch-free.

A row names a function in :mod:`~lorapipe.weights.algebra.methods`, by module and name; there
each has its definition and source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import isfinite

from lorapipe.errors import RecipeError

__all__ = ["METHODS", "Method", "Result", "Settings", "check_weights"]


class Result(Enum):
    """What a method makes of a module's deltas."""

    SUM = "sum"
    """What ``concat`` makes: the terms' own factors with their weights."""
    LINEAR = "linear"
    """The terms' own factors, each with a coefficient that follows from angles between them."""
    FACTORS = "factors"
    """New factors, exactly."""
    DENSE = "dense"
    """A matrix, of full rank most often."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method's result, its ``home`` (``module:function``), how many terms it takes.

    ``shares`` says that weights are shares of a whole, and not strengths: none is below 0;
    ``one_rank`` that factors are added, which then are of one rank; ``chances`` that ``epsilon``
    is at work.
    """

    result: Result
    home: str = ""
    least: int = 1
    most: int | None = None
    shares: bool = False
    one_rank: bool = False
    chances: bool = False


METHODS: Mapping[str, Method] = {
    "sum": Method(Result.SUM),
    "linear-factors": Method(Result.FACTORS, "factors:linear_factors", one_rank=True),
    "ties": Method(Result.DENSE, "signs:ties"),
    "dare-linear": Method(Result.DENSE, "pruning:dare_linear"),
    "dare-ties": Method(Result.DENSE, "signs:dare_ties"),
    "della": Method(Result.DENSE, "signs:della", chances=True),
    "breadcrumbs": Method(Result.DENSE, "pruning:breadcrumbs"),
    "slerp": Method(Result.LINEAR, "spheres:slerp", least=2, most=2),
    "nuslerp": Method(Result.LINEAR, "spheres:nuslerp", least=2, most=2, shares=True),
    "karcher": Method(Result.LINEAR, "spheres:karcher", least=2, shares=True),
    "sce": Method(Result.DENSE, "variance:sce", least=2),
    "orthogonal": Method(Result.LINEAR, "subspaces:orthogonal", least=2),
    "null-space": Method(Result.FACTORS, "subspaces:null_space", least=2),
    "knots": Method(Result.FACTORS, "signs:knots", least=2),
    "magnitude-prune": Method(Result.DENSE, "pruning:magnitude_prune"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The methods' options; each method looks at its own.

    ``density`` is the share of values that pruning keeps; ``gamma`` the share of largest ones
    that ``breadcrumbs`` drops; ``epsilon`` how far ``della``'s probabilities are from density at
    a row's ends. ``elect`` says whose sign wins (``total``: that of the sum, ``frequency``: that of
    more terms), ``normalize`` what the sum of those that agree is divided by: their number
    (``mean``), their weights (``weights``), nothing (``none``). ``factor`` is the papers' lambda.
    ``t`` is the place between two. ``directions`` are how many leading singular vectors of a term
    are kept clear (all unless given), on which ``side``, ``projection`` how much of what lies there
    is taken off. ``seed`` is that of the random masks. Raises :class:`RecipeError` ``bad-density``,
    ``bad-epsilon``, ``not-a-number``.
    """

    density: float = 1.0
    gamma: float = 0.01
    epsilon: float = 0.15
    elect: str = "total"
    normalize: str = "mean"
    factor: float = 1.0
    t: float = 0.5
    directions: int | None = None
    side: str = "input"
    projection: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.density <= 1.0:
            message = f"a density is above 0 and at most 1, not {self.density}"
            raise RecipeError("bad-density", message, option="density")
        if not isfinite(self.factor) or not self.factor:
            message = f"a LoRA cannot be multiplied by {self.factor}"
            raise RecipeError("not-a-number", message, option="lambda")

    def check_epsilon(self) -> None:
        """See that ``density`` less and more ``epsilon`` are probabilities, unless all is kept."""
        lowest, highest = self.density - self.epsilon, self.density + self.epsilon
        if self.density < 1.0 and not (self.epsilon >= 0.0 and lowest > 0.0 and highest <= 1.0):
            below = f"below {self.density:.4g}"
            raise RecipeError(
                "bad-epsilon",
                f"values are kept with a chance of density - epsilon to density + epsilon, "
                f"which {self.density} and {self.epsilon} are not",
                hint=f"with 'density: {self.density}' 'epsilon' is "
                + (below if self.density <= 0.5 else f"at most {1.0 - self.density:.4g}"),
                option="epsilon",
            )


def check_weights(name: str, terms: Sequence[tuple[str, float]]) -> None:
    """See that a method can do with the terms ``(step, weight)``; those of weight 0 do not count.

    Raises :class:`RecipeError` ``too-few-terms``, ``too-many-terms``, ``negative-share``.
    """
    method = METHODS[name]
    live = [step for step, weight in terms if weight != 0.0]
    if len(live) < method.least and live:
        given = f"it has '{live[0]}' alone" if len(live) == len(terms) else f"only '{live[0]}' has a weight"
        raise RecipeError(
            "too-few-terms",
            f"'{name}' is about two LoRAs{'' if method.most == method.least else ' or more'}, {given}",
            hint="give another in braces; a single one is scaled by 'scale'",
            option="combine",
        )
    if method.most is not None and len(live) > method.most:
        others = [other for other, row in METHODS.items() if row.shares and row.most is None]
        raise RecipeError(
            "too-many-terms",
            f"'{name}' is about two LoRAs, it has {len(live)}: {', '.join(live)}",
            hint=f"'{others[0]}' does the like with any number",
            option="combine",
        )
    below = [(step, weight) for step, weight in terms if weight < 0.0]
    if method.shares and below:
        step, weight = below[0]
        raise RecipeError(
            "negative-share",
            f"weights of '{name}' are shares of the whole: '{step}' cannot have {weight:g}",
            hint=f"to turn it round, give it a step of its own: {{scale: {step}, by: -1}}",
            option="combine",
        )
