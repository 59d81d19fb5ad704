"""The step kinds: one module each, loaded when a recipe uses it.

To add a kind: a row here, a module beside this one with a ``KIND``, a schema in
``schemas/steps/``, a function in ``lorapipe/api.py``, and a test of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from lorapipe.errors import RecipeError
from lorapipe.recipe.plugins import GROUP

if TYPE_CHECKING:
    from lorapipe.steps.kind import Kind

__all__ = ["KINDS", "find_kind"]

KINDS: Mapping[str, str] = {
    "check": "lorapipe.steps.check",
    "combine": "lorapipe.steps.combine",
    "concat": "lorapipe.steps.concat",
    "dylora-slice": "lorapipe.steps.dylora_slice",
    "ema": "lorapipe.steps.ema",
    "extract-lora": "lorapipe.steps.extract_lora",
    "filter": "lorapipe.steps.filter",
    "load": "lorapipe.steps.load",
    "merge-into-checkpoint": "lorapipe.steps.merge_into_checkpoint",
    "save": "lorapipe.steps.save",
    "scale": "lorapipe.steps.scale",
    "shuffle": "lorapipe.steps.shuffle",
    "svd-resize": "lorapipe.steps.svd_resize",
}


def find_kind(name: str) -> Kind:
    """The kind of that name; a dotted name is a third party's entry point.

    Raises :class:`~lorapipe.errors.RecipeError` when nothing installed has it, or two packages do.
    """
    if name in KINDS:
        core: Kind = import_module(KINDS[name]).KIND
        return core
    found = tuple(entry_points(group=GROUP, name=name))
    if not found:
        raise RecipeError("unknown-kind", f"no step kind '{name}' is installed")
    if len(found) > 1:
        places = " and ".join(point.value for point in found)
        message = f"two packages bring the step kind '{name}': {places}"
        raise RecipeError("kind-twice", message, hint="remove one")
    plugin: Kind = found[0].load()  # its schema was read from it before, so it loads
    return plugin
