"""What other programs do wrong when a run goes wrong: each of it does not happen here."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lorapipe.build.run import Options, build
from lorapipe.errors import LorapipeError, ManyErrors, RecipeError
from lorapipe.recipe.parsing import load_recipe

from ..bench import TE, Bench
from .scene import Scene, Server, digests


def test_killed_during_the_first_build_ever_nothing_is_there_and_the_next_builds_all(
    scene: Scene, server: Server, store: Path
) -> None:
    """The store, its sqlite file and the outputs' folder are just being made."""
    for at in range(1, 8):
        assert server.run(scene.job(1, store, at=at)) == [-signal.SIGKILL]
        assert not scene.out.exists() or digests(scene.out) == {}
    for after in (0.0, 0.02, 0.05):
        server.run(scene.job(1, store, after=after))
    assert server.run(scene.job(1, store)) == [0]
    assert {"one.safetensors", "two.safetensors", "m/config.json"} < digests(scene.out).keys()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b: {scael: a, by: 2}", "did you mean 'scale'"),
        ("b: {svd-resize: a, rnak: 2}", "did you mean 'rank'"),
        ("b: {scale: aa, by: 2}", "did you mean 'a'"),
        ("b: {save: a, to: b.safetensor}", "ends in .safetensors"),
    ],
)
def test_a_typo_is_an_error_with_the_right_word(bench: Bench, line: str, message: str) -> None:
    bench.lora("a")
    recipe = bench.recipe(f"a: {{load: a.safetensors}}\n{line}")
    with pytest.raises(LorapipeError) as caught:
        build(load_recipe(recipe, {}), Options())
    assert caught.value.exit_status == 3
    assert message in str(caught.value)


def _link(here: Path, name: str, make: Callable[[Path, Path], None]) -> str:
    make(here / "a.safetensors", here / name)
    return name


def _to_folder(path: Path, link: Path) -> None:
    link.symlink_to(path.parent)


WAYS: dict[str, Callable[[Path], str]] = {
    "by its name": lambda here: "a.safetensors",
    "by another way": lambda here: "x/../a.safetensors",
    "by a hard link": lambda here: _link(here, "h.safetensors", os.link),
    "by a symbolic link": lambda here: _link(here, "s.safetensors", os.symlink),
    "through a linked folder": lambda here: _link(here, "here", _to_folder) + "/a.safetensors",
    "in another case": lambda here: "A.safetensors",
}


@pytest.mark.parametrize("way", WAYS)
def test_an_output_that_is_an_input_is_refused_whatever_it_is_called(bench: Bench, way: str) -> None:
    path = bench.lora("a")
    before = path.read_bytes()
    (bench.folder / "x").mkdir()
    to = WAYS[way](bench.folder)
    if not (bench.folder / to).exists():
        pytest.skip("names that differ in case are two files here")
    recipe = bench.recipe(f"a: {{load: a.safetensors}}\nb: {{scale: a, by: 2}}\no: {{save: b, to: {to}}}")
    for force in (False, True):
        with pytest.raises((RecipeError, ManyErrors)) as caught:
            build(load_recipe(recipe, {}), Options(force=force))
        assert caught.value.exit_status == 3
    assert path.read_bytes() == before


def test_an_output_root_that_leads_to_an_input_is_refused(bench: Bench, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    path = models / "a.safetensors"
    bench.lora("a").rename(path)
    before = path.read_bytes()
    root = tmp_path / "outputs"
    root.symlink_to(models)
    recipe = bench.recipe("a: {load: a.safetensors}\nb: {scale: a, by: 2}\no: {save: b, to: a.safetensors}")
    with pytest.raises((RecipeError, ManyErrors)) as caught:
        build(load_recipe(recipe, {}), Options(models=(models,), output_root=root, force=True))
    assert caught.value.exit_status == 3
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "steps",
    [
        "n: {concat: {a: 0}}",
        "n: {concat: {a: 1, b: -1}}\nm: {filter: n, drop: {modules: ['**']}}",
    ],
    ids=["weight 0", "nothing chosen"],
)
def test_an_output_of_no_tensors_is_an_error_and_no_file(bench: Bench, steps: str) -> None:
    bench.lora("a")
    bench.lora("b", seed=1, modules={TE: (24, 16)})
    last = steps.rsplit("\n", 1)[-1].partition(":")[0]
    loads = "a: {load: a.safetensors}\nb: {load: b.safetensors}"
    recipe = bench.recipe(f"{loads}\n{steps}\no: {{save: {last}, to: out/o.safetensors}}")
    with pytest.raises(LorapipeError) as caught:
        build(load_recipe(recipe, {}), Options())
    assert caught.value.exit_status in (3, 5)
    assert not (bench.folder / "out" / "o.safetensors").exists()
