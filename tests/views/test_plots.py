"""Pictures by matplotlib: what is drawn is what was measured, whatever it is called."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from lorapipe.errors import UsageError
from lorapipe.views.plots import save_plot, spectrum_figure
from lorapipe.weights.figures import Figures
from lorapipe.weights.specs import ModuleId

from .screens import HOSTILE

pytest.importorskip("matplotlib")

KEY = "model.diffusion_model.{}.1.transformer_blocks.0.attn1.to_q.weight"
FOUND = {
    ModuleId("unet", KEY.format("output_blocks.3")): Figures((2.0, 1.0)),
    ModuleId("unet", KEY.format("input_blocks.1")): Figures((3.0, 1.5, 0.3)),
    ModuleId(
        "te", "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight"
    ): Figures((5.0,)),
    ModuleId("unet", KEY.format("middle_block")): Figures((), finite=False),
}


def test_bars_are_the_norms_of_the_blocks_in_the_models_order() -> None:
    spectra, norms = spectrum_figure("sd1", FOUND).axes
    assert [bar.get_height() for bar in norms.patches] == pytest.approx([3.3674916, 0.0, 2.236068, 5.0])
    assert [label.get_text() for label in norms.get_xticklabels()] == ["IN01", "MID", "OUT03", "BASE"]
    medians = [line for line in spectra.lines if line.get_linewidth() > 2]
    assert [list(line.get_ydata()) for line in medians] == [pytest.approx([1.0, 0.5, 0.05]), [1.0]]
    assert [text.get_text().split(":")[0] for text in spectra.get_legend().get_texts()] == ["unet", "te"]


def test_a_model_has_one_colour_in_both_plots() -> None:
    spectra, norms = spectrum_figure("sd1", FOUND).axes
    medians = [line for line in spectra.lines if line.get_linewidth() > 2]
    from matplotlib.colors import to_rgba

    colours = [to_rgba(line.get_color()) for line in medians]
    assert [bar.get_facecolor() for bar in norms.patches] == [colours[0], colours[0], colours[0], colours[1]]


@pytest.mark.parametrize(
    "name", [*HOSTILE.values(), "$\\frac{1}{", "$x", ""], ids=[*HOSTILE, "formula", "dollar", "none"]
)
def test_a_hostile_name_is_drawn_as_text(tmp_path: Path, name: str) -> None:
    figure = spectrum_figure(None, {ModuleId(name, f"layers.3.{name}"): Figures((1.0, 0.5))}, name)
    for suffix in (".png", ".svg"):
        save_plot(figure, tmp_path / f"a{suffix}")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()  # noqa: S314  # just drawn
    assert not [element for element in root.iter() if element.tag.endswith(("script", "foreignObject"))]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        save_plot(spectrum_figure("sd1", FOUND), tmp_path / "no" / "a.png")
    assert caught.value.code == "cannot-write"


def test_nothing_is_drawn_of_nothing() -> None:
    spectra, norms = spectrum_figure("sd1", {}).axes
    assert not spectra.lines
    assert not norms.patches
