"""How many ranks matter: the singular values of a LoRA's modules, drawn in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from rich.console import Console
from rich.text import Text

from lorapipe.architectures import by_block
from lorapipe.views.sparks import columns
from lorapipe.views.text import visible
from lorapipe.weights.figures import Figures
from lorapipe.weights.specs import ModuleId

__all__ = ["by_component", "print_spectra", "ranks_text", "typical"]

_HEIGHT = 6
_LABELS = ("1.0", "0.5", "0.0")
_MOST = 72
"""Columns of a chart, a rank each; of higher ranks every n-th is drawn."""


def print_spectra(family: str | None, found: Mapping[ModuleId, Figures], console: Console) -> None:
    """A chart for each model that the LoRA changes: the typical module's values, by its first."""
    for component, figures in by_component(family, found).items():
        console.print()
        for line in _chart(component, figures, console):
            console.print(Text(line), soft_wrap=True)


def by_component(family: str | None, found: Mapping[ModuleId, Figures]) -> dict[str, list[Figures]]:
    """The figures of the modules that have singular values, model by model in the family's order."""
    parted: dict[str, list[Figures]] = {}
    for (component, _), modules in by_block(family, found).items():
        figures = [found[module] for module in modules if found[module].rank]
        if figures:
            parted.setdefault(component, []).extend(figures)
    return parted


def typical(figures: Sequence[Figures]) -> list[float]:
    """The median over modules of ``s_j / s_0``, up to the highest rank; a module's own ends in zeros."""
    most = max(one.rank for one in figures)
    shares = [[value / one.singular_values[0] for value in one.singular_values] for one in figures]
    return [median(share[j] if j < len(share) else 0.0 for share in shares) for j in range(most)]


def ranks_text(figures: Sequence[Figures]) -> str:
    """How many ranks hold most: ``90 % of the energy in 3 ranks (at most 7), 99 % in 9 (at most 16)``."""
    parts: list[str] = []
    for share in (0.9, 0.99):
        needed = [one.rank_for(share) for one in figures]
        middle, most = round(median(needed)), max(needed)
        unit = "" if parts else " of the energy"
        beyond = "" if most == middle else f" (at most {most})"
        ranks = "" if parts else " rank" if middle == 1 else " ranks"
        parts.append(f"{share:.0%}{unit} in {middle}{ranks}{beyond}".replace("%", " %"))
    return ", ".join(parts)


def _chart(component: str, figures: Sequence[Figures], console: Console) -> Iterator[str]:
    ascii_only = console.options.ascii_only
    values = typical(figures)
    width = max(1, min(_MOST, (console.width if console.is_terminal else _MOST) - 6))
    every = -(-len(values) // width)
    shown = values[::every]
    yield f"{visible(component) or 'modules'}: singular values by the largest, median of {len(figures)}"
    lines = list(columns(shown, _HEIGHT, ascii_only=ascii_only))
    bar = "|" if ascii_only else "┤"
    for number, line in enumerate(lines):
        label = {0: _LABELS[0], _HEIGHT // 2: _LABELS[1], _HEIGHT - 1: _LABELS[2]}.get(number, "")
        yield f"{label:>4} {bar}{line}".rstrip()
    last = str(1 + every * (len(shown) - 1))
    yield "      1" + last.rjust(len(shown) - 1) if len(shown) > len(last) + 1 else "      1"
    yield f"      {ranks_text(figures)}"
