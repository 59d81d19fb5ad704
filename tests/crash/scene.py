"""What the crash tests build: two files and a folder of shards, in versions whose bytes are known."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from ..bench import CONV1, PROJ_IN, TE, TO_Q, Bench
from ..formats.model_folders import hf_folder

__all__ = [
    "HERE",
    "ROOT",
    "Job",
    "Scene",
    "Server",
    "digests",
    "environment",
    "serving",
    "unsound",
    "watching",
]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

Digests = Mapping[str, str]
"""sha256 by name relative to a folder."""

SHAPES = {TE: (320, 320), TO_Q: (320, 320), PROJ_IN: (320, 320, 1, 1), CONV1: (320, 160, 3, 3)}
"""Large enough that the writing is a good part of a build."""

RECIPE = """
    a: {load: a.safetensors}
    base: {load: base/}
    scaled: {scale: a, by: $(seed)}
    mixed: {shuffle: scaled, seed: 1}
    model: {merge-into-checkpoint: base, loras: mixed}
    one: {save: mixed, to: out/one.safetensors, dtype: fp16}
    two: {save: model, to: out/two.safetensors}
    m: {save: model, to: out/m/, shard-size: 300kB}
"""


@dataclass(frozen=True)
class Job:
    """A build in a process of its own, and how it ends: see ``builds.py``."""

    recipe: Path
    store: Path
    seed: int
    at: int = 0
    after: float | None = None
    sends: int = signal.SIGKILL
    part: str | None = None
    workers: int = 1

    def as_json(self) -> dict[str, Any]:
        return {
            "recipe": str(self.recipe), "store": str(self.store), "seed": self.seed,
            "at": self.at, "after": self.after, "sends": int(self.sends), "part": self.part,
            "workers": self.workers,
        }  # fmt: skip


class Server:
    """Runs jobs; made by :func:`serving`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, *jobs: Job) -> list[int]:
        """Run jobs at once; their exit statuses, minus the signal where one ended them."""
        return [status for status, _ in self.timed(*jobs)]

    def timed(self, *jobs: Job) -> list[tuple[int, float]]:
        """As :meth:`run`, with the seconds that each lived after its signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([job.as_json() for job in jobs]) + "\n")
        self._process.stdin.flush()
        return [(status, lived) for status, lived in json.loads(self._process.stdout.readline())]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@contextmanager
def serving() -> Iterator[Server]:
    """A process that has loaded torch and forks builds."""
    pipe = subprocess.PIPE
    argv = [sys.executable, str(HERE / "builds.py")]
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, env=environment()) as process:
        assert process.stdin is not None
        try:
            yield Server(process)
        finally:
            process.stdin.close()


def digests(folder: Path) -> dict[str, str]:
    """The visible files below a folder and their sha256, by relative name."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in found}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not any(part.startswith(".") for part in name.split("/"))
    }


def unsound(store: Path) -> list[str]:
    """What in a store is not what its name says: blobs by their bytes, manifests by their blobs."""
    blobs = [path for path in (store / "blobs").rglob("*") if path.is_file()]
    wrong = [f"blob {b.name}" for b in blobs if hashlib.sha256(b.read_bytes()).hexdigest() != b.name]
    for manifest in (store / "manifests").rglob("*.json"):
        told = json.loads(manifest.read_text())
        blob = store / "blobs" / told["sha256"][:2] / told["sha256"]
        if told["key"] != manifest.stem or (blob.exists() and blob.stat().st_size != told["size"]):
            wrong.append(f"manifest {manifest.stem}")
    return wrong


@dataclass(frozen=True)
class Scene:
    """A recipe in ``bench`` and the digests of its outputs by the seed they are built with."""

    bench: Bench
    recipe: Path
    good: dict[int, Digests] = field(default_factory=dict)

    @classmethod
    def make(cls, bench: Bench, steps: str = RECIPE) -> Scene:
        """Write the inputs and the recipe."""
        bench.lora("a", rank=8, modules=SHAPES)
        hf_folder(bench.folder / "base", load_file(bench.checkpoint(shapes=SHAPES)), 2)
        return cls(bench, bench.recipe(steps, head="params: {seed: 0}\n"))

    @property
    def out(self) -> Path:
        return self.bench.folder / "out"

    def job(self, seed: int, store: Path, **end: Any) -> Job:
        return Job(self.recipe, store, seed, **end)

    def learn(self, server: Server, store: Path, seeds: Sequence[int]) -> None:
        """Build each version undisturbed, one after the other, to know its bytes."""
        for seed in seeds:
            assert server.run(self.job(seed, store)) == [0]
            self.good[seed] = digests(self.out)

    def known(self) -> dict[str, Any]:
        """What a watcher may see."""
        files = {sha for of in self.good.values() for name, sha in of.items() if "/" not in name}
        folders = [
            {name.partition("/")[2]: sha for name, sha in of.items() if "/" in name}
            for of in self.good.values()
        ]
        return {"files": sorted(files), "folders": folders}

    def part(self) -> Path | None:
        """The hidden folder of what is finished of ``out/m``, if there is one."""
        parts = sorted(self.out.glob(".lorapipe-*.part"))
        assert len(parts) < 2
        return parts[0] if parts else None


@contextmanager
def watching(scene: Scene) -> Iterator[dict[str, Any]]:
    """A process looks at the outputs meanwhile; what it saw is in the dict when the context ends."""
    pipe = subprocess.PIPE
    argv = [sys.executable, str(HERE / "watcher.py"), str(scene.out), json.dumps(scene.known())]
    saw: dict[str, Any] = {}
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "looking\n"
        try:
            yield saw
        finally:
            saw |= json.loads(process.communicate()[0])
