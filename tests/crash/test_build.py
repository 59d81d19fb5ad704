"""A build that dies at any point: the next one ends with the right bytes, and no file is ever partial."""

from __future__ import annotations

import hashlib
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lorapipe.build.run import Options, build
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench
from ..formats.model_folders import hf_folder
from .scene import Job, Server

Spawn = Callable[[list[tuple[Path, Path, int, int]]], list[int]]
"""Of each build a recipe, a store, a seed, and the point at which to die (0: none)."""

STEPS = """
    a: {load: a.safetensors}
    m: {shuffle: a, seed: $(seed)}
    one: {save: m, to: out/one.safetensors, dtype: fp16}
    two: {save: a, to: out/two.safetensors}
"""

FOLDER = """
    a: {load: a.safetensors}
    base: {load: base/}
    s: {scale: a, by: $(seed)}
    model: {merge-into-checkpoint: base, loras: s}
    m: {save: model, to: out/m/, shard-size: 2kB}
"""
"""A folder of several shards, an index and a config."""


@pytest.fixture
def spawn(server: Server) -> Spawn:
    """Runs builds at once in processes of their own; their exit statuses."""
    return lambda jobs: server.run(*(Job(recipe, store, seed, at) for recipe, store, seed, at in jobs))


def _build(recipe: Path, seed: int, hook: Callable[[str], None] = lambda point: None) -> None:
    build(load_recipe(recipe, {"seed": seed}), Options(workers=1), hook=hook)


def _points(bench: Bench) -> list[str]:
    points: list[str] = []
    _build(bench.recipe(STEPS, head="params: {seed: 0}\n"), 0, points.append)
    return points


def _digests(bench: Bench) -> dict[str, str]:
    out = bench.folder / "out"
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def _base(bench: Bench) -> None:
    """The checkpoint as a folder: two shards, an index, a config."""
    hf_folder(bench.folder / "base", load_file(bench.checkpoint()), 2)


def _assert_whole(bench: Bench) -> None:
    """Every visible output is a file that the safetensors library reads to the end."""
    for path in (bench.folder / "out").glob("*.safetensors"):
        load_file(path)


def test_a_kill_at_any_point_of_a_first_build_is_made_good_by_the_next(
    bench: Bench, spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lora("a", rank=4)
    points = _points(bench)
    good = _digests(bench)
    assert {point.partition(":")[0] for point in points} >= {"output", "journal", "blob", "manifest"}

    # The first and the last pass of each point; in between lie writes like them.
    last = {point: number for number, point in enumerate(points, start=1)}
    first = {point: number for number, point in reversed(list(enumerate(points, start=1)))}
    for number in sorted({*first.values(), *last.values()})[::2]:  # each one: python -m tests.crash
        point = points[number - 1]
        for path in (bench.folder / "out").iterdir():
            path.unlink()
        store = tmp_path / f"store-{number}"
        assert spawn([(bench.folder / "r.yaml", store, 0, number)]) == [-signal.SIGKILL], point
        _assert_whole(bench)

        monkeypatch.setenv("LORAPIPE_STORE", str(store))
        _build(bench.folder / "r.yaml", 0)
        assert _digests(bench) == good, f"after a death at {point}"


def test_a_kill_while_an_output_is_replaced_leaves_the_old_one_or_the_new(
    bench: Bench, spawn: Spawn, tmp_path: Path
) -> None:
    bench.lora("a", rank=4)
    points = _points(bench)
    old = _digests(bench)
    _build(bench.folder / "r.yaml", 1)
    new = _digests(bench)
    assert old["one.safetensors"] != new["one.safetensors"]

    for number in range(1, len(points) + 1, 4):
        _build(bench.folder / "r.yaml", 0)
        assert _digests(bench) == old
        # A seed that no build had: its results are not in the store.
        spawn([(bench.folder / "r.yaml", tmp_path / "store", 100 + number, number)])
        _assert_whole(bench)

    _build(bench.folder / "r.yaml", 1)
    assert _digests(bench) == new


def test_two_processes_that_build_one_recipe_at_once_both_end_well(
    bench: Bench, spawn: Spawn, tmp_path: Path
) -> None:
    bench.lora("a", rank=4)
    recipe = bench.recipe(STEPS, head="params: {seed: 5}\n")

    assert spawn([(recipe, tmp_path / "store", 5, 0)] * 3) == [0, 0, 0]

    _assert_whole(bench)
    shared = _digests(bench)
    for path in (bench.folder / "out").iterdir():
        path.unlink()
    _build(recipe, 5)
    assert _digests(bench) == shared


def test_a_kill_at_any_point_of_a_folder_leaves_it_absent_old_or_new_and_the_next_build_mends_it(
    bench: Bench, spawn: Spawn, tmp_path: Path
) -> None:
    bench.lora("a", rank=4)
    _base(bench)
    recipe = bench.recipe(FOLDER, head="params: {seed: 1}\n")
    _build(recipe, 1)
    old = _digests(bench)
    assert {"m/config.json", "m/model.safetensors.index.json"} < old.keys()
    assert len(old) > 4
    points: list[str] = []
    _build(recipe, 2, points.append)
    assert points.count("folder:aside") == 1

    # The first and the last pass of each point; in between lie writes like them.
    last = {point: number for number, point in enumerate(points, start=1)}
    first = {point: number for number, point in reversed(list(enumerate(points, start=1)))}
    for number in sorted({*first.values(), *last.values()})[1::2]:
        point = points[number - 1]
        _build(recipe, 1)
        assert _digests(bench) == old, f"after a death at {point}"
        # A seed that no build had.
        seed = 100 + number
        assert spawn([(bench.folder / "r.yaml", tmp_path / "store", seed, number)]) == [-signal.SIGKILL], (
            point
        )
        left = {name: sha256 for name, sha256 in _digests(bench).items() if not name.startswith(".")}
        _build(recipe, seed)
        new = _digests(bench)
        assert new != old
        assert left in ([old, new, {}] if point == "folder:aside" else [old, new]), point


def test_processes_that_build_one_folder_at_once_all_end_well(
    bench: Bench, spawn: Spawn, tmp_path: Path
) -> None:
    bench.lora("a", rank=4)
    _base(bench)
    recipe = bench.recipe(FOLDER, head="params: {seed: 5}\n")
    _build(recipe, 4)

    assert spawn([(recipe, tmp_path / "store", 5, 0)] * 3) == [0, 0, 0]

    shared = _digests(bench)
    assert not [name for name in shared if name.startswith(".")]
    shutil.rmtree(bench.folder / "out" / "m")
    _build(recipe, 5)
    assert _digests(bench) == shared
