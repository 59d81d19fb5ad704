"""Options of the scripts that change nothing in a recipe, and what is said of them."""

from __future__ import annotations

from lorapipe.drafts.kohya.arguments import Arguments
from lorapipe.drafts.sheet import Sheet

__all__ = ["tell_clamp", "tell_precision"]


def tell_precision(arguments: Arguments, sheet: Sheet) -> None:
    """``--precision fp16`` and the like: lorapipe rounds once, when it saves."""
    precision = arguments["precision"]
    if precision is not None and arguments.named_dtype(precision) != "fp32":
        sheet.tell(f"--precision {precision}: lorapipe computes in float64 and rounds once, when it saves.")


def tell_clamp(sheet: Sheet, quantile: float = 0.99) -> None:
    """What becomes of the quantile at which the scripts cut their factors off."""
    sheet.tell(
        f"The script cuts both factors off at their {quantile:g} quantile, which depends on the signs",
        "that its SVD happened to give. That is not imitated: the best LoRA of the rank is written.",
    )
