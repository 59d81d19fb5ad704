"""What each checkpoint of a training run counts in an average, and what the average will be. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import sqrt

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.forms import FULL, needs_deltas, passes
from lorapipe.weights.inference.joining import join
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec

__all__ = ["WIDEST", "average_spec", "averaged_as_factors", "decay_weights", "exponent", "power_weights"]

WIDEST = 1 / sqrt(12)
"""The relative width of the average in which all of the training counts alike."""

_HINT = "'average: deltas' averages what the LoRAs add, whatever their factors; the ranks add up"


def decay_weights(count: int, decay: float) -> list[float]:
    """The weights of ``e_1 = x_1``, ``e_i = decay e_(i-1) + (1 - decay) x_i`` in ``e_count``; their sum is 1.

    >>> decay_weights(3, 0.5)
    [0.25, 0.25, 0.5]
    """
    later = [(1 - decay) * decay ** (count - i) for i in range(2, count + 1)]
    return [decay ** (count - 1), *later]


def exponent(sigma_rel: float) -> float:
    """The ``gamma >= 0`` of the profile ``t^gamma`` whose relative width is ``sigma_rel``.

    That is ``sigma_rel = sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3)))``, which falls from
    :data:`WIDEST` at 0; halved to the last bit, so that every machine finds the same.

    *Source*: Karras, Aittala, Lehtinen, Hellsten, Aila and Laine, "Analyzing and Improving the
    Training Dynamics of Diffusion Models" (2023, arXiv:2312.02696), section 3.1 and appendix C.
    Raises :class:`RecipeError` ``bad-width``.

    >>> round(exponent(0.10), 2), round(exponent(0.05), 2)
    (6.94, 16.97)
    """
    if not 0 < sigma_rel < WIDEST:
        message = f"no average is {sigma_rel:g} wide relative to the training"
        raise RecipeError("bad-width", message, hint="0.05 to 0.25 are usual", option="sigma-rel")
    low, high = 0.0, 1.0 / sigma_rel
    while (middle := (low + high) / 2) not in (low, high):
        wide = (middle + 1) / ((middle + 2) ** 2 * (middle + 3)) > sigma_rel**2
        low, high = (middle, high) if wide else (low, middle)
    return low


def power_weights(steps: Sequence[float], sigma_rel: float) -> list[float]:
    """The weights of checkpoints at training ``steps`` in a power-function average; their sum is 1.

    ``w_i = (t_i / t_n)^(gamma + 1) - (t_(i-1) / t_n)^(gamma + 1)`` with ``t_0 = 0``: the share of
    the profile ``t^gamma`` between a checkpoint and the one before it. At steps 1, 2, ... this
    is the recursion ``e_t = b e_(t-1) + (1 - b) x_t`` with ``b = (1 - 1/t)^(gamma + 1)``, which
    is the paper's equation 2. The paper's reconstruction from two averages kept in training
    is another thing: LoRA trainers keep none.

    *Source*: as :func:`exponent`; kohya-ss/musubi-tuner 30c658c ``lora_post_hoc_ema.py``, which
    counts the first file as step 0, so that its weight is 0. Raises :class:`RecipeError`
    ``bad-steps`` unless the steps rise from 0 or more.
    """
    if steps[0] < 0 or any(later <= earlier for earlier, later in pairwise(steps)):
        said = ", ".join(f"{step:g}" for step in steps)
        message = f"the steps of the checkpoints do not rise: {said}"
        raise RecipeError("bad-steps", message, hint="the earliest comes first", option="steps")
    power = exponent(sigma_rel) + 1
    reached = [0.0, *((step / steps[-1]) ** power for step in steps)]
    return [later - earlier for earlier, later in pairwise(reached)]


def averaged_as_factors(known: ModuleSpec) -> bool:
    """Whether a module's factors are averaged; of what has none, the numbers are."""
    return known.form is None and not passes(known)


def average_spec(
    terms: Sequence[tuple[str, AdapterSpec]], titles: Mapping[str, str] | None = None
) -> AdapterSpec:
    """The spec of an average of factors: that of a sum, with the ranks of the terms.

    Raises :class:`RecipeError`: ``modules-differ`` and ``ranks-differ`` where the LoRAs are of
    no one run, ``not-factors`` for other formats, ``not-additive``, and as
    :func:`~.joining.join` does.
    """
    first_name, first = terms[0]
    for name, spec in terms:
        needs_deltas(spec, "ema")
        _same_modules((first_name, first), (name, spec))
        for module, known in spec.modules.items():
            _same_factors(module, (first_name, first.modules[module]), (name, known))
    joined = join([(name, 1.0, spec) for name, spec in terms], titles).spec
    modules = {
        module: replace(known, rank=first.modules[module].rank) if averaged_as_factors(known) else known
        for module, known in joined.modules.items()
    }
    return replace(joined, modules=modules)


def _same_modules(first: tuple[str, AdapterSpec], other: tuple[str, AdapterSpec]) -> None:
    one, two = first[1].modules.keys(), other[1].modules.keys()
    if one == two:
        return
    odd = min(one ^ two, key=str)
    has, lacks = (first[0], other[0]) if odd in one else (other[0], first[0])
    raise RecipeError(
        "modules-differ",
        f"'{has}' has a module that '{lacks}' lacks: they are not of one training run",
        module=str(odd),
        hint="concat adds LoRAs of any modules, with weights",
        option="ema",
    )


def _same_factors(module: ModuleId, first: tuple[str, ModuleSpec], other: tuple[str, ModuleSpec]) -> None:
    known = other[1]
    if known.form is not None and known.form.name != FULL and not passes(known):
        message = f"'{other[0]}' has a {known.form.name} here, whose factors are not averaged"
        raise RecipeError("not-factors", message, module=str(module), hint=_HINT, option="ema")
    if averaged_as_factors(known) and known.rank != first[1].rank:
        message = f"'{first[0]}' has rank {first[1].rank} here, '{other[0]}' rank {known.rank}"
        raise RecipeError("ranks-differ", message, module=str(module), hint=_HINT, option="ema")
