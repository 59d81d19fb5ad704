"""Builds that die at random moments: no partial file is ever seen, and the next build ends well.

The long run is ``python -m tests.crash --kills 200``.
"""

from __future__ import annotations

from pathlib import Path

from .scene import Scene, Server, digests, unsound
from .storm import SEEDS, storm


def test_killed_at_random_moments_nothing_partial_is_seen_and_the_next_build_ends_well(
    scene: Scene, server: Server, store: Path
) -> None:
    scene.learn(server, store, SEEDS)
    done = storm(scene, server, store, 10, seed=5)
    assert done.wrong == []
    assert done.killed + done.interrupted >= 5
    assert done.looks > 20


def test_several_builds_at_once_killed_at_random_moments(scene: Scene, server: Server, store: Path) -> None:
    scene.learn(server, store, SEEDS)
    done = storm(scene, server, store, 8, seed=6, at_once=4)
    assert done.wrong == []
    assert done.killed + done.interrupted >= 2


def test_a_store_built_up_by_what_died_is_as_good_as_any(
    scene: Scene, server: Server, store: Path, tmp_path: Path
) -> None:
    """Kills at each tenth of a first build, one after the other, on one store."""
    scene.learn(server, tmp_path / "other", SEEDS[:1])
    for path in sorted(scene.out.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for at in range(2, 60, 6):
        server.run(scene.job(SEEDS[0], store, at=at))
        assert unsound(store) == []
    assert server.run(scene.job(SEEDS[0], store)) == [0]
    assert digests(scene.out) == scene.good[SEEDS[0]]
    assert unsound(store) == []
