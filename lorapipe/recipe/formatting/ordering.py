"""The order of a step's keys: its kind, then the options as their schema lists them."""

from __future__ import annotations

from dataclasses import replace

from lorapipe.recipe.formatting.tree import Collection, Item, Tree, Value
from lorapipe.recipe.language import Language

__all__ = ["order_steps"]


def order_steps(tree: Tree, language: Language) -> Tree:
    """The tree with each step's keys in order; a step stays as it is that has no kind, or several.

    So does one with an anchor, which has to stand before its aliases, and one in braces with
    comments, which may speak of a neighbour. What is no option of the kind comes last.
    """
    if not isinstance(tree.root, Collection):
        return tree
    items = tuple(
        replace(item, value=_steps(item.value, language)) if item.name == "steps" else item
        for item in tree.root.items
    )
    return replace(tree, root=replace(tree.root, items=items))


def _steps(value: Value, language: Language) -> Value:
    if not isinstance(value, Collection):
        return value
    return replace(
        value, items=tuple(replace(item, value=_step(item.value, language)) for item in value.items)
    )


def _step(step: Value, language: Language) -> Value:
    if not isinstance(step, Collection) or not step.keyed or _is_fixed(step):
        return step
    names = [item.name or "" for item in step.items]
    kinds = [name for name in names if name in language.kinds or "." in name]
    if len(kinds) != 1:
        return step
    order = [kinds[0]]
    if kinds[0] in language.kinds:
        order += language.kind(kinds[0]).schema["properties"]
    place = {name: number for number, name in reversed(list(enumerate(order)))}
    items = sorted(step.items, key=lambda item: place.get(item.name or "", len(order)))
    return replace(step, items=tuple(items))


def _is_fixed(step: Collection) -> bool:
    commented = step.flow and (step.beside or step.tail or any(list(item.comments()) for item in step.items))
    return bool(commented) or any(_has_anchor(item) for item in step.items)


def _has_anchor(item: Item) -> bool:
    if (item.key or "").startswith("&"):
        return True
    if isinstance(item.value, Collection):
        return bool(item.value.anchor) or any(map(_has_anchor, item.value.items))
    return bool(item.value.lines) and item.value.lines[0].startswith("&")
