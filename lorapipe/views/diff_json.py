"""Differences as JSON: the shape is ``schemas/diff.v1.schema.json``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lorapipe.views.text import json_number
from lorapipe.weights.distances import Distance, total

if TYPE_CHECKING:
    from lorapipe.build.looking.diffing import WeightsDiff
    from lorapipe.build.looking.recipe_diffing import DiffedRecipes

__all__ = ["recipes_diff_json", "weights_diff_json"]


def weights_diff_json(diff: WeightsDiff, *, modules: bool = False) -> dict[str, Any]:
    """A JSON-ready dict; ``modules`` adds the distance of each module or weight."""
    told: dict[str, Any] = {
        "version": 1,
        "kind": diff.kind,
        "old": diff.old.name,
        "new": diff.new.name,
        "differs": diff.differs,
        "sha256": diff.sha256,
        "same_numbers": diff.same_numbers,
        "added": list(diff.added),
        "removed": list(diff.removed),
        "unequal": list(diff.unequal),
        "altered": dict(diff.altered),
        "metadata": dict(diff.metadata),
        "total": _distance(diff.distances.values()),
        "blocks": [
            {
                "component": component,
                "block": block,
                "weights": len(names),
                **_distance(diff.distances[name] for name in names),
            }
            for (component, block), names in diff.blocks.items()
        ],
    }
    if modules:
        told["weights"] = [{"name": name, **_distance([one])} for name, one in diff.distances.items()]
    return told


def recipes_diff_json(found: DiffedRecipes) -> dict[str, Any]:
    """A JSON-ready dict."""
    diff, (old, new) = found.diff, found.keys
    return {
        "version": 1,
        "kind": "recipe",
        "old": found.old.file,
        "new": found.new.file,
        "differs": diff.differs,
        "settings": list(diff.settings),
        "steps": {name: list(words) for name, words in diff.steps.items()},
        "no_byte": {name: list(words) for name, words in diff.quiet.items()},
        "added": list(diff.added),
        "removed": list(diff.removed),
        "outputs": [
            *(
                {
                    "step": name,
                    "old_step": diff.ends.get(name),
                    "old_key": old.get(diff.ends.get(name, "")),
                    "key": key,
                }
                for name, key in new.items()
            ),
            *(
                {"step": None, "old_step": name, "old_key": key, "key": None}
                for name, key in old.items()
                if name not in diff.ends.values()
            ),
        ],
        "unplanned": list(found.unplanned),
    }


def _distance(found: Iterable[Distance]) -> dict[str, float | None]:
    one = total(found)
    return {
        "old_norm": json_number(one.old),
        "new_norm": json_number(one.new),
        "apart": json_number(one.apart),
        "relative": json_number(one.relative),
        "cosine": one.cosine,
    }
