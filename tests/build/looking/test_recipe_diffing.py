"""Two recipes as this machine sees them: inputs by what is known of them, keys where there can be any."""

from __future__ import annotations

import time
from pathlib import Path

import lorapipe
from lorapipe.build.looking.recipe_diffing import DiffedRecipes, diff_built
from lorapipe.build.planning import Options
from lorapipe.recipe.parsing import load_recipe

from ...bench import Bench

STEPS = "a: {load: a.safetensors}\n  r: {svd-resize: a, rank: 2}\n  o: {save: r, to: o.safetensors}"


def recipe(bench: Bench, name: str, steps: str = STEPS, folder: Path | None = None) -> Path:
    return bench.recipe(steps).rename((folder or bench.folder) / name)


def diffed(old: Path, new: Path, *, read: bool = False, options: Options | None = None) -> DiffedRecipes:
    return diff_built(load_recipe(old), load_recipe(new), options, read=read)


def test_keys_are_those_of_the_builds(bench: Bench) -> None:
    bench.lora("a")
    one, two = recipe(bench, "one.yaml"), recipe(bench, "two.yaml", STEPS.replace("rank: 2", "rank: 1"))
    before, after = diffed(one, two, read=True).keys
    assert before["o"] is not None
    assert before["o"] != after["o"]
    built = lorapipe.run(two)
    assert built.plan.steps["o"].key == after["o"]


def test_nothing_is_hashed_for_a_look(bench: Bench) -> None:
    bench.lora("a")
    found = diffed(recipe(bench, "one.yaml"), recipe(bench, "two.yaml", STEPS.replace("rank: 2", "rank: 1")))
    assert found.keys == ({"o": None}, {"o": None})
    assert not (bench.folder.parent / "store").exists()
    assert found.diff.steps == {"r": ("rank 2 -> 1",)}


def test_a_file_that_was_renamed_is_known_by_its_sha256(bench: Bench) -> None:
    a = bench.lora("a")
    (bench.folder / "b.safetensors").write_bytes(a.read_bytes())
    time.sleep(0.06)
    one, two = recipe(bench, "one.yaml"), recipe(bench, "two.yaml", STEPS.replace("load: a.", "load: b."))
    assert diffed(one, two).diff.steps == {"a": ("file a.safetensors -> b.safetensors",)}
    found = diffed(one, two, read=True).diff
    assert found.steps == {}
    assert found.quiet == {"a": ("load a.safetensors -> b.safetensors",)}


def test_files_of_one_name_in_two_folders_are_told_apart_once_they_are_known(bench: Bench) -> None:
    other = bench.folder / "other"
    other.mkdir()
    bench.lora("a", seed=1).rename(other / "a.safetensors")
    bench.lora("a", seed=2)
    time.sleep(0.06)
    one, two = recipe(bench, "one.yaml"), recipe(bench, "two.yaml", folder=other)
    assert not diffed(one, two).diff.differs
    (word,) = diffed(one, two, read=True).diff.steps["a"]
    assert word.startswith("sha256 ")


def test_inputs_are_looked_for_in_the_model_folders(bench: Bench) -> None:
    models = bench.folder / "models"
    models.mkdir()
    bench.lora("a").rename(models / "a.safetensors")
    one = recipe(bench, "one.yaml")
    assert len(diffed(one, one).unplanned) == 2
    found = diffed(one, one, options=Options(models=(models,)))
    assert (found.unplanned, found.keys[0].keys()) == ((), {"o"})


def test_a_pin_stands_for_the_file(bench: Bench) -> None:
    pinned = [STEPS.replace("a.safetensors}", f"a.safetensors, sha256: {digit * 64}}}") for digit in "ab"]
    one, two = recipe(bench, "one.yaml", pinned[0]), recipe(bench, "two.yaml", pinned[1])
    found = diffed(one, two)
    assert found.diff.steps == {"a": ("sha256 aaaaaaaaaaaa... -> bbbbbbbbbbbb...",)}
    assert len(found.unplanned) == 2
