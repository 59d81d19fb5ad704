"""Recipes written short, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lorapipe.errors import LorapipeError
from lorapipe.recipe.parsing import parse

HEAD = "lorapipe: 1\nsteps:\n  a: {load: a.safetensors}\n  b: {load: b.safetensors}\n"
"""Four lines, so that what follows begins at line 5."""


def complaints(text: str, params: Mapping[str, Any] | None = None) -> list[str]:
    """Every error of a recipe, as text, in the order given; none for a good recipe."""
    return errors_of(lambda: parse(text, "r.yaml", params))


def of_steps(steps: str, params: Mapping[str, Any] | None = None) -> list[str]:
    """The errors of steps (two spaces deep) in a recipe that loads ``a`` and ``b``."""
    return complaints(HEAD + steps + "\n", params)


def of_step(step: str) -> list[str]:
    """The errors of one step, written in flow style: its text begins at 5:6."""
    return of_steps(f"  x: {step}")


def errors_of(call: Callable[[], object]) -> list[str]:
    try:
        call()
    except LorapipeError as error:
        return [str(one) for one in error.parts]
    return []
