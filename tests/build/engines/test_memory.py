"""The memory of the process, as ``top`` has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorapipe.build.engines import memory
from lorapipe.build.engines.memory import resident


def test_what_is_taken_shows() -> None:
    before = resident()
    taken = bytearray(64 << 20)
    taken[:: 4 << 10] = b"x" * len(taken[:: 4 << 10])
    after = resident()
    assert before is not None
    assert after is not None
    assert 48 << 20 < after - before < 128 << 20


def test_where_the_system_does_not_tell_it_is_the_most_there_ever_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = resident()
    monkeypatch.setattr(memory, "_STATM", tmp_path / "none")
    most = resident()
    assert now is not None
    assert most is not None
    assert most >= now * 0.9
