"""The files of an output folder, as the plan foretells them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lorapipe.build.run import Options, build, plan
from lorapipe.plan.parts import parts_of
from lorapipe.recipe.parsing import load_recipe
from lorapipe.remote.url import parse_url

from ..bench import Bench
from ..formats.model_folders import hf_folder

STEPS = """
    a: {load: a.safetensors}
    base: {load: base/}
    r: {svd-resize: a, rank: 2}
    model: {merge-into-checkpoint: base, loras: a}
    m: {save: model, to: out/m/, shard-size: 2kB}
    one: {save: model, to: out/one.safetensors}
    small: {save: model, to: out/small/}
    u: {scale: r, components: {te: 0}}
    lora: {save: u, to: out/lora/, layout: peft}
"""


@pytest.fixture
def recipe(bench: Bench) -> Path:
    bench.lora("a")
    hf_folder(bench.folder / "base", load_file(bench.checkpoint()), 2)
    return bench.recipe(STEPS)


def test_parts_are_the_files_of_weights_with_their_tensors_and_bytes(recipe: Path) -> None:
    parts = parts_of(plan(load_recipe(recipe)).steps["m"])
    build(load_recipe(recipe), Options(workers=2))
    folder = recipe.parent / "out" / "m"
    assert [part.name for part in parts] == sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(parts) > 2
    for part in parts:
        held = load_file(folder / part.name)
        assert set(part.tensors) == set(held)
        assert part.nbytes == sum(tensor.numel() * tensor.element_size() for tensor in held.values())
        assert part.step == "m"


def test_what_goes_elsewhere_than_on_a_disk_is_made_in_one(recipe: Path) -> None:
    planned = plan(load_recipe(recipe)).steps["m"]
    elsewhere = replace(planned, files={"to": parse_url("s3://bucket/m/")})
    assert parts_of(planned)
    assert parts_of(elsewhere) == ()


def test_only_a_folder_of_several_files_has_parts(recipe: Path) -> None:
    steps = plan(load_recipe(recipe)).steps
    assert [name for name, step in steps.items() if parts_of(step)] == ["m"]
