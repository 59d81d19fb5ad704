"""How many ranks matter: in words, and as a chart that fits its terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from lorapipe.views.spectrum import by_component, print_spectra, ranks_text, typical
from lorapipe.weights.figures import Figures
from lorapipe.weights.specs import ModuleId

from .screens import HOSTILE, log, steering, terminal, text_of


def falling(rank: int, half: float = 4.0) -> Figures:
    return Figures(tuple(2.0 ** (-j / half) for j in range(rank)))


def drawn(found: dict[ModuleId, Figures], console: Console) -> str:
    print_spectra(None, found, console)
    return text_of(console)


def test_the_typical_module_is_the_median_rank_by_rank() -> None:
    modules = [Figures((4.0, 2.0)), Figures((10.0, 1.0, 1.0)), Figures((1.0,))]
    assert typical(modules) == [1.0, 0.1, 0.0]


def test_ranks_are_said_in_words() -> None:
    assert ranks_text([Figures((1.0,))]) == "90 % of the energy in 1 rank, 99 % in 1"
    flat, steep = Figures((1.0,) * 16), Figures((1.0, 0.0001))
    assert (
        ranks_text([flat, steep, steep])
        == "90 % of the energy in 1 rank (at most 15), 99 % in 1 (at most 16)"
    )


def test_modules_without_singular_values_are_in_no_chart() -> None:
    found = {ModuleId("te", "a"): Figures((), finite=False), ModuleId("unet", "b"): falling(2)}
    assert by_component(None, found) == {"unet": [falling(2)]}
    assert "te" not in drawn(found, log())
    assert drawn({ModuleId("te", "a"): Figures(())}, log()) == ""


def test_a_chart_falls_from_one(capsys: pytest.CaptureFixture[str]) -> None:
    text = drawn({ModuleId("unet", "a"): Figures((2.0, 1.0, 0.5, 0.0001))}, log())
    assert (
        text
        == """
unet: singular values by the largest, median of 1
 1.0 ┤█
     ┤█
     ┤█
 0.5 ┤██
     ┤██▄
 0.0 ┤███
      1  4
      90 % of the energy in 2 ranks, 99 % in 3
"""
    )


@pytest.mark.parametrize("width", [20, 40, 80, 100])
@pytest.mark.parametrize("rank", [1, 2, 16, 128, 1280])
def test_a_chart_fits_its_terminal(width: int, rank: int) -> None:
    console = terminal(width)
    lines = drawn({ModuleId("unet", "a"): falling(rank)}, console).splitlines()
    charted = [line for line in lines if "┤" in line]
    assert len(charted) == 6
    assert max(map(len, charted)) <= width
    assert charted[-1].count("█") >= 1


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_component_steers_nothing(name: str) -> None:
    assert not steering(drawn({ModuleId(name, "a"): falling(3)}, terminal(60)))
