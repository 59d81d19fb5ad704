"""Reports of small builds, as the tests of the page's parts want them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorapipe.build.looking.recording import Recording
from lorapipe.build.looking.report import Report
from lorapipe.build.looking.reporting import report_recipe
from lorapipe.build.run import build
from lorapipe.recipe.parsing import load_recipe

from ...bench import SHAPES, TE, Bench

STEPS = """
    base: {load: base.safetensors}
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: 0.7, b: -0.4}}
    small: {svd-resize: both, rank: 3}
    good: {check: small, finite: true, energy: {of: both, min: 0.0}}
    lora: {save: small, to: out/small.safetensors}
    model: {merge-into-checkpoint: base, loras: {both: 0.5}, unmatched: warn}
    merged: {save: model, to: out/model.safetensors}
"""
HEAD = 'name: test\ndescription: "with <all> & everything"\n'


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Report]:
    """Reports of ``STEPS`` before any run, and of a run."""
    folder: Path = tmp_path_factory.mktemp("reported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAPIPE_STORE", str(folder / "store"))
        patch.delenv("LORAPIPE_MODELS", raising=False)
        bench = Bench(folder)
        lost = TE.replace("layers_0", "layers_1")
        bench.checkpoint()
        bench.lora("a", rank=8, modules={**SHAPES, lost: SHAPES[TE]})
        bench.lora("b", rank=12, alpha=None, seed=1)
        recipe, recording = load_recipe(bench.recipe(STEPS, head=HEAD)), Recording()
        before = report_recipe(recipe)
        build(recipe, listen=recording.tell)
        return before, report_recipe(recipe, recording=recording)


@pytest.fixture
def planned(reports: tuple[Report, Report]) -> Report:
    """What would be."""
    return reports[0]


@pytest.fixture
def ran(reports: tuple[Report, Report]) -> Report:
    """What was."""
    return reports[1]
