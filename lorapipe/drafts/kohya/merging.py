"""``merge_lora.py``, ``sdxl_merge_lora.py`` and ``flux_merge_lora.py``."""

from __future__ import annotations

from collections.abc import Sequence

from lorapipe.drafts.kohya.arguments import Arguments
from lorapipe.drafts.kohya.notes import tell_precision
from lorapipe.drafts.kohya.ranks import halved, most_common, patterns, ranks_of
from lorapipe.drafts.sheet import Sheet
from lorapipe.errors import UsageError
from lorapipe.recipe.model import JSON

__all__ = ["load_loras", "merge"]

_MODELS = {
    "sd_model": ("base", "save_to"),
    "flux_model": ("base", "save_to"),
    "clip_l": ("clip_l", "clip_l_save_to"),
    "t5xxl": ("t5xxl", "t5xxl_save_to"),
}
"""An option that names a model -> its step's id, and the option that names its output."""


_SHARES = (
    "The script leaves alpha as it was, so that each LoRA counts rank / sum of ranks: two of one rank",
    "come out halved.",
)
_OTHERWISE = "--as-computed writes what the script computes."


def merge(arguments: Arguments, sheet: Sheet) -> None:
    """LoRAs into one LoRA, or into a model where one is given."""
    tell_precision(arguments, sheet)
    device = arguments["working_device"]
    if device not in (None, "cpu"):
        sheet.defaults["device"] = device
    if any(arguments[model] for model in _MODELS):
        _into_model(arguments, sheet)
    else:
        _into_lora(arguments, sheet)


def load_loras(arguments: Arguments, sheet: Sheet, *, squared: bool = False) -> tuple[str, ...]:
    """The LoRAs as steps, those with block weights scaled by them (``squared``, as some scripts do)."""
    loras = tuple(sheet.load(model, arguments.loading) for model in arguments["models"])
    lists = arguments.block_weights
    if not lists:
        return loras
    steps = []
    for lora, weights in zip(loras, lists, strict=True):
        said: list[JSON] = [weight * weight if squared else weight for weight in weights]
        # The scripts leave blocks that a list has no place for as they are.
        steps.append(sheet.add(f"{lora}-blocks", {"scale": lora, "blocks": {"list": said, "default": 1}}))
    return tuple(steps)


def _into_model(arguments: Arguments, sheet: Sheet) -> None:
    loras = load_loras(arguments, sheet)
    terms: dict[str, JSON] = dict(zip(loras, arguments["ratios"], strict=True))
    sheet.tell(
        "LoRA modules that the model does not have are passed over with a warning, as the script does."
    )
    for option, (name, save) in _MODELS.items():
        model, target = arguments[option], arguments[save]
        if model is None:
            continue
        if target is None:
            raise UsageError("bad-command", f"{arguments.script}.py: --{save} is missing")
        base = sheet.load(model, arguments.loading, name=name)
        options: dict[str, JSON] = {"merge-into-checkpoint": base, "loras": dict(terms), "unmatched": "warn"}
        sheet.save(sheet.add(f"{name}-merged", options), target, arguments.saving, name=f"{name}-out")


def _into_lora(arguments: Arguments, sheet: Sheet) -> None:
    if arguments["save_to"] is None:
        raise UsageError("bad-command", f"{arguments.script}.py: --save_to is missing")
    joined = _as_computed(arguments, sheet) if arguments.as_computed else _as_meant(arguments, sheet)
    if arguments["shuffle"]:
        joined = _shuffled(arguments, sheet, joined)
    sheet.save(joined, arguments["save_to"], arguments.saving)


def _as_meant(arguments: Arguments, sheet: Sheet) -> str:
    """The exact weighted sum, whether the script would have joined the factors or added them."""
    terms: dict[str, JSON] = dict(zip(load_loras(arguments, sheet), arguments["ratios"], strict=True))
    remarks = ["The exact sum, each LoRA by its ratio; its rank is the sum of the ranks."]
    if arguments["concat"]:
        remarks += _SHARES
    else:
        remarks += [
            "The script adds the factors instead, which brings in products of one LoRA's up with another's",
            "down. For the ranks of before, put after this step: small: {svd-resize: sum, rank: 32}",
        ]
    return sheet.add("sum", {"concat": terms}, *remarks, *_squares(arguments["ratios"]), _OTHERWISE)


def _as_computed(arguments: Arguments, sheet: Sheet) -> str:
    loras = load_loras(arguments, sheet, squared=True)
    ratios = [ratio * abs(ratio) for ratio in arguments["ratios"]]
    if arguments["concat"]:
        return _joined(arguments, sheet, loras, ratios)
    terms: dict[str, JSON] = dict(zip(loras, ratios, strict=True))
    return sheet.add(
        "sum",
        {"combine": terms, "method": "linear-factors"},
        "The script adds the factors, with products of one LoRA's up with another's down.",
        *_squares(arguments["ratios"]),
    )


def _joined(arguments: Arguments, sheet: Sheet, loras: Sequence[str], ratios: Sequence[float]) -> str:
    """``--concat``: alpha is not raised with the rank, so each LoRA counts its share of the ranks."""
    terms: dict[str, JSON] = {}
    factors = halved([ranks_of(sheet.found(model)) for model in arguments["models"]])
    for lora, ratio, each in zip(loras, ratios, factors, strict=True):
        usual = most_common(each)
        others = {pattern: factor / usual for pattern, factor in patterns(each, usual).items()}
        step = lora
        if others:
            step = sheet.add(f"{lora}-shares", {"scale": lora, "modules": dict(others)})
        terms[step] = ratio * usual
    return sheet.add("sum", {"concat": terms}, *_SHARES, *_squares(arguments["ratios"]))


def _squares(ratios: Sequence[float]) -> tuple[str, ...]:
    """What is said of ratios, where it shows."""
    return () if all(abs(ratio) in (0, 1) for ratio in ratios) else ("Its ratio r acts as r * |r|.",)


def _shuffled(arguments: Arguments, sheet: Sheet, step: str) -> str:
    if arguments.as_computed:
        return sheet.add(
            "shuffled", {"shuffle": step, "mode": "permute"}, "The script draws another order in each run."
        )
    return sheet.add(
        "shuffled",
        {"shuffle": step},
        "Rotated, so that the sources cannot be told apart. The script reorders the ranks, which",
        "hides nothing.",
    )
