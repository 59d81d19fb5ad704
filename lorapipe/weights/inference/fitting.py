"""Whether a module fits the weight that it is for, from shapes alone."""

from __future__ import annotations

from math import prod

from lorapipe.weights.inference.cuts import can_cut
from lorapipe.weights.specs import Form, ModuleSpec, canonical_shape

__all__ = ["fits", "misfit", "uncuttable"]


def misfit(spec: ModuleSpec, whole: tuple[int, ...], what: str = "weight") -> str | None:
    """Why a module does not fit a weight, or rows of one, of shape ``whole``; ``None`` if it does."""
    whole = canonical_shape(whole)
    if fits(spec, whole):
        return None
    shape = f"[{', '.join(str(size) if size else '?' for size in spec.shape)}]"
    if spec.form is None or spec.form.additive:
        same = " (as many values, another shape)" if prod(spec.shape) == prod(whole) else ""
        return f"a delta {shape} does not fit the checkpoint's {what} {list(whole)}{same}"
    return f"{spec.form.name} for {shape} does not fit the checkpoint's {what} {list(whole)}"


def fits(spec: ModuleSpec, whole: tuple[int, ...]) -> bool:
    """Whether shapes agree: but for a 1x1 kernel, for axes that a format leaves open, and for padding.

    Two axes may stand for ``[O, I*k]`` where a format does not tell the kernel. A delta of a
    kernel on a model's latents alone fits one that has further inputs (a mask, an image),
    which it leaves as they are: an inpainting model's.

    >>> from lorapipe.weights.specs import Spelling
    >>> oft = ModuleSpec((320, 0), 0, Spelling("x"), Form("OFT", additive=False))
    >>> fits(oft, (320, 4, 3, 3)), fits(oft, (640, 4, 3, 3))
    (True, False)
    """
    ours, theirs = canonical_shape(spec.shape), canonical_shape(whole)
    if ours == theirs or (spec.additive and _on_latents(ours, theirs)):
        return True
    if spec.form is None:
        return False
    if spec.form.grows:
        return len(ours) == len(theirs) and ours[2:] == theirs[2:] and _no_larger(theirs, ours)
    if len(ours) == 2 < len(theirs):
        theirs = (theirs[0], prod(theirs[1:]))
    elif len(theirs) == 2 < len(ours):
        theirs = (*theirs, *(1 for _ in ours[2:]))
    return len(ours) == len(theirs) and all(a in {0, b} for a, b in zip(ours, theirs, strict=True))


_LATENTS = (4, 16)
"""Channels of the latents of Stable Diffusion, and of later models."""


def _on_latents(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    kernels = len(ours) == len(theirs) > 2 and ours[0] == theirs[0] and ours[2:] == theirs[2:]
    return kernels and ours[1] in _LATENTS and ours[1] < theirs[1]


def _no_larger(one: tuple[int, ...], two: tuple[int, ...]) -> bool:
    return all(a <= b for a, b in zip(one, two, strict=True))


def uncuttable(form: Form | None, start: int, stop: int, height: int) -> str | None:
    """Why rows ``[start, stop)`` of a module of ``height`` rows have no sense without the others."""
    if form is None or form.additive:
        return None
    if all(row in {0, height} or can_cut(form.cuts, row) for row in (start, stop)):
        return None
    return f"{form.name} cannot be cut at rows {start}:{stop}, which the checkpoint keeps apart"
