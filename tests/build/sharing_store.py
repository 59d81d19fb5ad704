"""Builds with a shared store that die, or run at once, in processes forked from one that has loaded torch.

    sharing_store.py JOBS

JOBS is JSON, a list of [folder, shared store, point of a kill or ""]. All are started at once. Prints a line
of JSON for each that ends well: its folder, and how each step came to be. A script for tests.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch  # noqa: F401 - loaded once, so that a fork costs milliseconds

import lorapipe.build.running.executor  # noqa: F401 - likewise
from lorapipe.build.events import Event, StepDone
from lorapipe.build.run import Options, build
from lorapipe.recipe.parsing import load_recipe
from lorapipe.store.entries import Entries
from lorapipe.store.shared.catalog import Catalog
from lorapipe.store.shared.folder import FolderBucket


def die(*args: object, **more: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def half_sent(self: FolderBucket, name: str, file: Path, sent: Callable[[int], None]) -> None:
    with self._writing(self._root / name) as staged:
        staged.file.write(file.read_bytes()[: file.stat().st_size // 2])
        staged.file.flush()
        die()


def half_fetched(self: FolderBucket, name: str, size: int, *args: object) -> Iterator[bytes]:
    yield (self._root / name).read_bytes()[: size // 2]
    die()


POINTS: dict[str, tuple[type, str, Any]] = {
    "half a blob sent": (FolderBucket, "send", half_sent),
    "a blob without a manifest": (Catalog, "write", die),
    "half a blob fetched": (FolderBucket, "chunks", half_fetched),
    "a blob fetched, no manifest": (Entries, "_write_manifest", die),
}


def run(folder: Path, shared: str) -> dict[str, str]:
    done: dict[str, str] = {}

    def listen(event: Event) -> None:
        if isinstance(event, StepDone):
            done[event.step] = event.how

    options = Options(workers=1, store=folder / "store", shared_store=shared)
    build(load_recipe(folder / "r.yaml"), options, listen=listen)
    return done


def forked(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the parent must see it and the child must end
        traceback.print_exc()
    finally:
        os._exit(status)


def work(folder: str, shared: str, point: str) -> None:
    if point:
        owner, name, instead = POINTS[point]
        setattr(owner, name, instead)
    done = run(Path(folder), shared)
    os.write(1, json.dumps([folder, done]).encode() + b"\n")


def main(jobs: str) -> int:
    pids = [forked(partial(work, *job)) for job in json.loads(jobs)]
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return max(statuses)  # a kill is a negative number


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
