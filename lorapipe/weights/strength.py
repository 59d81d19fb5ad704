"""What a strength other than 1 means to adapters that do not add, by the program that says so.

Torch-free: a plan refuses a rule that a program does not have.
"""

from __future__ import annotations

from collections.abc import Mapping

from lorapipe.errors import BuildError

__all__ = ["PROGRAMS", "RULES", "defined", "undefined"]

RULES = ("exact", "comfy", "lycoris")
"""``exact`` is ``W + w (op(W) - W)``; the others are what a program of that name computes,
at strength 1 too, where ComfyUI departs from the trainers' formulas."""

PROGRAMS: Mapping[str, str] = {"comfy": "ComfyUI", "lycoris": "LyCORIS"}

_DEFINED: Mapping[str, frozenset[str]] = {
    "comfy": frozenset({"DoRA", "OFT", "BOFT", "GLoRA", "full weight", "padded LoRA"}),
    "lycoris": frozenset({"DoRA", "OFT", "BOFT", "GLoRA", "IA3"}),
}
"""The formats that the program reads (comfyanonymous/ComfyUI 9c0cf36 ``comfy/weight_adapter``;
lycoris-lora 4.1.3 ``lycoris/modules``)."""


def defined(rule: str, form: str) -> bool:
    """Whether a rule says anything of the format called ``form``."""
    return rule == "exact" or form in _DEFINED[rule]


def undefined(rule: str, form: str) -> BuildError:
    """The error of an operator asked for a rule that it does not have."""
    return BuildError("no-strength-rule", f"{PROGRAMS[rule]} has no {form}, and so no rule for its strength")
