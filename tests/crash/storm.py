"""Builds killed at random moments, one or several at once, and what is left of them each time."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .scene import Scene, Server, digests, unsound, watching

__all__ = ["SEEDS", "Storm", "each_point", "storm"]

SEEDS = (1, 2, 3)
"""The versions that take turns."""


@dataclass
class Storm:
    """What a storm did: ``killed`` of ``sent`` builds died, the others were done before; what went wrong."""

    sent: int = 0
    killed: int = 0
    interrupted: int = 0
    resumed: int = 0
    rebuilt: int = 0
    looks: int = 0
    slowest_s: float = 0.0
    wrong: list[str] = field(default_factory=list)


def storm(  # what a storm is made of
    scene: Scene, server: Server, store: Path, kills: int, *, seed: int, at_once: int = 1
) -> Storm:
    """Send ``kills`` builds a signal at a random moment (SIGKILL, each fifth one SIGINT), and rerun.

    Half of the builds have several tasks at work. After each the outputs are held against the known
    versions and the store against its names;
    after every other a build of the same version runs to its end. ``scene`` knows :data:`SEEDS`.
    """
    chance = random.Random(seed)  # noqa: S311  # moments, not secrets
    done = Storm()
    usual = _usual_s(scene, server, store)
    with watching(scene) as saw:
        while done.sent < kills:
            version = chance.choice(SEEDS)
            sends = signal.SIGINT if chance.random() < 0.2 else signal.SIGKILL
            # Of several at once half build the same, half another version with the same outputs.
            jobs = [
                scene.job(
                    version if number % 2 == 0 else chance.choice(SEEDS),
                    store,
                    after=chance.uniform(0, usual * chance.choice((1, at_once))),
                    sends=sends,
                    workers=chance.choice((1, 4)),
                )
                for number in range(min(at_once, kills - done.sent))
            ]
            _count(done, server.timed(*jobs), sends)
            done.wrong += unsound(store)
            if chance.random() < 0.5:
                done.resumed += scene.part() is not None
                done.rebuilt += 1
                done.wrong += _rebuilt(scene, server, store, version)
    done.wrong += [f"seen: {each}" for each in saw["wrong"]]
    done.looks = saw["files"]
    return done


def each_point(scene: Scene, server: Server, folder: Path, *, first: bool) -> Storm:
    """Kill a build at each point that it passes, and rerun; the first build, or one that replaces another.

    Each has a store of its own below ``folder``. ``scene`` knows :data:`SEEDS`.
    """
    done = Storm()
    new, old = SEEDS[:2]
    with watching(scene) as saw:
        while True:
            store = folder / f"store-{done.sent}"
            _clear(scene.out)
            if not first:
                assert server.run(scene.job(old, store)) == [0]
            (status,) = server.run(scene.job(new, store, at=done.sent + 1))
            done.sent += 1
            done.killed += status == -signal.SIGKILL
            done.resumed += scene.part() is not None
            done.wrong += unsound(store)
            done.wrong += _rebuilt(scene, server, store, new)
            shutil.rmtree(store)
            if status == 0:  # it passes no more points
                break
    done.wrong += [f"seen: {each}" for each in saw["wrong"]]
    done.looks = saw["files"]
    return done


def _rebuilt(scene: Scene, server: Server, store: Path, version: int) -> list[str]:
    """Let a build run to its end; what is wrong with its outputs."""
    status = server.run(scene.job(version, store))
    found = digests(scene.out)
    hidden = [path.name for path in scene.out.iterdir() if path.name.startswith(".")]
    if status == [0] and found == scene.good[version] and not hidden:
        return []
    return [f"version {version}, rebuilt: {status}, {found}, {hidden}"]


def _clear(folder: Path) -> None:
    """Take all outputs away, and folders at once: somebody is watching."""
    for path in folder.iterdir():
        hidden = path.rename(path.with_name(".gone"))
        shutil.rmtree(hidden) if hidden.is_dir() else hidden.unlink()


def _count(done: Storm, ends: list[tuple[int, float]], sends: int) -> None:
    stopped = -signal.SIGKILL if sends == signal.SIGKILL else 130
    for status, lived in ends:
        done.sent += 1
        if status == stopped:
            done.killed += sends == signal.SIGKILL
            done.interrupted += sends == signal.SIGINT
            done.slowest_s = max(done.slowest_s, lived)
        elif status != 0:
            done.wrong.append(f"a build ended with {status}")


def _usual_s(scene: Scene, server: Server, store: Path) -> float:
    """About what a build takes that has something to do: moments are drawn from a little more."""
    spent: Counter[str] = Counter()
    for version in (*SEEDS, SEEDS[0]):
        begin = time.monotonic()
        assert server.run(scene.job(version, store)) == [0]
        spent["s"] += time.monotonic() - begin
    return 1.1 * spent["s"] / (len(SEEDS) + 1)
