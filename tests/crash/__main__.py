"""The long run of the crash tests: ``python -m tests.crash --kills 200``.

Prints what was done and ends with 1 if anything went wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..bench import Bench
from .scene import Scene, Server, serving
from .storm import SEEDS, Storm, each_point, storm

Run = Callable[[Scene, Server, Path], Storm]


def runs(kills: int, seed: int) -> Iterator[tuple[str, Run]]:
    """What is done, by name."""
    for at_once in (1, 2, 4):
        yield (
            f"{kills} signals at random moments, {at_once} at once",
            lambda scene, server, folder, n=at_once: storm(
                scene, server, folder / "store", kills, seed=seed, at_once=n
            ),
        )
    yield "killed at each point of a first build", lambda *a: each_point(*a, first=True)
    yield "killed at each point of a build that replaces", lambda *a: each_point(*a, first=False)


def told(name: str, done: Storm, took_s: float) -> str:
    parts = [
        f"{done.killed} of {done.sent} builds killed",
        f"{done.interrupted} interrupted (the slowest ended after {done.slowest_s:.2f} s)",
        f"{done.rebuilt} builds after them" if done.rebuilt else "a build after each",
        f"{done.resumed} of them with finished shards",
        f"{done.looks} outputs looked at meanwhile",
        f"{len(done.wrong)} wrong",
    ]
    return f"{name}: {', '.join(parts)}; {took_s:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="other moments")
    asked = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="lorapipe-crash-") as place, serving() as server:
        for number, (name, run) in enumerate(runs(asked.kills, asked.seed)):
            folder = Path(place) / str(number)
            (folder / "bench").mkdir(parents=True)
            os.environ["LORAPIPE_STORE"] = str(folder / "store")
            scene = Scene.make(Bench(folder / "bench"))
            scene.learn(server, folder / "learning", SEEDS)
            begin = time.monotonic()
            done = run(scene, server, folder)
            print(told(name, done, time.monotonic() - begin), flush=True)  # noqa: T201 - what was asked for
            wrong += done.wrong
    for line in wrong:
        print(line)  # noqa: T201 - as above
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
