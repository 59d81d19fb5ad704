"""A lab on loopback: a scheduler and workers as their own commands start them, and builds on them."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..bench import Bench

SWEEP = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: $(strength), b: -0.5}}
    small: {svd-resize: both, rank: $(rank)}
    mixed: {shuffle: small, seed: 7}
    out: {save: mixed, to: out/s$(strength)-r$(rank).safetensors}
"""
MATRIX = "matrix: {strength: [0.25, 0.5, 0.75, 1.0], rank: [4, 8, 12, 16, 20, 24]}\n"


def made_sweep(folder: Path, modules: int, width: int) -> Path:
    """A recipe of 24 variants over two LoRAs of so many modules, and its inputs."""
    folder.mkdir(parents=True)
    bench = Bench(folder)
    names = {
        f"lora_unet_{side}_blocks_{block}_attentions_{n}_transformer_blocks_0_attn{m}_to_{p}": (width, width)
        for side, blocks in (("down", (0, 1, 2)), ("up", (1, 2, 3)))
        for block in blocks
        for n in (0, 1)
        for m in (1, 2)
        for p in ("q", "k", "v")
    }
    chosen = dict(list(names.items())[:modules])
    for seed, name in enumerate("ab"):
        bench.lora(name, rank=48, seed=seed, modules=chosen)
    return bench.recipe(SWEEP, head=MATRIX)


def digests(recipe: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (recipe.parent / "out").iterdir()}


def soon(holds: Callable[[], bool], seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return holds()


@dataclass
class Lab:
    """Processes in ``folder``, each the head of a session of its own; ``file`` leads to the scheduler."""

    folder: Path
    file: Path = field(init=False)
    scheduler: subprocess.Popen[bytes] = field(init=False)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: int = 0

    def start(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        self.started += 1
        with (self.folder / f"{self.started}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    def open(self) -> None:
        self.file = self.folder / f"scheduler-{self.started}.json"
        self.scheduler = self.start(
            "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
            "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(self.file),
        )  # fmt: skip
        assert soon(lambda: self.file.exists() and self.file.stat().st_size > 0)

    def hire(self, *options: str, env: Mapping[str, str] | None = None, nanny: bool = True) -> None:
        """One more worker; without a nanny it is not started again when it dies."""
        self.workers.append(
            self.start(
                "distributed.cli.dask_worker",
                "--scheduler-file",
                str(self.file),
                "--nthreads",
                "1",
                "--no-dashboard",
                "--local-directory",
                str(self.folder),
                *(() if nanny else ("--no-nanny",)),
                *options,
                env=env,
            )
        )

    def dismiss(self) -> None:
        for worker in self.workers:
            end(worker)
        self.workers.clear()

    def close(self) -> None:
        self.dismiss()
        end(self.scheduler)

    def count(self, number: int) -> bool:
        """Wait until there are so many workers."""
        from distributed import Client

        with Client(scheduler_file=str(self.file), set_as_default=False) as client:
            return soon(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == number)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def lab(folder: Path, workers: int = 2) -> Iterator[Lab]:
    folder.mkdir(parents=True)
    made = Lab(folder)
    made.open()
    try:
        for _ in range(workers):
            made.hire()
        assert made.count(workers)
        yield made
    finally:
        made.close()


def command(recipe: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "lorapipe", "run", str(recipe), "--engine", "dask", *options]


def started(recipe: Path, *options: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A build, which prints its events; the head of a session of its own, as a shell's job is."""
    return subprocess.Popen(
        command(recipe, "--progress", "json", *options),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )


def until(build: subprocess.Popen[str], text: str) -> bool:
    """Read a build's events up to one that holds ``text``."""
    assert build.stderr is not None
    return any(text in line for line in build.stderr)
