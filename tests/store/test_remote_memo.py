from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Url
from lorapipe.store.database import Database
from lorapipe.store.paths import StorePaths
from lorapipe.store.remote_memo import RemoteMemo

X = Url("s3", "bucket", "x.safetensors")
STATE = RemoteState(10, '"etag"')
SHA = "ab" * 32


@pytest.fixture
def paths(tmp_path: Path) -> StorePaths:
    return StorePaths(tmp_path / "store")


def test_a_file_in_the_same_state_need_not_be_read(paths: StorePaths) -> None:
    with closing(Database(paths)) as database:
        assert RemoteMemo(database).lookup(X, STATE) is None
        assert RemoteMemo(database).remember(X, STATE, SHA)
    with closing(Database(paths, looking=True)) as database:
        assert RemoteMemo(database).lookup(X, STATE) == SHA


@pytest.mark.parametrize(
    ("url", "state"),
    [
        (X, RemoteState(11, '"etag"')),
        (X, RemoteState(10, '"other"')),
        (X, RemoteState(10, None)),
        (Url("s3", "bucket", "y.safetensors"), STATE),
        (Url("gs", "bucket", "x.safetensors"), STATE),
    ],
)
def test_another_state_or_file_is_read(paths: StorePaths, url: Url, state: RemoteState) -> None:
    with closing(Database(paths)) as database:
        RemoteMemo(database).remember(X, STATE, SHA)
        assert RemoteMemo(database).lookup(url, state) is None


def test_what_has_no_etag_is_not_remembered(paths: StorePaths) -> None:
    with closing(Database(paths)) as database:
        assert not RemoteMemo(database).remember(X, RemoteState(10), SHA)
        assert RemoteMemo(database).lookup(X, RemoteState(10)) is None


def test_the_sha256_that_a_server_keeps_is_taken_from_it(paths: StorePaths) -> None:
    with closing(Database(paths)) as database:
        assert RemoteMemo(database).lookup(X, RemoteState(10, sha256=SHA)) == SHA


def test_a_flipped_bit_is_no_digest(paths: StorePaths) -> None:
    with closing(Database(paths)) as database:
        RemoteMemo(database).remember(X, STATE, SHA)
    with closing(sqlite3.connect(paths.database)) as raw:
        raw.execute("UPDATE remote_memo SET sha256 = ?", ("cd" * 32,))
        raw.commit()
    with closing(Database(paths)) as database:
        assert RemoteMemo(database).lookup(X, STATE) is None


def test_who_only_looks_writes_nothing(paths: StorePaths) -> None:
    with closing(Database(paths, looking=True)) as database:
        assert not RemoteMemo(database).remember(X, STATE, SHA)
    assert not paths.root.exists()


def test_what_was_noted_long_ago_is_forgotten(paths: StorePaths) -> None:
    with closing(Database(paths)) as database:
        memo = RemoteMemo(database)
        memo.remember(X, STATE, SHA)
        assert memo.forget(time.time_ns() - 10**12) == 0
        assert memo.forget(time.time_ns() + 1, only_count=True) == 1
        assert memo.lookup(X, STATE) == SHA
        assert memo.forget(time.time_ns() + 1) == 1
        assert memo.lookup(X, STATE) is None
