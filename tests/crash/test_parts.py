"""Shards made by processes of their own, some of which die: the folder is whole, what is there is kept."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path

import pytest

from lorapipe.build.events import Event, Note
from lorapipe.build.run import Options, build, plan
from lorapipe.plan.parts import parts_of
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench
from .scene import Job, Scene, Server, digests

STEPS = """
    a: {load: a.safetensors}
    base: {load: base/}
    half: {scale: a, by: $(seed)}
    model: {merge-into-checkpoint: base, loras: half}
    m: {save: model, to: out/m/, shard-size: 300kB}
"""
PARAMS = {"seed": 1}
POINTS = 8
"""Those that a part has on its way, until it is in the books."""


@pytest.fixture
def scene(bench: Bench) -> Scene:
    return Scene.make(bench, STEPS)


def names(scene: Scene) -> list[str]:
    return [part.name for part in parts_of(plan(load_recipe(scene.recipe, PARAMS), read=True).steps["m"])]


def undisturbed(scene: Scene) -> dict[str, str]:
    build(load_recipe(scene.recipe, PARAMS), Options(workers=1))
    good = digests(scene.out)
    shutil.rmtree(scene.out / "m")
    return good


def published(scene: Scene) -> tuple[dict[str, str], list[object]]:
    """What a build then makes, and what it says of the files that were there."""
    told: list[Event] = []
    build(load_recipe(scene.recipe, PARAMS), Options(workers=1), listen=told.append)
    assert [path.name for path in scene.out.iterdir()] == ["m"]
    return digests(scene.out), [e.value for e in told if isinstance(e, Note) and e.fact == "resumed"]


@pytest.mark.parametrize("at", [2, 5, 7, 9])
def test_who_is_killed_costs_its_own_shard_alone(scene: Scene, server: Server, store: Path, at: int) -> None:
    good, files = undisturbed(scene), names(scene)
    killed, other = (scene.job(1, store, at=at, part=files[0]), scene.job(1, store, part=files[1]))
    first, second = server.run(killed, other)
    assert second == 0
    assert first == (-signal.SIGKILL if at < POINTS else 0)
    part = scene.part()
    assert part is not None
    assert files[1] in {path.name for path in part.iterdir()}
    found, (resumed,) = published(scene)
    assert found == good
    assert resumed == f"{1 if at < POINTS else 2} of {len(files)} files were finished"


def test_builds_of_the_whole_and_of_parts_at_once_all_come_to_the_same(
    scene: Scene, server: Server, store: Path, tmp_path: Path
) -> None:
    good, files = undisturbed(scene), names(scene)
    parts = [scene.job(1, store, part=name) for name in files]
    others = [Job(scene.recipe, tmp_path / "another", 1, part=files[1])]
    assert set(server.run(*parts, scene.job(1, store), *others, scene.job(1, store))) == {0}
    assert published(scene)[0] == good


def test_a_storm_of_kills_leaves_whole_shards(scene: Scene, server: Server, store: Path) -> None:
    good, files = undisturbed(scene), names(scene)
    rng = random.Random(1)  # noqa: S311  # of a test's choices
    for _ in range(3):
        jobs = [scene.job(1, store, part=name, after=rng.uniform(0.01, 0.3)) for name in files * 2]
        whole = scene.job(1, store, after=rng.uniform(0.01, 0.3))
        assert set(server.run(*jobs, whole)) <= {0, -signal.SIGKILL}
        if (scene.out / "m").exists():
            assert digests(scene.out) == good
            shutil.rmtree(scene.out / "m")
    assert published(scene)[0] == good
