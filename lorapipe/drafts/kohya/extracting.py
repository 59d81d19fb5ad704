"""``extract_lora_from_models.py``, ``flux_extract_lora.py`` and ``extract_lora_from_dylora.py``."""

from __future__ import annotations

from pathlib import PurePath

from lorapipe.drafts.kohya.arguments import Arguments
from lorapipe.drafts.kohya.notes import tell_clamp
from lorapipe.drafts.kohya.ranks import ranks_of
from lorapipe.drafts.sheet import Sheet
from lorapipe.errors import UsageError
from lorapipe.recipe.model import JSON

__all__ = ["extract", "slice_dylora"]

_ATTENTION = ("lora_unet_*_attentions_*", "lora_te*")
"""Where the script looks without ``--conv_dim``: transformer blocks and text encoders."""


def extract(arguments: Arguments, sheet: Sheet) -> None:
    """A LoRA of the difference of two models."""
    tell_clamp(sheet, arguments["clamp_quantile"])
    if arguments["load_precision"] is not None:
        sheet.tell(f"--load_precision {arguments['load_precision']}: lorapipe reads the numbers as they are.")
    if arguments["device"] is not None:
        sheet.defaults["device"] = arguments["device"]
    base = sheet.load(arguments["model_org"], arguments.loading, name="base")
    tuned = sheet.load(arguments["model_tuned"], arguments.loading, name="tuned")
    options: dict[str, JSON] = {"extract-lora": tuned, "base": base, "rank": arguments["dim"]}
    if arguments["conv_dim"] is not None:
        options["conv-rank"] = arguments["conv_dim"]
    remarks: tuple[str, ...] = ()
    if arguments["min_diff"]:
        remarks = (
            f"--min_diff {arguments['min_diff']:g}: the script drops the text encoder where no number of it",
            "differs by as much. Here each module is kept that differs; 'min-diff' leaves out single ones.",
        )
    step = sheet.add("difference", options, *remarks)
    if (
        arguments.as_computed
        and arguments.script == "extract_lora_from_models"
        and "conv-rank" not in options
    ):
        step = sheet.add(
            "attention",
            {"filter": step, "keep": {"modules": list(_ATTENTION)}},
            "Without --conv_dim the script looks at attention blocks and text encoders only.",
        )
    sheet.save(step, arguments["save_to"], arguments.saving)


def slice_dylora(arguments: Arguments, sheet: Sheet) -> None:
    """The LoRAs of a DyLoRA: one file for each multiple of the unit below its rank."""
    unit = arguments["unit"]
    if unit < 1:
        raise UsageError("bad-command", "extract_lora_from_dylora.py: --unit takes a whole number from 1")
    most = max(ranks_of(sheet.found(arguments["model"])).values(), default=0)
    if unit >= most:
        raise UsageError(
            "bad-command",
            f"extract_lora_from_dylora.py: of rank {most}, --unit {unit} leaves nothing to slice",
            hint="give a smaller --unit",
        )
    lora = sheet.load(arguments["model"])
    target = PurePath(arguments["save_to"])
    for rank in range(unit, most, unit):
        part = sheet.add(f"rank-{rank}", {"dylora-slice": lora, "components": rank})
        sheet.save(
            part, str(target.with_name(f"{target.stem}-{rank:04d}{target.suffix}")), name=f"out-{rank}"
        )
