"""A LoRA's figures as plots, by matplotlib (``pip install 'lorapipe[plot]'``).

    >>> import lorapipe
    >>> lorapipe.plot_norms(lorapipe.load("char.safetensors"))  # doctest: +SKIP

A plot is a :class:`matplotlib.figure.Figure`: a notebook shows it, ``figure.savefig("norms.png")`` writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lorapipe.build.single import Weights
from lorapipe.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lorapipe.weights.figures import Figures
    from lorapipe.weights.specs import ModuleId

__all__ = ["plot_norms", "plot_spectrum"]


def plot_norms(lora: Weights, *, title: str = "") -> Figure:
    """The Frobenius norm of each block's deltas, in the order of the model: which blocks are strong.

    Raises :class:`~lorapipe.errors.UsageError`: ``extra-missing`` without matplotlib, ``bad-term``
    for what is no LoRA.
    """
    from lorapipe.views.plots import norms_plot

    return _plotted(norms_plot, lora, title)


def plot_spectrum(lora: Weights, *, title: str = "") -> Figure:
    """Each module's singular values by its largest, and their median: how many ranks matter.

    Raises as :func:`plot_norms`.
    """
    from lorapipe.views.plots import spectrum_plot

    return _plotted(spectrum_plot, lora, title)


def _plotted(
    plot: Callable[[str | None, Mapping[ModuleId, Figures], str], Figure], lora: Weights, title: str
) -> Figure:
    from lorapipe.build.looking.inspecting import working
    from lorapipe.views.plots import figure_class

    figure_class()  # who lacks it is to hear of it before the work
    from lorapipe.weights.algebra.adapter import Adapter
    from lorapipe.weights.algebra.portrait import portrait

    value = lora.value if isinstance(lora, Weights) else lora
    if not isinstance(value, Adapter):
        what = "a checkpoint" if isinstance(lora, Weights) else f"{lora!r:.80}"
        hint = "load one: lorapipe.plot_norms(lorapipe.load('a.safetensors'))"
        raise UsageError("bad-term", f"plots are of LoRAs, this is {what}", hint=hint)
    with working() as each:
        figures = portrait(value, each=each)
    return plot(value.spec.family, figures, title)
