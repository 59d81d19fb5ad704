"""A recipe in the folder that commands are run in."""

from __future__ import annotations

import pytest

from ..bench import Bench

STEPS = """
    a: {load: a.safetensors}
    half: {scale: a, by: $(by)}
    out: {save: half, to: out/o.safetensors}
"""


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """One output, and a param that it depends on; not built yet."""
    bench.lora("a")
    bench.recipe(STEPS, head="params: {by: 0.5}\n")
    monkeypatch.chdir(bench.folder)
    return bench
