"""Two recipes as this machine sees them: their inputs by what is known of them, their outputs' keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lorapipe.build.planning import Options, folders_of, plan
from lorapipe.build.records import Records
from lorapipe.errors import LorapipeError
from lorapipe.plan.files import find_input, identify
from lorapipe.plan.recipes import RecipeDiff, diff_recipes
from lorapipe.recipe.model import Recipe, Step

__all__ = ["DiffedRecipes", "diff_built"]

Keys = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class DiffedRecipes:
    """Two recipes, what is otherwise, and the key of each output by its step's id.

    A key is ``None`` while an input has yet to be hashed; where a recipe cannot be planned (an input
    is missing) it has none, and ``unplanned`` says why.
    """

    old: Recipe
    new: Recipe
    diff: RecipeDiff
    keys: tuple[Keys, Keys] = field(default=({}, {}))
    unplanned: tuple[str, ...] = ()


def diff_built(
    old: Recipe, new: Recipe, options: Options | None = None, *, read: bool = False
) -> DiffedRecipes:
    """Compare two recipes; with ``read`` inputs that are not known are hashed.

    Raises what plugins of kinds do; an input that is missing is no error.
    """
    options = options or Options()
    with Records(looking=not read) as records:
        found = diff_recipes(old, new, lambda recipe, step: _digest(recipe, step, options, records, read))
    (before, no), (after, neither) = (_keys(recipe, options, read) for recipe in (old, new))
    return DiffedRecipes(old, new, found, (before, after), (*no, *neither))


def _keys(recipe: Recipe, options: Options, read: bool) -> tuple[Keys, tuple[str, ...]]:
    try:
        planned = plan(recipe, options, read=read)
    except LorapipeError as error:
        return {}, (str(error).splitlines()[0],)
    return {step.step.id: step.key for step in planned.outputs}, ()


def _digest(recipe: Recipe, step: Step, options: Options, records: Records, read: bool) -> str | None:
    if "sha256" in step.params:
        return str(step.params["sha256"]).lower()
    variant = str(step.params["variant"]) if "variant" in step.params else None
    try:
        path = find_input(str(step.params["load"]), None, folders_of(recipe, options), records.digests)
        return identify(path, None, None, records.digests, read=read, variant=variant).sha256
    except LorapipeError:
        return None
