"""What formats ask of the shapes of a module's tensors, before a number is read."""

from __future__ import annotations

from math import prod

from lorapipe.formats.forms.form import Misshapen, Specs

__all__ = ["all_of", "badly_shaped", "core", "left", "right", "shown"]


def all_of(tensors: Specs, *roles: str) -> None:
    """Raise :class:`Misshapen` ``half-missing`` unless the module has all of them."""
    missing = [role for role in roles if role not in tensors]
    if missing:
        raise Misshapen("half-missing", f"without {_listed(missing)}")


def left(tensors: Specs, role: str) -> tuple[int, int]:
    """``(rows, columns)`` of a factor ``[O, r]``, or ``[O, r, 1, 1]`` of a convolution.

    Raises :class:`Misshapen` ``bad-factor-shape``.
    """
    shape = tensors[role].shape
    if len(shape) < 2 or prod(shape[2:]) != 1 or not prod(shape):
        raise badly_shaped(tensors, role)
    return shape[0], shape[1]


def right(tensors: Specs, role: str) -> tuple[int, tuple[int, ...]]:
    """``r`` and ``(I, *k)`` of a factor ``[r, I, *k]``. Raises as :func:`left` does."""
    shape = tensors[role].shape
    if len(shape) < 2 or not prod(shape):
        raise badly_shaped(tensors, role)
    return shape[0], shape[1:]


def core(tensors: Specs, role: str, above: int, below: int) -> tuple[int, ...]:
    """The kernel ``*k`` of a core ``[above, below, *k]`` between factors of these ranks.

    Raises :class:`Misshapen` ``bad-factor-shape`` or ``ranks-disagree``.
    """
    first, (second, *kernel) = right(tensors, role)
    if (first, second) != (above, below):
        raise Misshapen("ranks-disagree", shown(tensors))
    return tuple(kernel)


def badly_shaped(tensors: Specs, *roles: str) -> Misshapen:
    """The error about tensors whose shapes none of the format has; about all of them if none is said."""
    return Misshapen("bad-factor-shape", shown({role: tensors[role] for role in roles or tensors}))


def shown(tensors: Specs) -> str:
    """The module's tensors and shapes, for a message.

    >>> from lorapipe.weights.specs import TensorSpec
    >>> shown({".hada_w1_a": TensorSpec("F16", (8, 4)), ".hada_t1": TensorSpec("F16", (4, 4, 3))})
    'hada_w1_a [8, 4], hada_t1 [4, 4, 3]'
    """
    return ", ".join(f"{_name(role)} {list(spec.shape)}" for role, spec in tensors.items())


def _listed(roles: list[str]) -> str:
    return ", ".join(_name(role) for role in roles)


def _name(role: str) -> str:
    return role.removeprefix(".").removesuffix(".weight")
