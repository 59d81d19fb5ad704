"""A fresh store for each test, and keys to put into it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lorapipe.store.store import Store, open_store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the store will be; nothing is there yet."""
    return tmp_path / "cache" / "store"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with open_store(root) as opened:
        yield opened


@pytest.fixture
def digest() -> Callable[[str | bytes], str]:
    """A sha256 to use as key or digest."""

    def of(data: str | bytes) -> str:
        return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()

    return of
