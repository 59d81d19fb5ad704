"""Processes that share a store: killed in the middle, and several at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import lorapipe

from .teams import STORED, Machine, machine

SCRIPT = Path(__file__).with_name("sharing_store.py")

GIVING = ("half a blob sent", "a blob without a manifest")
FETCHING = ("half a blob fetched", "a blob fetched, no manifest")
AT_ONCE = "at once"


class Scene(NamedTuple):
    """A shared folder, the machine whose processes were run, and what those told that ended well."""

    server: Path
    machine: Machine
    told: list[dict[str, Any]]

    def another(self, name: str) -> Machine:
        return machine(self.server.parent / name, f"file://{self.server}")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    """All processes of this file, started together: what takes long is to load torch."""
    found, jobs = {}, []
    for point in (*GIVING, *FETCHING, AT_ONCE):
        folder = tmp_path_factory.mktemp("scene")
        (folder / "server").mkdir()
        scene = Scene(folder / "server", machine(folder / "killed", f"file://{folder}/server"), [])
        if point not in GIVING:
            scene.another("before").run()
        found[str(scene.machine.folder)] = point, scene
        job = [str(scene.machine.folder), scene.machine.shared, "" if point == AT_ONCE else point]
        jobs += [job] * (3 if point == AT_ONCE else 1)
    environment = {**os.environ, "PYTHONPATH": str(Path(lorapipe.__file__).parents[1])}
    argv = [sys.executable, str(SCRIPT), json.dumps(jobs)]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        folder, told = json.loads(line)
        found[folder][1].told.append(told)
    return dict(found.values())


@pytest.mark.parametrize("point", GIVING)
def test_killed_while_it_gives_nothing_half_is_seen_and_the_next_build_gives_it(
    scenes: dict[str, Scene], point: str
) -> None:
    scene = scenes[point]
    assert scene.told == [], "it was killed"
    assert list(scene.server.rglob("*.json")) == [scene.server / "lorapipe-store.json"]

    second, third = scene.another("second"), scene.another("third")
    second.run()
    third.run()
    assert (second.made, third.made) == ({*STORED, "fine"}, set())
    assert second.warnings == third.warnings == []
    assert second.output() == third.output()


@pytest.mark.parametrize("point", FETCHING)
def test_killed_while_it_fetches_nothing_half_is_kept_and_the_next_build_fetches_it(
    scenes: dict[str, Scene], point: str
) -> None:
    scene = scenes[point]
    assert scene.told == [], "it was killed"

    scene.machine.run()
    assert scene.machine.made == set()
    assert scene.machine.warnings == []
    assert scene.machine.output() == Machine(scene.server.parent / "before", None).output()
    assert list(scene.machine.folder.rglob("*.tmp")) == []


def test_of_three_processes_of_a_machine_one_fetches_and_the_others_find_it(
    scenes: dict[str, Scene],
) -> None:
    told = scenes[AT_ONCE].told
    assert len(told) == 3
    for step in ("small", "again"):
        how = Counter(each[step] for each in told if step in each)
        assert how["fetched"] == 1, (step, told)
        assert set(how) <= {"fetched", "store"}
    assert (
        scenes[AT_ONCE].machine.output() == Machine(scenes[AT_ONCE].server.parent / "before", None).output()
    )
