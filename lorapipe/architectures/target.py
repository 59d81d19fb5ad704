"""Where an adapter's module belongs: a checkpoint tensor, or some rows of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lorapipe.errors import RecipeError

__all__ = ["Part", "Target"]

Part = tuple[int, int, int]
"""``(a, b, n)``: rows a/n to b/n of a tensor."""

_WEIGHT, _BIAS = "weight", "bias"


@dataclass(frozen=True, slots=True)
class Target:
    """One module of an architecture, as its reference checkpoint keeps it.

    ``component`` is the family's name of the model (``unet``, ``te1``); ``key`` the
    tensor's key in the family's reference layout. ``parts`` is empty where the module is
    the whole tensor. Else the module's rows are, one part after the other, rows a/n to
    b/n of the tensor: OpenCLIP's q is ``((0, 1, 3),)`` of ``in_proj_weight``, and two
    parts are a permutation (``((1, 2, 2), (0, 1, 2))``: the second half, then the first).
    ``transpose`` says that the module's weight is the transpose of the tensor. ``kind``
    is ``linear``, ``conv1x1``, ``conv3x3``, ``conv`` (any other kernel), ``norm`` (one
    axis), ``embedding``, ``parameter`` (a tensor that is no module's ``.weight``) or
    ``bias``: what the usual trainer makes of it, not what a file must hold.
    """

    component: str
    key: str
    parts: tuple[Part, ...] = ()
    transpose: bool = False
    kind: str = "linear"

    @property
    def bias(self) -> Target | None:
        """The bias beside the weight, cut as the weight is; ``None`` where no bias can be.

        >>> Target("te2", "attn.in_proj_weight", ((0, 1, 3),)).bias
        Target(component='te2', key='attn.in_proj_bias', parts=((0, 1, 3),), transpose=False, kind='bias')
        """
        if not self.key.endswith(_WEIGHT) or self.kind in {"embedding", "parameter"}:
            return None
        return replace(self, key=self.key[: -len(_WEIGHT)] + _BIAS, transpose=False, kind=_BIAS)

    @property
    def weight_key(self) -> str:
        """The key of the weight: its own, or the one that a bias stands beside."""
        return self.key[: -len(_BIAS)] + _WEIGHT if self.kind == _BIAS else self.key

    def rows(self, out_features: int) -> tuple[tuple[int, int], ...]:
        """Half-open row ranges of the tensor; empty where the module is the whole tensor.

        They stand in the order in which the module, ``out_features`` rows high, has them.
        The n-th of the tensor is ``out_features / sum(b - a)`` rows high, so that the
        ranges follow from the module's own shape and from no constant. Raises
        :class:`~lorapipe.errors.RecipeError` when it does not divide.

        >>> Target("te2", "attn.in_proj_weight", ((1, 2, 3),)).rows(1280)
        ((1280, 2560),)
        >>> Target("dit", "final_layer.adaLN_modulation.1.weight", ((1, 2, 2), (0, 1, 2))).rows(6144)
        ((3072, 6144), (0, 3072))
        """
        if not self.parts:
            return ()
        taken = sum(last - first for first, last, _ in self.parts)
        unit, rest = divmod(out_features, taken)
        if rest:
            raise RecipeError(
                "rows-do-not-divide",
                f"{out_features} rows do not divide into {taken} parts of {self.key}",
                hint="the module's shape is not one of this architecture",
            )
        return tuple((first * unit, last * unit) for first, last, _ in self.parts)
