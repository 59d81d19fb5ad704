"""``python -m benchmarks.rates``: what the model of n machines is made of, measured on one.

CPU seconds, which other work on the machine changes little, and of the disk the best of some tries.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.large import LARGE
from benchmarks.machine import facts
from benchmarks.rated_merges import RANK, engines, least, model, python, resize, sizes

__all__ = ["FILE", "main"]

FILE = Path(__file__).parent / "rates.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the figures down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rates", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder on the disk to measure, with 12 GB of room")
    parser.add_argument("--out", type=Path, default=FILE, help=f"default: {FILE.name} beside this program")
    parser.add_argument("--only", action="append", choices=_MEASURES, help="these figures; the others stay")
    asked = parser.parse_args(arguments)
    found = json.loads(asked.out.read_text(encoding="utf-8")) if asked.only else {}
    with tempfile.TemporaryDirectory(prefix="rates-", dir=asked.data) as scratch:
        folder = Path(scratch)
        found |= {
            "machine": facts(folder),
            "date": datetime.now(timezone.utc).date().isoformat(),
            "rank": RANK,
        }
        for name in asked.only or _MEASURES:
            found[name] = _MEASURES[name](folder)
            asked.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def _hash(folder: Path) -> float:  # noqa: ARG001  # the measures' one signature
    """CPU seconds to hash a gigabyte."""
    piece, count = bytes(1 << 20), 500

    def once() -> float:
        begun, digest = time.process_time(), hashlib.sha256()
        for _ in range(count):
            digest.update(piece)
        return (time.process_time() - begun) * 1e9 / (count << 20)

    return least(once)


def _disk(folder: Path) -> dict[str, float]:
    """Bytes a second that the disk under a folder writes and reads, past the page cache."""
    path, piece, count = folder / "disk", mmap.mmap(-1, 1 << 22), 256
    piece.write(os.urandom(1 << 22))

    def timed(flags: int, move: Callable[[int], object]) -> float:
        fd = os.open(path, flags | os.O_DIRECT, 0o600)
        try:
            begun = time.perf_counter()
            for _ in range(count):
                move(fd)
            os.fsync(fd)
            return time.perf_counter() - begun
        finally:
            os.close(fd)

    nbytes = count << 22
    written = least(lambda: timed(os.O_WRONLY | os.O_CREAT, lambda fd: os.write(fd, piece)))
    read = least(lambda: timed(os.O_RDONLY, lambda fd: os.readv(fd, [piece])))
    path.unlink()
    return {"write": nbytes / written, "read": nbytes / read}


def _start(folder: Path) -> float:
    """CPU seconds of a process that imports what work needs: a worker, once."""
    code = "import torch, networkx, lorapipe.build.running.executor, lorapipe.weights.checkpoints.checkpoint"
    return least(lambda: python(folder, "-c", code).cpu)


def _models(folder: Path) -> dict[str, Any]:
    return {name: model(folder, name) for name in LARGE}


_MEASURES: Mapping[str, Callable[[Path], Any]] = {
    "hash": _hash,
    "disk": _disk,
    "start": _start,
    "resize": resize,
    "sizes": sizes,
    "models": _models,
    "engines": engines,
}

if __name__ == "__main__":
    sys.exit(main())
