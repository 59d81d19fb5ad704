"""Several builds at once: of one recipe they share the work, of overlapping ones what they have in common."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lorapipe.build.run import Options, build
from lorapipe.recipe.parsing import load_recipe

from .scene import Job, Scene, Server, digests, unsound, watching

OTHER = """
    a: {load: a.safetensors}
    base: {load: base/}
    scaled: {scale: a, by: $(seed)}
    mixed: {shuffle: scaled, seed: 1}
    again: {shuffle: mixed, seed: 2}
    model: {merge-into-checkpoint: base, loras: mixed}
    two: {save: model, to: out/other.safetensors}
    three: {save: again, to: out/three.safetensors}
"""
"""A recipe that has a stored step in common with the scene's, and an output by another name."""


def records_of(store: Path, path: Path) -> int:
    """How often an output was about to appear: once, if it was written once."""
    with closing(sqlite3.connect(store / "index.sqlite")) as connection:
        (count,) = connection.execute(
            "SELECT max(number) - min(number) FROM journal WHERE path = ?", (str(path).encode(),)
        ).fetchone()
    return int(count) + 1


@pytest.mark.parametrize("count", [2, 4])
def test_builds_of_one_recipe_write_each_output_once_and_all_end_well(
    scene: Scene, server: Server, store: Path, tmp_path: Path, count: int
) -> None:
    scene.learn(server, tmp_path / "alone", [1])
    shutil.rmtree(scene.out)
    scene.out.mkdir()

    with watching(scene) as saw:
        assert server.run(*[scene.job(1, store)] * count) == [0] * count

    assert saw["wrong"] == []
    assert digests(scene.out) == scene.good[1]
    assert not [path for path in scene.out.iterdir() if path.name.startswith(".")]
    assert [records_of(store, scene.out / name) for name in ("one.safetensors", "two.safetensors", "m")] == [
        1,
        1,
        1,
    ]
    assert len([path for path in (store / "blobs").rglob("*") if path.is_file()]) == 1
    assert unsound(store) == []


@pytest.mark.parametrize("count", [2, 4])
def test_builds_of_recipes_that_overlap_share_what_they_have_in_common(
    scene: Scene, server: Server, store: Path, count: int
) -> None:
    other = scene.bench.recipe(OTHER, "s.yaml", head="params: {seed: 0}\n")
    jobs = [scene.job(1, store), Job(other, store, 1)] * (count // 2)

    assert server.run(*jobs) == [0] * count

    found = digests(scene.out)
    assert unsound(store) == []
    manifests = [json.loads(path.read_text()) for path in (store / "manifests").rglob("*.json")]
    assert len({manifest["sha256"] for manifest in manifests}) == 2  # one is the other's own
    shutil.rmtree(scene.out)
    shutil.rmtree(store)
    assert server.run(scene.job(1, store)) == [0]
    assert server.run(Job(other, store, 1)) == [0]
    assert digests(scene.out) == found


def test_builds_with_stores_of_their_own_meet_at_one_output_and_all_end_well(
    scene: Scene, server: Server, tmp_path: Path
) -> None:
    """Two users, or two machines: they share no lock but those beside the output."""
    scene.learn(server, tmp_path / "alone", [1])
    shutil.rmtree(scene.out)
    scene.out.mkdir()
    with watching(scene) as saw:
        statuses = server.run(*[scene.job(1, tmp_path / f"store-{n}") for n in range(3)])
    assert saw["wrong"] == []
    assert digests(scene.out) == scene.good[1]
    # Who comes late finds a file that its own books do not know: it compares, and it is the same.
    assert statuses == [0, 0, 0]


def test_an_output_that_another_build_replaces_meanwhile_is_not_entered_as_ours(scene: Scene) -> None:
    """Once entered under this build's key, another version would count as up to date for good."""

    def run(seed: int, hook: Callable[[str], None] = lambda point: None) -> None:
        build(load_recipe(scene.recipe, {"seed": seed}), Options(workers=1), hook=hook)

    run(1)
    good = digests(scene.out)
    (scene.out / "one.safetensors").unlink()
    replaced: list[str] = []

    def replace(point: str) -> None:
        if point == "output:sealed" and not replaced:
            replaced.append(point)
            run(2)

    run(1, replace)

    assert digests(scene.out)["two.safetensors"] != good["two.safetensors"]
    run(1)
    assert digests(scene.out) == good
