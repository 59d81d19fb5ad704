"""The ModelSpec standard's metadata of a saved LoRA, as trainers write them.

No date is made up: it comes from ``SOURCE_DATE_EPOCH`` or from the recipe.
(Stability-AI/ModelSpec 1.0.1; kohya-ss/sd-scripts 48d368f ``library/sai_model_spec.py``.)
"""

from __future__ import annotations

from collections.abc import Mapping

from lorapipe.architectures import Family

__all__ = ["modelspec_metadata"]

_PREFIX = "modelspec."
_VERSION, _TITLE = "1.0.1", "LoRA"
_DIFFUSERS = frozenset({"diffusers", "peft"})


def modelspec_metadata(known: Family | None, kept: Mapping[str, str], layout: str) -> dict[str, str]:
    """The ``modelspec.*`` keys of a LoRA of a family; ``kept`` are those that its sources agree on.

    These stay, but for the implementation, which a ``layout`` decides. Of a model that no
    table describes nothing is added.
    """
    told = {} if known is None else known.modelspec
    own = {key: text for key, text in kept.items() if key.startswith(_PREFIX)}
    if not told and _PREFIX + "architecture" not in own:
        return own
    made = {f"{_PREFIX}{key}": text for key, text in told.items()}
    if told:
        made[_PREFIX + "architecture"] += "/lora"
    found = {_PREFIX + "sai_model_spec": _VERSION, _PREFIX + "title": _TITLE, **made, **own}
    if layout in _DIFFUSERS:
        found[_PREFIX + "implementation"] = "diffusers"
    return found
