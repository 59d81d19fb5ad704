"""A call of a kind as a step of a recipe: checked as one, and done at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lorapipe.build.single import Weights, check_single, save_single, single_step
from lorapipe.errors import LorapipeError, UsageError, gathered
from lorapipe.remote.url import Location

if TYPE_CHECKING:
    from lorapipe.recipe.model import Step

__all__ = ["Terms", "call", "call_check", "call_save"]

Terms = Weights | Sequence["Weights | tuple[Weights, float]"]
"""One LoRA, or several: each alone (weight 1.0) or with its weight."""


def call(ports: Mapping[str, Terms], options: Mapping[str, Any]) -> Weights:
    """One step by hand: its options checked as a recipe's, its work done at once.

    ``ports`` go by name, the kind's own first; one inside of an option by both: ``energy.of``.
    Raises :class:`~lorapipe.errors.UsageError` with all that is wrong in the call.
    """
    return single_step(_step(ports, options), _given(ports))


def call_check(ports: Mapping[str, Terms], options: Mapping[str, Any]) -> Mapping[str, Any]:
    """As :func:`call`, for a kind that asserts something: its figures."""
    return check_single(_step(ports, options), _given(ports))


def call_save(ports: Mapping[str, Terms], options: Mapping[str, Any]) -> Location:
    """As :func:`call`, for a kind that writes a file: its path or URL."""
    return save_single(_step(ports, options), _given(ports))


def _given(ports: Mapping[str, Terms]) -> dict[str, list[tuple[Weights, float]]]:
    return {port: _terms(value) for port, value in ports.items()}


def _terms(value: Terms) -> list[tuple[Weights, float]]:
    """The terms with their weights; raises :class:`~lorapipe.errors.UsageError` for anything else."""
    if isinstance(value, Weights):
        return [(value, 1.0)]
    terms = []
    given: Any = value  # whatever a caller gives, a text or a path too
    for item in given if isinstance(given, list | tuple) else [given]:
        match item:
            case Weights():
                terms.append((item, 1.0))
            case (Weights() as weights, int() | float() as weight):
                terms.append((weights, float(weight)))
            case _:
                raise UsageError(
                    "bad-term",
                    f"{item!r:.80} is not a LoRA, nor a pair of one and its weight",
                    hint="load a file first: concat([(lorapipe.load('a.safetensors'), 0.7)])",
                )
    return terms


def _step(ports: Mapping[str, Terms], options: Mapping[str, Any]) -> Step:
    """The call as a step of a recipe, checked and completed by the recipe's own language.

    Raises :class:`~lorapipe.errors.UsageError` with all that is wrong in the options.
    """
    from lorapipe.recipe.parsing import parse

    made = {key: _literal(value) for key, value in options.items() if value is not None}
    steps: dict[str, Any] = {_STEP: made}
    for port, value in ports.items():
        option, _, inner = port.partition(".")
        names = _names(port, value)
        (made[option] if inner else made)[inner or option] = names
        steps.update({name: {"load": _ANY} for name in ([names] if isinstance(names, str) else names)})
    try:
        # JSON is YAML, so what is written here is a recipe like any other.
        text = json.dumps({"lorapipe": 1, "steps": steps}, ensure_ascii=False, default=_plain)
        recipe = parse(text, file=_STEP)
    except LorapipeError as error:
        usage = [UsageError(e.code, e.message, hint=e.hint) for e in error.parts]
        raise gathered(usage) from None
    return recipe.steps[_STEP]


def _plain(value: Any) -> Any:
    """Numpy's numbers and the like as Python's own."""
    if hasattr(value, "item"):
        return value.item()
    raise UsageError("bad-option", f"{value!r:.80} is no value for an option")


_STEP = "call"
_ANY = "any.safetensors"


def _names(port: str, value: Terms) -> str | dict[str, float]:
    if isinstance(value, Weights):
        return port.rpartition(".")[2]  # a name that its caller knows: errors may tell of it
    return {f"{port}-{i}": weight for i, (_, weight) in enumerate(_terms(value))}


def _literal(value: Any) -> Any:
    """A value as a recipe has to write it so that ``$(`` in it is no hole."""
    if isinstance(value, str):
        return value.replace("$(", "$$(")
    if isinstance(value, Mapping):
        return {key: _literal(inner) for key, inner in value.items()}
    return value
