"""Plots of a LoRA: what is drawn is what numpy finds in its deltas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lorapipe
from lorapipe.errors import UsageError

from .bench import CONV1, PROJ_IN, TE, TO_Q, Bench

ROOT = Path(lorapipe.__file__).parent.parent


def test_norms_are_those_of_the_deltas_block_by_block(bench: Bench) -> None:
    pytest.importorskip("matplotlib")
    lora = lorapipe.load(bench.lora("a", rank=8))
    (axes,) = lorapipe.plot_norms(lora, title="a").axes

    deltas = bench.deltas["a"]
    unet = np.sqrt(sum(np.sum(deltas[stem] ** 2) for stem in (TO_Q, PROJ_IN, CONV1)))
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([unet, np.linalg.norm(deltas[TE])])  # type: ignore[attr-defined]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["IN01", "BASE"]


def test_spectra_are_those_of_the_deltas_by_their_largest(bench: Bench) -> None:
    pytest.importorskip("matplotlib")
    lora = lorapipe.load(bench.lora("a", rank=4))
    (axes,) = lorapipe.plot_spectrum(lora).axes

    drawn = [np.asarray(line.get_ydata()) for line in axes.lines if line.get_linewidth() < 1]
    assert len(drawn) == 4
    for stem in (TE, TO_Q, PROJ_IN, CONV1):
        values = np.linalg.svd(bench.deltas["a"][stem].reshape(len(bench.deltas["a"][stem]), -1))[1][:4]
        assert any(np.allclose(line, values / values[0], rtol=1e-6) for line in drawn)


def test_a_plot_shows_itself_as_a_picture(bench: Bench) -> None:
    pytest.importorskip("matplotlib")
    figure: Any = lorapipe.plot_norms(lorapipe.load(bench.lora("a")))
    assert figure._repr_png_().startswith(b"\x89PNG\r\n")
    assert "matplotlib.pyplot" not in sys.modules


def test_what_is_no_lora_is_told_so(bench: Bench) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(UsageError, match="plots are of LoRAs, this is a checkpoint"):
        lorapipe.plot_norms(lorapipe.load(bench.checkpoint()))
    with pytest.raises(UsageError, match=r"this is 'a\.safetensors'"):
        lorapipe.plot_spectrum("a.safetensors")  # type: ignore[arg-type]


def test_without_matplotlib_the_remedy_is_told(bench: Bench) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None; import lorapipe\n"
        "try: lorapipe.plot_norms(None)\n"
        "except lorapipe.LorapipeError as error: print(error.code, error.hint, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "extra-missing pip install 'lorapipe[plot]' False\n"
