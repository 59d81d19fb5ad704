"""The step kinds as plain calls: the same algebra, checks and bytes as a recipe's.

    >>> import lorapipe
    >>> char, style = lorapipe.load("char.safetensors"), lorapipe.load("style.safetensors")  # doctest: +SKIP
    >>> both = lorapipe.concat([(char, 0.7), (style, -0.4)])  # doctest: +SKIP
    >>> lorapipe.save(lorapipe.svd_resize(both, rank=16), to="both.safetensors")  # doctest: +SKIP

Each function takes exactly the options of its kind's schema, dashes as underscores
(and ``as_``, ``lambda_``); options left at ``None`` take the schema's default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorapipe.build.calls import Terms, call, call_check, call_save
from lorapipe.build.single import Weights
from lorapipe.errors import UsageError

if TYPE_CHECKING:
    from lorapipe.build.events import Listener
    from lorapipe.build.result import Built
    from lorapipe.build.run import Options
    from lorapipe.plan.plan import Plan
    from lorapipe.remote.url import Url

__all__ = [
    "Weights",
    "check",
    "combine",
    "concat",
    "dylora_slice",
    "ema",
    "extract_lora",
    "filter",
    "load",
    "make_plan",
    "merge_into_checkpoint",
    "run",
    "save",
    "scale",
    "shuffle",
    "svd_resize",
]


def run(
    recipe: str | os.PathLike[str],
    params: Mapping[str, Any] | None = None,
    options: Options | None = None,
    *,
    progress: str | Listener | None = None,
) -> Built:
    """Build a recipe: ``lorapipe run``. ``params`` are the values that ``--set`` would give.

    ``progress`` shows how it goes: ``"auto"`` (live in a notebook and on a terminal, else lines on
    standard error), ``"plain"``, ``"json"``, or a function that is told each
    :data:`~lorapipe.build.events.Event`. By default nothing is shown.

    Of a recipe with a ``matrix`` :attr:`~lorapipe.build.result.Built.sweep` has what came of each
    variant; ``options.only`` makes some of them. Where checks do not hold, ``progress`` is told it as a
    :class:`~lorapipe.build.events.Swept` before the error is raised.

    Raises :class:`~lorapipe.errors.LorapipeError`; several errors of one pass come as
    :class:`~lorapipe.errors.ManyErrors`.
    """
    from lorapipe.build.run import Options, build
    from lorapipe.recipe.parsing import load_recipe

    with _shown(progress) as listen:
        return build(load_recipe(Path(recipe), params), options or Options(), listen=listen)


def _shown(progress: str | Listener | None) -> AbstractContextManager[Listener]:
    """A listener that shows a build; raises :class:`~lorapipe.errors.UsageError` ``bad-progress``."""
    if progress is None or callable(progress):
        from lorapipe.build.planning import unheard

        return nullcontext(progress or unheard)
    from rich.console import Console

    from lorapipe.views.progress import MODES, progress_view

    if progress not in MODES:
        hint = f"it is one of {', '.join(MODES)}, or a function that takes an event"
        raise UsageError("bad-progress", f"progress cannot be {progress!r:.80}", hint=hint)
    return progress_view(Console(stderr=True, highlight=False), progress)


def make_plan(
    recipe: str | os.PathLike[str],
    params: Mapping[str, Any] | None = None,
    options: Options | None = None,
) -> Plan:
    """What :func:`run` would do, from headers alone: ``lorapipe plan``."""
    from lorapipe.build.run import Options
    from lorapipe.build.run import plan as make
    from lorapipe.recipe.parsing import load_recipe

    return make(load_recipe(Path(recipe), params), options or Options())


def load(
    path: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    as_: str | None = None,
    family: str | None = None,
    variant: str | None = None,
    alpha: float | None = None,
) -> Weights:
    """A LoRA or a checkpoint from a file or a folder; ``as_`` is ``lora`` or ``checkpoint``.

    ``variant`` (``fp16``) chooses among the weights of a folder; ``alpha`` is PEFT's
    ``lora_alpha``, for a LoRA whose config is lost.
    """
    options = {
        "load": os.fspath(path),
        "sha256": sha256,
        "as": as_,
        "family": family,
        "variant": variant,
        "alpha": alpha,
    }
    return call({}, options)


def scale(
    lora: Weights,
    *,
    by: float | None = None,
    components: Mapping[str, float] | None = None,
    blocks: str | Sequence[float] | Mapping[str, Any] | None = None,
    modules: Mapping[str, float] | Sequence[Mapping[str, float]] | None = None,
) -> Weights:
    """A LoRA times ``by``, times what its ``components``, ``blocks`` and ``modules`` say.

    ``{"unet": 1.0, "te": 0.5}``; ``{"OUT*": 0.5, "MID": 0}``, a list in the order of LBW, or
    a preset's name; ``{"*attn2*": 0.5}``, of which the first pattern that matches counts.
    """
    return call({"scale": lora}, {"by": by, "components": components, "blocks": blocks, "modules": modules})


def filter(  # noqa: A001  # the kind's name
    lora: Weights, *, keep: Mapping[str, Any] | None = None, drop: Mapping[str, Any] | None = None
) -> Weights:
    """Some of a LoRA's modules: ``keep={"components": "unet"}``, ``drop={"blocks": ["OUT1*"]}``."""
    return call({"filter": lora}, {"keep": keep, "drop": drop})


def dylora_slice(lora: Weights, *, components: int, alpha: str | None = None) -> Weights:
    """The first components of a DyLoRA as a LoRA; ``alpha`` is keep or trained."""
    return call({"dylora-slice": lora}, {"components": components, "alpha": alpha})


def ema(
    loras: Terms,
    *,
    decay: float | None = None,
    sigma_rel: float | None = None,
    steps: Sequence[float] | None = None,
    average: str | None = None,
) -> Weights:
    """The moving average of a training run's LoRAs, the earliest first; ``average`` is factors or deltas."""
    options = {"decay": decay, "sigma-rel": sigma_rel, "steps": steps, "average": average}
    return call({"ema": loras}, options)


def concat(loras: Terms) -> Weights:
    """The exact weighted sum: ``concat([(a, 0.7), (b, -0.4)])``."""
    return call({"concat": loras}, {})


def combine(  # noqa: PLR0913  # a parameter an option
    loras: Terms,
    *,
    method: str,
    density: float | None = None,
    seed: int | None = None,
    elect: str | None = None,
    normalize: str | None = None,
    lambda_: float | None = None,
    epsilon: float | None = None,
    gamma: float | None = None,
    t: float | None = None,
    directions: int | None = None,
    side: str | None = None,
    projection: float | None = None,
    rank: int | None = None,
    conv_rank: int | None = None,
    conv1x1_rank: int | None = None,
    dense: bool | None = None,
) -> Weights:
    """LoRAs merged by ``method``: ``combine([a, b], method="ties", density=0.5, rank=32)``.

    Methods that work value by value make full matrices, and need ``rank`` or ``dense=True``.
    """
    options = {
        "method": method,
        "density": density,
        "seed": seed,
        "elect": elect,
        "normalize": normalize,
        "lambda": lambda_,
        "epsilon": epsilon,
        "gamma": gamma,
        "t": t,
        "directions": directions,
        "side": side,
        "projection": projection,
        "rank": rank,
        "conv-rank": conv_rank,
        "conv1x1-rank": conv1x1_rank,
        "dense": dense,
    }
    return call({"combine": loras}, options)


def extract_lora(  # noqa: PLR0913  # a parameter an option
    tuned: Terms,
    base: Terms,
    *,
    rank: int,
    conv_rank: int | None = None,
    conv1x1_rank: int | None = None,
    dynamic: Mapping[str, float] | None = None,
    components: Sequence[str] | None = None,
    min_diff: float | None = None,
    bias: str | None = None,
    full: bool | None = None,
    method: str | None = None,
    unmatched: str | None = None,
) -> Weights:
    """The difference of two checkpoints as the best LoRA of at most the given ranks.

    Either may have a weight: ``extract_lora([(tuned, 0.8)], [(base, 0.5)], rank=64)``. A merge is
    taken as it is before any rounding. ``components`` are the parts of the model to look at.
    """
    options = {
        "rank": rank,
        "conv-rank": conv_rank,
        "conv1x1-rank": conv1x1_rank,
        "dynamic": dynamic,
        "components": components,
        "min-diff": min_diff,
        "bias": bias,
        "full": full,
        "method": method,
        "unmatched": unmatched,
    }
    return call({"extract-lora": tuned, "base": base}, options)


def shuffle(lora: Weights, *, seed: int | None = None, mode: str | None = None) -> Weights:
    """The same deltas in factors that do not show their sources; ``mode`` is rotate or permute."""
    return call({"shuffle": lora}, {"seed": seed, "mode": mode})


def svd_resize(
    lora: Weights,
    *,
    rank: int | Mapping[str, Any] | None = None,
    conv_rank: int | Mapping[str, Any] | None = None,
    conv1x1_rank: int | Mapping[str, Any] | None = None,
    dynamic: Mapping[str, float] | None = None,
    score: Mapping[str, Any] | None = None,
    max_size: str | int | None = None,
) -> Weights:
    """The best LoRA of at most the given ranks; by block: ``{"default": 16, "blocks": {"MID": 32}}``.

    ``dynamic`` chooses each module's rank by its singular values: ``{"sv-fro": 0.9}``.
    ``score`` keeps what counts for most beside a base: ``{"against": base, "by": "spectral",
    "threshold": -1.2}``. ``max_size`` is that of the file, ``"100MB"`` or bytes, shared out where
    it keeps most.
    """
    ports: dict[str, Terms] = {"svd-resize": lora}
    if score is not None and "against" in score:
        ports["score.against"] = score["against"]
        score = {key: value for key, value in score.items() if key != "against"}
    options = {
        "rank": rank,
        "conv-rank": conv_rank,
        "conv1x1-rank": conv1x1_rank,
        "dynamic": dynamic,
        "score": score,
        "max-size": max_size,
    }
    return call(ports, options)


def merge_into_checkpoint(
    checkpoint: Weights, loras: Terms, *, unmatched: str | None = None, strength_rule: str | None = None
) -> Weights:
    """The checkpoint with the weighted LoRAs in it; computed tensor by tensor when saved.

    ``strength_rule`` is what a weight means to LoRAs that do not add: exact, comfy or lycoris.
    """
    ports = {"merge-into-checkpoint": checkpoint, "loras": loras}
    return call(ports, {"unmatched": unmatched, "strength-rule": strength_rule})


def check(
    weights: Weights,
    *,
    rank: Mapping[str, int] | None = None,
    modules: int | Mapping[str, int] | None = None,
    finite: bool | None = None,
    norm: Mapping[str, float] | None = None,
    energy: Mapping[str, Any] | None = None,
    differs_from: Weights | None = None,
) -> Mapping[str, Any]:
    """The figures of all that is asserted: ``check(small, rank={"max": 32}, finite=True)``.

    ``energy`` names what it is compared with: ``{"of": both, "min": 0.95}``. Raises
    :class:`~lorapipe.errors.CheckFailed` for an assertion that does not hold, ``ManyErrors`` for several.
    """
    ports: dict[str, Terms] = {"check": weights}
    if energy is not None and "of" in energy:
        ports["energy.of"] = energy["of"]
        energy = {key: value for key, value in energy.items() if key != "of"}
    if differs_from is not None:
        ports["differs-from"] = differs_from
    options = {"rank": rank, "modules": modules, "finite": finite, "norm": norm, "energy": energy}
    return call_check(ports, options)


def save(  # noqa: PLR0913  # a parameter an option
    weights: Weights,
    to: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    metadata: Mapping[str, str] | None = None,
    provenance: str | None = None,
    layout: str | None = None,
    dense: bool | None = None,
    shard_size: str | int | None = None,
) -> Path | Url:
    """Write a file, or with a slash at the end of ``to`` a folder; returns its absolute path or URL.

    ``layout`` (keep, kohya, diffusers, peft, comfy) says for which program a LoRA is spelt;
    ``dense`` writes as a full difference what adds and has no format of its own.

    The bytes are those that a recipe of the same steps would write. A file that is there
    and that lorapipe did not write is not replaced: that is
    :class:`~lorapipe.errors.BuildError` ``foreign-file``.
    """
    options = {
        "to": os.fspath(to),
        "dtype": dtype,
        "metadata": metadata,
        "provenance": provenance,
        "layout": layout,
        "dense": dense,
        "shard-size": shard_size,
    }
    return call_save({"save": weights}, options)
