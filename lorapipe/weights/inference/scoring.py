"""What a component of a delta counts for beside what it is added to: by this ``svd-resize`` may choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, log10
from sys import float_info

from lorapipe.errors import RecipeError

__all__ = ["REFERENCES", "Score", "best"]

REFERENCES = ("spectral", "frobenius", "subspace", "lora-spectral", "lora-frobenius", "params")

_OF_BASE = frozenset({"spectral", "frobenius", "subspace"})


@dataclass(frozen=True, slots=True)
class Score:
    """How components are scored, and the least score of one that is kept.

    Component ``j`` of a module's delta ``sum_j s_j u_j v_j^T``, added to the weight ``W: [O, I*k]``,
    scores ``log10(s_j) - sum_i w_i log10(R_i)``, which is the decimal logarithm of ``s_j`` over a
    weighted geometric mean of references: ``-1`` is a tenth of them. ``by`` gives their weights,
    which are divided by their sum. ``R_i`` is, of

    * ``spectral``: the largest singular value of ``W``;
    * ``frobenius``: the Frobenius norm of ``W``;
    * ``subspace``: ``|u_j^T W v_j|``, what ``W`` does where the component acts;
    * ``lora-spectral``: ``s_0``;
    * ``lora-frobenius``: ``sqrt(sum_j s_j^2)``;
    * ``params``: ``O + I*k``, the numbers that a component takes.

    *Source*: elias-gaeros/resize_lora efe6f69, ``ResizeRecipe``. Raises :class:`RecipeError`
    ``unknown-reference``, ``weights-cancel`` or ``not-a-number``.
    """

    by: Mapping[str, float]
    threshold: float | None = None

    def __post_init__(self) -> None:
        for name, weight in self.by.items():
            if name not in REFERENCES:
                hint = f"there are {', '.join(REFERENCES)}"
                raise RecipeError("unknown-reference", f"no score is by '{name}'", hint=hint, option="score")
            if not isfinite(weight):
                raise RecipeError("not-a-number", f"'{name}' cannot weigh {weight}", option="score")
        if not sum(self.by.values()) > 0:
            hint = "only their proportions count: they are divided by their sum"
            message = "the weights of 'by' do not sum to more than 0"
            raise RecipeError("weights-cancel", message, hint=hint, option="score")
        if self.threshold is not None and not isfinite(self.threshold):
            raise RecipeError("not-a-number", f"no score is {self.threshold}", option="score")

    @property
    def live(self) -> Mapping[str, float]:
        """The references that count, with weights whose sum is 1.

        >>> Score({"frobenius": 3, "params": 1, "spectral": 0}).live
        {'frobenius': 0.75, 'params': 0.25}
        """
        total = sum(self.by.values())
        return {name: weight / total for name, weight in self.by.items() if weight}

    @property
    def needs_base(self) -> bool:
        return not _OF_BASE.isdisjoint(self.live)

    def of(
        self, values: Sequence[float], references: Mapping[str, float | Sequence[float]]
    ) -> tuple[float, ...]:
        """The scores of components of these singular values; of value 0 it is ``-inf``.

        ``references`` has those in ``live``, one of a module or one of each component; of a
        weight of nothing but 0, say, a reference is the least positive number, beside which
        anything is much.

        >>> Score({"spectral": 1}).of([2.0, 0.5, 0.0], {"spectral": 5.0})
        (-0.3979400086720376, -1.0, -inf)
        """
        scores = [log10(value) if value > 0 else -inf for value in values]
        for name, weight in self.live.items():
            known = references[name]
            each = known if isinstance(known, Sequence) else [known] * len(scores)
            scores = [
                score - weight * log10(max(reference, float_info.min))
                for score, reference in zip(scores, each, strict=True)
            ]
        return tuple(scores)


def best(scores: Sequence[float], most: int, threshold: float | None) -> tuple[int, ...]:
    """The places of at most ``most`` scores, the highest of at least ``threshold``, in ascending order.

    The earlier of equal scores goes first, and none of ``-inf`` at all.

    >>> best([-1.0, -3.0, -0.5, -1.0], 2, -2.0)
    (0, 2)
    """
    least = -inf if threshold is None else threshold
    live = [place for place, score in enumerate(scores) if score >= least and score > -inf]
    return tuple(sorted(sorted(live, key=lambda place: (-scores[place], place))[:most]))
