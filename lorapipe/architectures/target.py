"""Where an adapter's module belongs: a checkpoint tensor, or some rows of it."""

from __future__ import annotations

from dataclasses import dataclass

from lorapipe.errors import RecipeError

__all__ = ["Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """One Linear or Conv2d of an architecture, as its reference checkpoint keeps it.

    ``component`` is the family's name of the model (``unet``, ``te1``); ``key`` the
    weight's key in the family's reference layout. ``part`` is ``(a, b, n)`` where the
    module is rows a/n to b/n of a fused tensor (OpenCLIP's q is ``(0, 1, 3)`` of
    ``in_proj_weight``), else ``None``. ``transpose`` says that the module's weight is
    the transpose of the tensor. ``kind`` is ``linear``, ``conv1x1`` or ``conv3x3``: what
    the usual trainer makes of it, not what a file must hold.
    """

    component: str
    key: str
    part: tuple[int, int, int] | None = None
    transpose: bool = False
    kind: str = "linear"

    def rows(self, out_features: int) -> tuple[int, int] | None:
        """Half-open rows of the tensor that a module with ``out_features`` rows takes.

        The n-th of the tensor is ``out_features / (b - a)`` rows high, so that the
        range follows from the module's own shape and from no constant. Raises
        :class:`~lorapipe.errors.RecipeError` when it does not divide.

        >>> Target("te2", "attn.in_proj_weight", part=(1, 2, 3)).rows(1280)
        (1280, 2560)
        """
        if self.part is None:
            return None
        first, last, _ = self.part
        unit, rest = divmod(out_features, last - first)
        if rest:
            raise RecipeError(
                "rows-do-not-divide",
                f"{out_features} rows do not divide into {last - first} parts of {self.key}",
                hint="the module's shape is not one of this architecture",
            )
        return first * unit, last * unit
