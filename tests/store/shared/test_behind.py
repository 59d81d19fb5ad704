"""A store with a shared one behind it, result by result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorapipe.store.manifest import Entry
from lorapipe.store.places import Places
from lorapipe.store.shared.behind import Behind
from lorapipe.store.shared.folder import FolderBucket
from lorapipe.store.store import Store, open_store


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> Path:
    (tmp_path / "server").mkdir()
    return tmp_path / "server"


@pytest.fixture
def ours(server: Path, tmp_path: Path) -> Iterator[Store]:
    with open_store(Places(tmp_path / "ours", f"file://{server}")) as store:
        yield store


@pytest.fixture
def theirs(server: Path, tmp_path: Path) -> Iterator[Store]:
    with open_store(Places(tmp_path / "theirs", f"file://{server}")) as store:
        yield store


def behind(store: Store) -> Behind:
    assert store.shared is not None
    return store.shared


def put(store: Store, name: str, data: bytes) -> Entry:
    return store.entries.put(key(name), lambda file: file.write(data), name, notes={"n": 1}, lineage="l")


def give(store: Store, name: str, data: bytes) -> Entry:
    entry = store.settle(put(store, name, data))
    behind(store).finish()
    return entry


def test_what_is_given_is_looked_up_with_its_size_and_fetched_as_it_was(ours: Store, theirs: Store) -> None:
    entry = give(theirs, "a", b"result")

    assert behind(ours).look([key("a"), key("b")]) == {key("a"): 6}
    found = ours.find(key("a"))
    assert found is not None
    assert found.path.read_bytes() == b"result"
    assert (found.notes, found.lineage, found.preimage) == (entry.notes, entry.lineage, entry.preimage)
    assert ours.entries.get(key("a")) == found


def test_while_looking_nothing_is_fetched(theirs: Store, server: Path, tmp_path: Path) -> None:
    give(theirs, "a", b"result")
    with open_store(Places(tmp_path / "looking", f"file://{server}"), looking=True) as store:
        assert behind(store).look([key("a")]) == {key("a"): 6}
        assert store.find(key("a")) is None
    assert not (tmp_path / "looking").exists()


def test_bytes_are_told_while_they_come(ours: Store, theirs: Store) -> None:
    give(theirs, "a", bytes(9_000_000))
    told: list[tuple[int, int]] = []
    ours.find(key("a"), lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert len(told) > 1
    assert told[-1] == (9_000_000, 9_000_000)


def test_a_blob_that_is_here_under_another_key_is_not_fetched_again(
    ours: Store, theirs: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(theirs, "a", b"same")
    put(ours, "b", b"same")
    monkeypatch.setattr(FolderBucket, "chunks", lambda *args: pytest.fail("it was fetched"))
    found = ours.find(key("a"))
    assert found is not None
    assert found.path.read_bytes() == b"same"


def test_what_is_in_the_local_store_is_not_asked_for(
    ours: Store, theirs: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(theirs, "a", b"theirs")
    put(ours, "a", b"ours")
    monkeypatch.setattr(FolderBucket, "read", lambda *args: pytest.fail("it was asked"))
    found = ours.find(key("a"))
    assert found is not None
    assert found.path.read_bytes() == b"ours"


def test_of_two_results_of_a_key_the_one_that_is_there_counts(ours: Store, theirs: Store) -> None:
    first = give(theirs, "a", b"first")
    second = give(ours, "a", b"second")

    assert second.sha256 == first.sha256
    found = ours.entries.get(key("a"))
    assert found is not None
    assert found.path.read_bytes() == b"first"
    assert behind(ours).troubles == ()


def test_who_was_overtaken_on_the_way_keeps_its_own_until_the_end_and_then_takes_theirs(
    ours: Store, theirs: Store
) -> None:
    entry = put(ours, "a", b"second")
    give(theirs, "a", b"first")
    behind(ours).give(entry)  # without asking first
    behind(ours).finish()

    said = "was given other results meanwhile, which the next build takes"
    assert behind(ours).troubles == (f"the shared store {behind(ours).url} {said}: {key('a')[:12]}",)
    found = ours.find(key("a"))
    assert found is not None
    assert found.path.read_bytes() == b"first"


def test_a_second_key_leads_to_the_same_blob_there_too(ours: Store, theirs: Store, server: Path) -> None:
    entry = give(theirs, "a", b"result")
    theirs.link(key("b"), entry, "b", alias=True)
    behind(theirs).finish()

    found = ours.find(key("b"))
    assert found is not None
    assert (found.sha256, found.of) == (entry.sha256, key("a"))
    assert len([path for path in (server / "blobs").rglob("*") if path.is_file()]) == 1


def test_what_is_disowned_is_not_taken_again_and_is_replaced_by_what_is_built(
    ours: Store, theirs: Store, server: Path
) -> None:
    give(theirs, "a", b"no result of its step")
    assert ours.find(key("a")) is not None
    ours.disown(key("a"))
    assert ours.find(key("a")) is None
    assert behind(ours).look([key("a")]) == {}

    give(ours, "a", b"right")
    manifest = json.loads((server / "manifests" / key("a")[:2] / f"{key('a')}.json").read_text())
    assert manifest["sha256"] == hashlib.sha256(b"right").hexdigest()


def test_many_damaged_results_are_one_sentence(ours: Store, theirs: Store, server: Path) -> None:
    for name in "abcde":
        give(theirs, name, name.encode())
    for path in (server / "blobs").rglob("*"):
        if path.is_file():
            path.write_bytes(b"?")
    assert [ours.find(key(name)) for name in "abcde"] == [None] * 5
    (told,) = behind(ours).troubles
    assert told.endswith(
        f"has damaged results, which are built here: {', '.join(key(n)[:12] for n in 'abc')} and 2 more"
    )


def test_a_result_whose_manifest_would_be_too_large_is_not_given(
    ours: Store, theirs: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorapipe.store.shared.catalog._MOST", 100)
    give(theirs, "a", b"result")
    assert ours.find(key("a")) is None
    assert behind(ours).troubles == behind(theirs).troubles == ()


def test_a_local_result_that_was_evicted_meanwhile_costs_a_warning(ours: Store) -> None:
    entry = put(ours, "a", b"result")
    entry.path.unlink()
    behind(ours).give(entry)
    behind(ours).finish()

    assert not behind(ours).whole
    assert behind(ours).troubles == (
        f"the shared store {behind(ours).url} was not given all results: No such file or directory",
    )


def test_keys_are_asked_for_in_batches(ours: Store, theirs: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorapipe.store.shared.catalog._BATCH", 2)
    for name in "abcde":
        give(theirs, name, name.encode())
    assert behind(ours).look([key(name) for name in "abcdefg"]) == {key(name): 1 for name in "abcde"}
