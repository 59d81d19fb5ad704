"""Fixtures that several test packages share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from .bench import Bench

# The same examples each time, so that a change is judged by what it changed; a profile of one's
# own explores: HYPOTHESIS_PROFILE=default pytest.
settings.register_profile("steady", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Path of a file of the reference data beside the checkout; skips where it is absent."""

    def find(relative: str) -> Path:
        path = ROOT.parent / "shared" / relative
        if not path.exists():
            pytest.skip(f"reference data {relative} is not beside this checkout")
        return path

    return find


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An empty folder for a recipe, with a store that no other test sees."""
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("LORAPIPE_MODELS", raising=False)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    folder = tmp_path / "bench"
    folder.mkdir()
    return Bench(folder)
