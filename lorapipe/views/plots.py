"""The same figures as pictures, by matplotlib: for ``--png``, ``--svg`` and notebooks.

Figures are made without pyplot, which keeps state of its own and may want a display.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorapipe.architectures import by_block
from lorapipe.errors import UsageError
from lorapipe.views.spectrum import by_component, ranks_text, typical
from lorapipe.views.text import visible
from lorapipe.weights.figures import Figures, together
from lorapipe.weights.specs import ModuleId

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_class", "norms_plot", "save_plot", "spectrum_figure", "spectrum_plot"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""That people with any colour vision can tell apart. (Wong, "Color blindness", Nature Methods 8, 2011.)"""

_LINES = 400
"""Modules whose own line is drawn, of each model; more are spread evenly."""


def spectrum_figure(family: str | None, figures: Mapping[ModuleId, Figures], title: str = "") -> Figure:
    """Two plots: each module's singular values by its largest with the median, and the norm of each block.

    ``family`` is the LoRA's, which orders the blocks. Raises
    :class:`~lorapipe.errors.UsageError` ``extra-missing`` where there is no matplotlib.
    """
    figure = figure_class()(figsize=(11.0, 4.5), layout="constrained")
    spectra, norms = figure.subplots(1, 2)
    _draw_spectra(spectra, family, figures)
    _draw_norms(norms, family, figures)
    if title:
        figure.suptitle(_plain(title))
    return figure


def spectrum_plot(family: str | None, figures: Mapping[ModuleId, Figures], title: str = "") -> Figure:
    """Each module's singular values alone; otherwise as :func:`spectrum_figure`."""
    return _plot(_draw_spectra, family, figures, title)


def norms_plot(family: str | None, figures: Mapping[ModuleId, Figures], title: str = "") -> Figure:
    """The norm of each block alone; otherwise as :func:`spectrum_figure`."""
    return _plot(_draw_norms, family, figures, title)


def _plot(
    draw: Callable[[Any, str | None, Mapping[ModuleId, Figures]], None],
    family: str | None,
    figures: Mapping[ModuleId, Figures],
    title: str,
) -> Figure:
    figure = figure_class()(figsize=(7.5, 4.5), layout="constrained")
    draw(figure.subplots(), family, figures)
    if title:
        figure.suptitle(_plain(title))
    return figure


def save_plot(figure: Figure, path: Path) -> None:
    """Write a figure to a file, whose suffix says how: the same bytes each time.

    Raises :class:`~lorapipe.errors.UsageError` ``cannot-write``.
    """
    import matplotlib as mpl

    no_date: dict[str, Any] = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
    try:
        with mpl.rc_context({"svg.hashsalt": "lorapipe", "svg.fonttype": "path"}):
            figure.savefig(path, metadata=no_date, dpi=150)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            "cannot-write", f"the plot cannot be written: {reason}", hint="name another file", where=str(path)
        ) from error


def _draw_spectra(axes: Any, family: str | None, figures: Mapping[ModuleId, Figures]) -> None:
    colours = _colours(family, figures)
    for component, of in by_component(family, figures).items():
        colour = colours[component]
        for one in of[:: -(-len(of) // _LINES)]:
            share = [value / one.singular_values[0] for value in one.singular_values]
            axes.plot(range(1, one.rank + 1), share, color=colour, alpha=0.12, linewidth=0.7)
        middle = typical(of)
        label = f"{_plain(component) or 'modules'}: {ranks_text(of)}"
        marker = "o" if len(middle) == 1 else None
        axes.plot(range(1, len(middle) + 1), middle, color=colour, linewidth=2.2, label=label, marker=marker)
    axes.set(xlabel="rank", ylabel="singular value by the module's largest", ylim=(0.0, 1.05))
    axes.set_title("Singular values, and the median of each model", fontsize=10)
    if axes.lines:
        axes.legend(fontsize=7)


def _draw_norms(axes: Any, family: str | None, figures: Mapping[ModuleId, Figures]) -> None:
    blocks = by_block(family, figures)
    colours = _colours(family, figures)
    norms = [together(figures[module] for module in of) for of in blocks.values()]
    axes.bar(range(len(norms)), norms, color=[colours[component] for component, _ in blocks])
    shared = Counter(block for _, block in blocks)
    labels = [_plain(f"{c} {b}" if shared[b] > 1 else b) or "elsewhere" for c, b in blocks]
    every = -(-len(labels) // 40) or 1
    axes.set_xticks(range(0, len(labels), every), labels[::every], rotation=90, fontsize=7)
    axes.set(ylabel="norm")
    axes.set_title("Norm of each block, in the order of the model", fontsize=10)


def _colours(family: str | None, figures: Mapping[ModuleId, Figures]) -> dict[str, str]:
    """A colour for each model, the same in both plots."""
    components = dict.fromkeys(component for component, _ in by_block(family, figures))
    return {component: _COLOURS[number % len(_COLOURS)] for number, component in enumerate(components)}


def _plain(text: str) -> str:
    """A stranger's text as text: no control characters, and no dollar that begins a formula."""
    return visible(text[:120]).replace("$", r"\$")


def figure_class() -> type[Figure]:
    """matplotlib's, which shows itself in a notebook where no pyplot is imported that would see to it.

    Raises :class:`~lorapipe.errors.UsageError` ``extra-missing`` where there is none.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        hint = "pip install 'lorapipe[plot]'"
        raise UsageError("extra-missing", "plots need the matplotlib library", hint=hint) from error
    return type("Figure", (Figure,), {"_repr_png_": _png})


def _png(figure: Figure) -> bytes:
    """The figure as IPython asks for it."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    return drawn.getvalue()
