"""``svd_merge_lora.py`` and ``resize_lora.py``."""

from __future__ import annotations

from lorapipe.drafts.kohya.arguments import Arguments
from lorapipe.drafts.kohya.merging import load_loras
from lorapipe.drafts.kohya.notes import tell_clamp, tell_precision
from lorapipe.drafts.sheet import Sheet
from lorapipe.errors import UsageError
from lorapipe.recipe.model import JSON

__all__ = ["resize", "svd_merge"]


def svd_merge(arguments: Arguments, sheet: Sheet) -> None:
    """The weighted sum of LoRAs, brought to a rank."""
    tell_precision(arguments, sheet)
    tell_clamp(sheet)
    _take_device(arguments, sheet)
    terms: dict[str, JSON] = dict(zip(load_loras(arguments, sheet), arguments["ratios"], strict=True))
    total = sheet.add("sum", {"concat": terms})
    options: dict[str, JSON] = {"svd-resize": total, "rank": arguments["new_rank"]}
    if arguments["new_conv_rank"] is not None:
        options["conv-rank"] = arguments["new_conv_rank"]
    small = sheet.add("small", options)
    sheet.save(small, arguments["save_to"], arguments.saving)


def resize(arguments: Arguments, sheet: Sheet) -> None:
    """One LoRA, brought to a rank: fixed, or by its singular values."""
    _take_device(arguments, sheet)
    lora = sheet.load(arguments["model"])
    options: dict[str, JSON] = {"svd-resize": lora, "rank": arguments["new_rank"]}
    conv = arguments["new_conv_rank"]
    if conv is not None:
        # The help says "Conv2d 3x3"; the script takes every convolution.
        options["conv-rank"] = conv
        if arguments.as_computed:
            options["conv1x1-rank"] = conv
    remarks = _take_rule(arguments, options)
    small = sheet.add("small", options, *remarks)
    sheet.save(small, arguments["save_to"], arguments.saving)


def _take_rule(arguments: Arguments, options: dict[str, JSON]) -> tuple[str, ...]:
    method, value = arguments["dynamic_method"], arguments["dynamic_param"]
    if (method is None) != (value is None):
        raise UsageError(
            "bad-command",
            "resize_lora.py: --dynamic_method and --dynamic_param are given together or not at all",
        )
    if method is None:
        return ()
    options["dynamic"] = {method.replace("_", "-"): value}
    return (
        "The script keeps one rank more than its rule asks for, where the cap allows it. That is not",
        "imitated: the rule is kept as it is documented.",
    )


def _take_device(arguments: Arguments, sheet: Sheet) -> None:
    if arguments["device"] is not None:
        sheet.defaults["device"] = arguments["device"]
