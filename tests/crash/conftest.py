"""Fixtures of the crash tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..bench import Bench
from .scene import Scene, Server, serving

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory, where the machine has such: what a killed process wrote is there as on a disk.

    The disk would take half of the time, in fsync. What only a power cut could show no test here can see.
    """
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 1 << 29
    path = Path(tempfile.mkdtemp(prefix="lorapipe-", dir=MEMORY if roomy else None))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Runs builds in processes of their own."""
    with serving() as running:
        yield running


@pytest.fixture
def scene(bench: Bench) -> Scene:
    """Two files and a folder of shards, not built yet."""
    return Scene.make(bench)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"
