"""Numbers as the page says them; each keeps its exact value beside the words, for sorting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from lorapipe.views.text import bytes_text

__all__ = ["UNKNOWN", "Numeral", "count", "percent", "seconds", "signed", "size", "value"]


@dataclass(frozen=True, slots=True)
class Numeral:
    """A number and its words; of what is not known, or not finite, there is no number."""

    number: float | None
    words: str


UNKNOWN = "\N{EN DASH}"
"""What stands where nothing is known."""


def value(number: float | None) -> Numeral:
    """Three significant digits.

    >>> value(0.012345).words, value(1234.5).words, value(None).words == UNKNOWN
    ('0.0123', '1230', True)
    """
    return _of(number, _digits)


def signed(number: float | None) -> Numeral:
    """Three digits behind the point, with a sign: a cosine.

    >>> signed(-0.01234).words, signed(0.5).words
    ('−0.012', '+0.500')
    """
    return _of(number, lambda known: f"{known:+.3f}".replace("-", "\N{MINUS SIGN}"))


def percent(number: float | None) -> Numeral:
    """A share in percent, three significant digits.

    >>> percent(0.98765).words, percent(0.00012).words, percent(1.0).words
    ('98.8 %', '0.012 %', '100 %')
    """
    return _of(number, lambda known: f"{_digits(100 * known)} %")


def count(number: int | None) -> Numeral:
    """A whole number.

    >>> count(12345).words
    '12,345'
    """
    return _of(number, lambda known: f"{int(known):,}")


def size(number: int | None) -> Numeral:
    """Bytes."""
    return _of(number, lambda known: bytes_text(int(known)))


def seconds(number: float | None) -> Numeral:
    """Seconds of wall time.

    >>> seconds(0.0123).words, seconds(75).words
    ('0.01 s', '1 min 15 s')
    """
    return _of(number, _time)


def _of(number: float | None, words: Callable[[float], str]) -> Numeral:
    if number is None or not isfinite(number):
        return Numeral(None, UNKNOWN if number is None else "not finite")
    return Numeral(number, words(number))


def _digits(number: float) -> str:
    if number and not 1e-4 <= abs(number) < 1e5:
        return f"{number:.2e}"
    text = f"{float(f'{number:.3g}'):.10f}".rstrip("0").rstrip(".")
    return text or "0"


def _time(known: float) -> str:
    if known < 10:
        return f"{known:.2f} s"
    return f"{known:.0f} s" if known < 60 else f"{int(known // 60)} min {int(known % 60)} s"
