"""One mistake that shows with several values of an axis, said once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from lorapipe.errors import LorapipeError, Place

__all__ = ["alike"]

_FEW = 3  # values that are named


def alike(found: Iterable[Sequence[LorapipeError]]) -> list[LorapipeError]:
    """What was found wrong with each of several values, each mistake once.

    One mistake are errors of one code in one place. What the values are stands in the hints: those of
    the first few are told, or, where they are part of the message, the first and how many more there are.
    """
    mistakes: dict[tuple[object, ...], dict[tuple[str, str | None], LorapipeError]] = {}
    for errors in found:
        counts: Counter[tuple[object, ...]] = Counter()
        for error in errors:
            mark = (error.code, *_position(error))
            counts[mark] += 1  # two of a code in one place are two mistakes with each of the values
            mistakes.setdefault((*mark, counts[mark]), {}).setdefault((error.message, error.hint), error)
    return [_one(list(variants.values())) for variants in mistakes.values()]


def _position(error: LorapipeError) -> tuple[object, ...]:
    where = error.where
    return (where.line, where.column) if isinstance(where, Place) else (where,)


def _one(variants: Sequence[LorapipeError]) -> LorapipeError:
    first, others = variants[0], len(variants) - 1
    if not others:
        return first
    hints = [error.hint for error in variants if error.hint is not None]
    if all(error.message == first.message for error in variants):
        more = [f"and {len(hints) - _FEW} more"] if len(hints) > _FEW else []
        first.hint = "; ".join([*hints[:_FEW], *more]) or None
    else:
        rest = f"and {others} more like it"
        first.hint = rest if first.hint is None else f"{first.hint}; {rest}"
    return first
