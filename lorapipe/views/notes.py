"""What a step tells of its result, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from lorapipe.build import events

__all__ = ["note_lines"]


def note_lines(note: events.Note) -> list[str]:
    """A fact in words: shares as the mean and the worst module, counts by what is counted."""
    if note.fact == "measured":  # of a check that does not hold, whose error says what is wrong
        return []
    if note.fact in _WORDS and isinstance(note.value, dict) and note.value:
        # What came with a result from a shared store may be anything.
        with suppress(TypeError, ValueError, LookupError, AttributeError, OverflowError):
            return [f"{note.step}: {_WORDS[note.fact](note.value)}"]
    counts = note.value if isinstance(note.value, dict) else {}
    if counts and all(isinstance(count, int) for count in counts.values()):
        return [f"{note.step}: {note.fact}: {', '.join(f'{n} {what}' for what, n in counts.items())}"]
    if note.fact == "underflow":
        values = "value" if note.value == 1 else "values"
        return [f"{note.step}: {note.value} {values} became zero in the output's dtype"] if note.value else []
    return [f"{note.step}: {note.fact}: {note.value}"]


def _energy(shares: Mapping[str, float]) -> str:
    worst = min(shares, key=shares.__getitem__)
    mean = sum(shares.values()) / len(shares)
    return f"keeps {mean:.2%} of the energy, at worst {shares[worst]:.2%} ({worst})"


def _error(shares: Mapping[str, float]) -> str:
    worst = max(shares, key=shares.__getitem__)
    mean = sum(shares.values()) / len(shares)
    return f"misses {mean:.2%} of the norm, at worst {shares[worst]:.2%} ({worst})"


def _ranks(ranks: Mapping[str, int]) -> str:
    return f"ranks from {min(ranks.values())} to {max(ranks.values())}"


def _figures(told: Mapping[str, Any]) -> Iterator[str]:
    """What a check measured, in words; of energy and norm the modules that are worst."""
    if "rank" in told:
        low, high = (told["rank"][end]["value"] for end in ("min", "max"))
        yield f"rank {high}" if low == high else f"rank {low}-{high}"
    if "modules" in told:
        yield f"modules {told['modules']}"
    if "finite" in told:
        yield "finite"
    if "norm" in told:
        low, high = told["norm"]["min"], told["norm"]["max"]
        yield f"norm {low['value']:.4g} to {high['value']:.4g} ({high['of']})"
    if "energy" in told:
        worst = told["energy"]["min"]
        yield f"energy {told['energy']['total']:.2%}, at worst {worst['value']:.2%} ({worst['of']})"
    if "differs-from" in told:
        yield f"differs ({told['differs-from']})"


_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "energy": _energy,
    "error": _error,
    "holds": lambda told: ", ".join(_figures(told)),
    "ranks": _ranks,
}
