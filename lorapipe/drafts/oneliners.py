"""Jobs of one line: what ``lorapipe concat``, ``resize``, ``merge`` and ``extract`` run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from lorapipe.drafts.sheet import Sheet
from lorapipe.errors import UsageError
from lorapipe.recipe.model import JSON

__all__ = ["Options", "Weighted", "concat", "extract", "merge", "parse_rule", "parse_term", "resize"]

Weighted = tuple[str, float | str]
"""A file and the weight with which it takes part: a number, or ``$(name)``."""

Options = Mapping[str, JSON]
"""Options of a step, those that were given."""


def parse_term(text: str) -> tuple[str, float]:
    """A file with its weight, 1 unless one is given.

    >>> parse_term("a.safetensors=-0.4"), parse_term("a=b.safetensors")
    (('a.safetensors', -0.4), ('a=b.safetensors', 1.0))

    Raises :class:`~lorapipe.errors.UsageError` ``bad-weight``.
    """
    path, _, weight = text.rpartition("=")
    try:
        number = float(weight)
    except ValueError:
        return text, 1.0
    if not path or not isfinite(number):
        raise UsageError("bad-weight", f"'{text}' is no file with a weight", hint="such as a.safetensors=0.7")
    return path, number


def parse_rule(text: str | None) -> Options:
    """The ``dynamic`` option that ``sv-fro=0.9`` stands for; none of ``None``.

    Raises :class:`~lorapipe.errors.UsageError` ``bad-rule``.
    """
    if text is None:
        return {}
    rule, _, value = text.partition("=")
    try:
        return {"dynamic": {rule: float(value)}}
    except ValueError:
        hint = "such as --dynamic sv-fro=0.9"
        raise UsageError(
            "bad-rule", f"--dynamic takes a rule and a number, not '{text}'", hint=hint
        ) from None


def concat(sheet: Sheet, loras: Sequence[Weighted], *, shuffled: bool, small: Options) -> str:
    """The exact sum of LoRAs, brought to the ranks of ``small`` where any are given."""
    step = sheet.add("sum", {"concat": _terms(sheet, loras)})
    if shuffled:
        step = sheet.add("shuffled", {"shuffle": step})
    return sheet.add("small", {"svd-resize": step, **small}) if small else step


def resize(sheet: Sheet, lora: str, small: Options) -> str:
    """One LoRA at other ranks."""
    return sheet.add("small", {"svd-resize": sheet.load(lora), **small})


def merge(sheet: Sheet, base: str, loras: Sequence[Weighted], options: Options) -> str:
    """A checkpoint with LoRAs in it."""
    model = sheet.load(base, name="base")
    return sheet.add("merged", {"merge-into-checkpoint": model, "loras": _terms(sheet, loras), **options})


def extract(sheet: Sheet, tuned: str, base: str, options: Options) -> str:
    """A LoRA of the difference of two checkpoints."""
    loads: dict[str, JSON] = {
        "extract-lora": sheet.load(tuned, name="tuned"),
        "base": sheet.load(base, name="base"),
    }
    return sheet.add("difference", {**loads, **options})


def _terms(sheet: Sheet, loras: Sequence[Weighted]) -> dict[str, JSON]:
    return {sheet.load(path): weight for path, weight in loras}
