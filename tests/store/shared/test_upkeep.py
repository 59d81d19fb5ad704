"""What is in a shared store, and what of it goes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lorapipe.store.paths import StorePaths
from lorapipe.store.places import Places
from lorapipe.store.shared.bucket import Bucket, Trouble, open_bucket
from lorapipe.store.shared.catalog import Catalog
from lorapipe.store.shared.upkeep import Holdings, SharedFreed, clear, holdings
from lorapipe.store.store import Store, open_store

NOW = 1_800_000_000 * 10**9
DAY = 86_400


@pytest.fixture
def server(tmp_path: Path) -> Path:
    (tmp_path / "server").mkdir()
    return tmp_path / "server"


@pytest.fixture
def store(server: Path, tmp_path: Path) -> Store:
    return open_store(Places(tmp_path / "store", f"file://{server}"))


@pytest.fixture
def bucket(server: Path) -> Bucket:
    return open_bucket(f"file://{server}")


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def give(store: Store, server: Path, name: str, data: bytes, days: float) -> None:
    """A result of key ``name`` that was given so many days before ``NOW``, and an alias to it."""
    entry = store.entries.put(key(name), lambda file: file.write(data), name)
    before = set(server.rglob("*"))
    assert store.shared is not None
    store.shared.give(entry)
    store.link(key(name + " alias"), entry, name + " alias", alias=True)
    store.shared.finish()
    for path in set(server.rglob("*")) - before:
        age(path, days)


def age(path: Path, days: float) -> None:
    at = NOW - int(days * DAY * 1e9)
    os.utime(path, ns=(at, at))


def cleared(bucket: Bucket, tmp_path: Path, **how: object) -> SharedFreed:
    catalog = Catalog(bucket, StorePaths(tmp_path / "looking"))
    return clear(bucket, catalog, now_ns=NOW, **how)  # type: ignore[arg-type]


def names(server: Path) -> set[str]:
    """The contents of the blobs that are left."""
    return {path.read_text() for path in (server / "blobs").rglob("*") if path.is_file()}


def test_results_and_their_bytes_are_counted_by_a_listing(store: Store, server: Path, bucket: Bucket) -> None:
    assert holdings(bucket) == Holdings(0, 0)
    give(store, server, "a", b"a" * 10, 5)
    give(store, server, "b", b"b" * 20, 5)
    (server / "blobs" / "notes.txt").write_text("somebody's")
    assert holdings(bucket) == Holdings(2, 30)


def test_what_is_older_goes_with_all_that_leads_to_it(
    store: Store, server: Path, bucket: Bucket, tmp_path: Path
) -> None:
    give(store, server, "old", b"old", 40)
    give(store, server, "new", b"new", 20)
    freed = cleared(bucket, tmp_path, older_s=30 * DAY)

    assert [kept.key for kept in freed.results] == [key("old")]
    assert (freed.size, freed.left) == (3, 3)
    assert names(server) == {"new"}
    assert {path.stem for path in server.rglob("manifests/*/*.json")} == {key("new"), key("new alias")}


def test_beyond_a_size_the_oldest_go(store: Store, server: Path, bucket: Bucket, tmp_path: Path) -> None:
    for number, name in enumerate(("one", "two", "six")):
        give(store, server, name, name.encode(), 40 - number)
    assert [kept.key for kept in cleared(bucket, tmp_path, most=6).results] == [key("one")]
    assert names(server) == {"two", "six"}


def test_what_is_younger_than_a_day_stays_whatever_is_asked_for(
    store: Store, server: Path, bucket: Bucket, tmp_path: Path
) -> None:
    give(store, server, "young", b"young", 0.9)
    freed = cleared(bucket, tmp_path, most=0, older_s=1)
    assert freed.results == ()
    assert names(server) == {"young"}


def test_an_old_blob_that_got_a_key_today_stays(
    store: Store, server: Path, bucket: Bucket, tmp_path: Path
) -> None:
    give(store, server, "old", b"same", 40)
    give(store, server, "new", b"same", 0.1)
    assert cleared(bucket, tmp_path, older_s=30 * DAY).results == ()
    assert names(server) == {"same"}


def test_old_objects_of_no_result_go_and_young_ones_stay(
    store: Store, server: Path, bucket: Bucket, tmp_path: Path
) -> None:
    give(store, server, "a", b"a", 5)
    for days, digit in ((2, "1"), (0.5, "2")):
        for name in (
            f"blobs/{digit * 2}/{digit * 64}",
            f"tokens/{digit * 32}",
            f"manifests/{digit * 2}/{digit * 64}.json",
        ):
            bucket.write(name, b"x")
            age(server / name, days)
        killed = f"blobs/{digit * 2}/.lorapipe-1-{digit * 16}.tmp"
        bucket.write(killed, b"x")
        age(server / killed, days)
    freed = cleared(bucket, tmp_path, older_s=1000 * DAY)

    assert (freed.leftovers, freed.spare) == (4, 4)
    assert not any("1" * 16 in path.name for path in server.rglob("*"))
    assert sum("2" * 16 in path.name for path in server.rglob("*")) == 4
    assert "a" in names(server)


def test_other_peoples_files_are_left_alone(
    store: Store, server: Path, bucket: Bucket, tmp_path: Path
) -> None:
    give(store, server, "a", b"a", 5)
    for name in ("README", "blobs/README", "manifests/aa/x.json"):
        bucket.write(name, b"x")
        age(server / name, 100)
    cleared(bucket, tmp_path, most=0)
    assert {path.name for path in server.rglob("*") if path.is_file()} == {
        "README",
        "x.json",
        "lorapipe-store.json",
    }


def test_a_dry_run_tells_the_same_and_removes_nothing(
    store: Store, server: Path, bucket: Bucket, tmp_path: Path
) -> None:
    give(store, server, "old", b"old", 40)
    before = sorted(server.rglob("*"))
    foretold = cleared(bucket, tmp_path, most=0, dry=True)

    assert sorted(server.rglob("*")) == before
    assert foretold == cleared(bucket, tmp_path, most=0)
    assert names(server) == set()


def test_a_store_of_a_newer_lorapipe_is_left_alone(
    store: Store, server: Path, bucket: Bucket, tmp_path: Path
) -> None:
    give(store, server, "old", b"old", 40)
    (server / "lorapipe-store.json").write_text('{"lorapipe-store": 2}')
    with pytest.raises(Trouble, match="a newer lorapipe made it"):
        cleared(bucket, tmp_path, most=0)
    assert names(server) == {"old"}


def test_what_is_no_store_is_left_alone(server: Path, bucket: Bucket, tmp_path: Path) -> None:
    name = f"blobs/aa/{'a' * 64}"
    bucket.write(name, b"x")
    age(server / name, 100)
    assert cleared(bucket, tmp_path, most=0) == SharedFreed((), 0, 0, 0)
    assert (server / name).exists()
