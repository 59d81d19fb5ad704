"""A store that is damaged, at rest or while builds run: it costs time, and no output is wrong."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from lorapipe.build.run import Options, build
from lorapipe.errors import BuildError, ManyErrors
from lorapipe.recipe.parsing import load_recipe

from .scene import Scene, Server, digests, unsound


def blobs(store: Path) -> list[Path]:
    return sorted(path for path in (store / "blobs").rglob("*") if path.is_file())


def manifests(store: Path) -> list[Path]:
    return sorted((store / "manifests").rglob("*.json"))


def flip(path: Path, at: int = -9) -> None:
    """Change one bit in place, and give the file its old time back: the memo must not believe it."""
    state, data = path.stat(), bytearray(path.read_bytes())
    data[at] ^= 4
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def scribble(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(50)
        file.write(b"\xff" * 3000)


Damage = Callable[[Path], object]
DAMAGE: dict[str, Damage] = {
    "a blob cut short": lambda store: cut(blobs(store)[0]),
    "a bit of a blob": lambda store: flip(blobs(store)[0]),
    "a bit of a blob's header": lambda store: flip(blobs(store)[0], 20),
    "a blob of nothing": lambda store: os.truncate(blobs(store)[0], 0),
    "no blobs": lambda store: shutil.rmtree(store / "blobs"),
    "a manifest cut short": lambda store: cut(manifests(store)[0]),
    "a bit of a manifest": lambda store: flip(manifests(store)[0], 30),
    "no manifests": lambda store: shutil.rmtree(store / "manifests"),
    "no sqlite file": lambda store: (store / "index.sqlite").unlink(),
    "sqlite cut short": lambda store: cut(store / "index.sqlite"),
    "sqlite of nothing": lambda store: os.truncate(store / "index.sqlite", 0),
    "sqlite scribbled over": lambda store: scribble(store / "index.sqlite"),
    "a log that is none": lambda store: (store / "index.sqlite-wal").write_bytes(b"\0" * 5000),
    "no locks": lambda store: shutil.rmtree(store / "locks"),
    "no temp folder": lambda store: shutil.rmtree(store / "temp"),
    "no store": shutil.rmtree,
}


def run(scene: Scene, seed: int = 1) -> None:
    build(load_recipe(scene.recipe, {"seed": seed}), Options(workers=1))


@pytest.mark.parametrize("what", DAMAGE)
def test_after_any_damage_at_rest_the_outputs_are_right_and_so_is_the_store(
    scene: Scene, store: Path, what: str
) -> None:
    run(scene)
    good = digests(scene.out)
    DAMAGE[what](store)
    (scene.out / "one.safetensors").unlink()

    run(scene)

    assert digests(scene.out) == good
    assert unsound(store) == []
    run(scene, 2)
    assert digests(scene.out) != good


def test_while_builds_run_any_damage_costs_time_and_no_output(
    scene: Scene, server: Server, store: Path, tmp_path: Path
) -> None:
    seeds = (1, 2, 3)
    scene.learn(server, tmp_path / "alone", seeds)
    chance = random.Random(11)  # noqa: S311  # moments, not secrets
    stopped = threading.Event()
    done: list[str] = []

    def vandal() -> None:
        while not stopped.wait(chance.uniform(0.02, 0.1)):
            what = chance.choice([name for name in DAMAGE if name != "no store"])
            with suppress(OSError, IndexError):
                DAMAGE[what](store)
                done.append(what)

    thread = threading.Thread(target=vandal)
    thread.start()
    statuses = []
    try:
        for number in range(9):
            # Without a lock file and with books that are gone, the outputs there would be strangers'.
            shutil.rmtree(scene.out, ignore_errors=True)
            statuses += server.run(scene.job(seeds[number % 3], store))
            if statuses[-1] == 0:
                assert digests(scene.out) == scene.good[seeds[number % 3]]
    finally:
        stopped.set()
        thread.join()

    assert len(done) > 5
    # A store that is destroyed faster than it is used may be given up with an error, never with wrong bytes.
    assert set(statuses) <= {0, 4, 5}
    assert statuses.count(0) >= 5
    shutil.rmtree(scene.out, ignore_errors=True)
    run(scene)
    assert digests(scene.out) == scene.good[1]


@pytest.mark.parametrize("of", ["file", "folder"])
def test_an_output_changed_at_its_size_and_time_is_not_taken_for_ours(scene: Scene, of: str) -> None:
    run(scene)
    path = scene.out / ("one.safetensors" if of == "file" else "m/model-00002-of-00004.safetensors")
    flip(path)
    with pytest.raises((BuildError, ManyErrors), match="was changed since lorapipe wrote it"):
        run(scene)


def test_an_input_changed_at_its_size_and_time_makes_other_outputs(scene: Scene) -> None:
    run(scene)
    good = digests(scene.out)
    lora = scene.bench.folder / "a.safetensors"
    flip(lora)
    run(scene)
    assert digests(scene.out) != good
    flip(lora)
    run(scene)
    assert digests(scene.out) == good
