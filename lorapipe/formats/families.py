"""What readers say when a file and its family do not agree."""

from __future__ import annotations

from lorapipe.architectures import Family, Recognised, family
from lorapipe.errors import RecipeError
from lorapipe.formats.problems import file_name
from lorapipe.weights.sources import TensorSource

__all__ = ["ambiguous", "contradicted"]


def ambiguous(source: TensorSource, found: Recognised, what: str) -> RecipeError:
    """``what`` ("its keys") fit several families alike, and the recipe must say which is meant."""
    titles = " and ".join(family(name).title for name in found.candidates)
    says = " or ".join(f"`family: {name}`" for name in found.candidates)
    return RecipeError(
        "family-ambiguous", f"{what} fit {titles} alike", hint=f"say {says}", where=file_name(source)
    )


def contradicted(source: TensorSource, given: Family, found: Family | None, what: str) -> RecipeError:
    """The recipe says ``given``, but ``what`` ("its keys") are those of ``found`` or of no known family."""
    is_of = "no known family" if found is None else found.title
    hint = "leave `family:` out" if found is None else f"say `family: {found.name}`, or leave it out"
    return RecipeError(
        "family-contradicted",
        f"it is not for {given.title}: {what} are those of {is_of}",
        hint=hint,
        where=file_name(source),
        option="family",
    )
