"""One process, measured: wall, CPU seconds, peak memory, all of it and of the children it waited for."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

__all__ = ["SAID", "Failed", "Sample", "apart", "free_memory", "measure", "warm"]

Result = TypeVar("Result")

SAID = "said.txt"
"""What a command said, in the folder where it ran."""

_TUNING = ("OMP_", "MKL_", "OPENBLAS_", "ATEN_", "TORCH_", "PYTHON", "LORAPIPE_")


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run cost: ``wall`` and ``cpu`` (user and system) in seconds, ``peak`` in bytes."""

    wall: float
    cpu: float
    peak: int


class Failed(Exception):
    """A process that did not end well; its text is the last that it said, without folders."""


def apart(function: Callable[..., Result], *arguments: object) -> Result:
    """``function(*arguments)`` in a fresh process, so that what it loads and holds is not ours."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def warm(paths: Sequence[Path]) -> None:
    """Read files once, so that every contestant finds them in memory, and end all writing."""
    piece = bytearray(1 << 20)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(piece):
                pass
    os.sync()


def free_memory() -> int:
    """Bytes that a process can have before another must go; all there is, where the kernel does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def measure(
    command: Sequence[str], *, folder: Path, env: Mapping[str, str] | None = None, limit: float = 3600
) -> Sample:
    """Run a command in ``folder`` and measure it.

    The peak is the largest resident set among the process and its descendants, as the
    kernel's ``wait4`` gives it. Settings of threads and of Python in our own environment
    are not passed on: each program runs as it comes. Raises :class:`Failed` when it ends
    with another status than 0, or takes longer than ``limit`` seconds.
    """
    said = folder / SAID
    with said.open("wb") as log:
        begun = time.perf_counter()
        try:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=_environment(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        except OSError as error:
            raise Failed(f"cannot be started: {error.strerror}") from error
        _first_to_go(process.pid)
        timer = threading.Timer(limit, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(_reason(process.returncode, said, late=wall >= limit))
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_TUNING)}
    return kept | {"HF_HUB_OFFLINE": "1"} | dict(more or {})


def _first_to_go(pid: int) -> None:
    # Some peers need more memory than there is; then they, and not a bystander, are to be killed.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000", encoding="ascii")


def _reason(code: int, said: Path, *, late: bool) -> str:
    if late:
        return "took too long"
    if code == -9:
        return "killed, for memory as it seems"
    lines = said.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"failed with exit status {code}: {re.sub(r'(/[^/ :]+)+/', '', last)[:100]}"
