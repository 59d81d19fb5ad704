"""Recipe text to a :class:`~lorapipe.recipe.model.Recipe`: pure, and light to import.

>>> from lorapipe.recipe import parse
>>> recipe = parse("{lorapipe: 1, steps: {char: {load: char.safetensors}}}")
>>> recipe.steps["char"].params
mappingproxy({'load': 'char.safetensors'})
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorapipe.recipe.language import core_language
    from lorapipe.recipe.model import Recipe, Step, Term
    from lorapipe.recipe.params import parse_setting
    from lorapipe.recipe.parsing import load_recipe, parse

__all__ = ["Recipe", "Step", "Term", "core_language", "load_recipe", "parse", "parse_setting"]

# The model alone is needed by everything that builds; YAML only by what reads a recipe.
_HOMES = {
    "Recipe": "model",
    "Step": "model",
    "Term": "model",
    "core_language": "language",
    "load_recipe": "parsing",
    "parse": "parsing",
    "parse_setting": "params",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
