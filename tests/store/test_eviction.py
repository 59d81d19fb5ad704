"""The store keeps to its size: the longest unused goes first, what is pinned or in use stays."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.store.eviction import Kept, evict, kept_results, surplus
from lorapipe.store.store import Store, open_store

Digest = Callable[[str], str]


def put(store: Store, key: str, data: bytes) -> None:
    store.entries.put(key, lambda file: _write(file, data), "p")


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def kept(name: str, size: int, used: int, pinned: bool = False) -> Kept:
    return Kept(name, size, used, pinned, ())


def names(results: Sequence[Kept]) -> list[str]:
    return [each.sha256 for each in results]


# --- which -----------------------------------------------------------------------------


def test_nothing_goes_while_all_of_it_fits() -> None:
    assert surplus([kept("a", 5, 1), kept("b", 5, 2)], most=10) == ()


def test_the_longest_unused_go_until_the_rest_fits() -> None:
    results = [kept("c", 4, 3), kept("a", 4, 1), kept("b", 4, 2)]

    assert names(surplus(results, most=8)) == ["a"]
    assert names(surplus(results, most=7)) == ["a", "b"]
    assert names(surplus(results, most=0)) == ["a", "b", "c"]


def test_what_is_pinned_or_spared_stays_even_if_it_is_too_much() -> None:
    results = [kept("a", 4, 1, pinned=True), kept("b", 4, 2), kept("c", 4, 3)]

    assert names(surplus(results, most=0, spare={"c"})) == ["b"]


def test_what_was_not_used_for_long_goes_whatever_the_size() -> None:
    results = [kept("a", 1, 10), kept("b", 1, 20), kept("c", 1, 5, pinned=True)]

    assert names(surplus(results, most=None, unused_since=20)) == ["a"]


results_of = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9), st.booleans()), max_size=12).map(
    lambda rows: [kept(str(n), size, used, pinned) for n, (size, used, pinned) in enumerate(rows)]
)


@given(results_of, st.integers(0, 200))
def test_what_stays_fits_or_may_not_go_and_nothing_goes_for_nothing(results: list[Kept], most: int) -> None:
    going = surplus(results, most=most)
    left = [each for each in results if each not in going]

    assert sum(each.size for each in left) <= most or all(each.pinned for each in left)
    if going:  # without the last of them it would not have fitted
        assert sum(each.size for each in left) + going[-1].size > most
    oldest = max((each.used_ns for each in going), default=0)
    assert all(each.pinned or each.used_ns >= oldest for each in left)


# --- what is there ---------------------------------------------------------------------


def test_results_are_told_the_last_used_first(store: Store, digest: Digest) -> None:
    for name in "abc":
        put(store, digest(name), name.encode())
    store.entries.get(digest("a"))

    assert [each.key for each in kept_results(store)] == [digest("a"), digest("c"), digest("b")]


def test_keys_of_one_blob_are_one_result_used_when_the_last_of_them_was(store: Store, digest: Digest) -> None:
    put(store, digest("1"), b"same")
    put(store, digest("2"), b"other")
    put(store, digest("3"), b"same")

    found = kept_results(store)

    assert [sorted(e.key for e in each.entries) for each in found] == [
        sorted([digest("1"), digest("3")]),
        [digest("2")],
    ]


def test_without_the_database_results_are_as_old_as_their_manifests(
    store: Store, root: Path, digest: Digest
) -> None:
    import os

    for at, name in enumerate("ab"):
        put(store, digest(name), name.encode())
        os.utime(store.paths.manifest(digest(name)), ns=(at, 1000 - at))
    store.close()
    (root / "index.sqlite").unlink()

    with open_store(root) as again:
        assert [(each.key, each.used_ns) for each in kept_results(again)] == [
            (digest("a"), 1000),
            (digest("b"), 999),
        ]


def test_looking_at_what_is_there_writes_nothing(store: Store, root: Path, digest: Digest) -> None:
    put(store, digest("a"), b"a")
    store.close()
    before = sorted((str(p), p.stat().st_mtime_ns) for p in root.rglob("*"))

    with open_store(root, looking=True) as looking:
        assert len(kept_results(looking)) == 1

    assert sorted((str(p), p.stat().st_mtime_ns) for p in root.rglob("*")) == before


# --- going -----------------------------------------------------------------------------


def test_a_result_goes_with_all_keys_and_what_belongs_to_them(
    store: Store, root: Path, digest: Digest
) -> None:
    put(store, digest("1"), b"same")
    entry = store.entries.peek(digest("1"))
    assert entry is not None
    store.entries.link(digest("2"), entry, "p", alias=True)
    put(store, digest("3"), b"other")
    with store.entries.lock(digest("1")):
        pass

    (victim,) = [each for each in kept_results(store) if each.sha256 == entry.sha256]
    assert evict(store, victim)

    assert not entry.path.exists()
    assert [each.key for each in store.entries.all()] == [digest("3")]
    assert store.database.query("SELECT key FROM entries") == [(digest("3"),)]
    assert not store.paths.lock(digest("1")).exists()


def test_a_result_whose_key_another_is_at_work_on_stays(store: Store, root: Path, digest: Digest) -> None:
    put(store, digest("a"), b"a")
    (victim,) = kept_results(store)
    held, done = threading.Event(), threading.Event()

    def work() -> None:
        with open_store(root) as other, other.entries.lock(digest("a")):
            held.set()
            done.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    assert held.wait(10)
    try:
        assert not evict(store, victim)
    finally:
        done.set()
        thread.join()
    assert store.entries.get(digest("a")) is not None
    assert evict(store, victim) is False, "it was used since"
    assert evict(store, kept_results(store)[0])


def test_who_has_a_result_open_reads_on_after_it_went(store: Store, digest: Digest) -> None:
    put(store, digest("a"), b"data")
    (victim,) = kept_results(store)
    with store.paths.blob(victim.sha256).open("rb") as reader:
        assert evict(store, victim)
        assert reader.read() == b"data"


def test_a_lock_that_another_process_holds_is_not_taken(store: Store, root: Path, digest: Digest) -> None:
    put(store, digest("a"), b"a")
    script = (
        "import sys; from pathlib import Path; from lorapipe.store.store import open_store\n"
        "with open_store(Path(sys.argv[1])) as s, s.entries.lock(sys.argv[2]):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", script, str(root), digest("a")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        assert not evict(store, kept_results(store)[0])
        holder.stdin.close()
        holder.wait(10)
    assert evict(store, kept_results(store)[0])


@pytest.mark.parametrize("alias", [True, False])
def test_a_second_key_leads_to_the_same_result(store: Store, digest: Digest, alias: bool) -> None:
    put(store, digest("1"), b"data")
    one = store.entries.get(digest("1"))
    assert one is not None

    two = store.entries.link(digest("2"), one, "another preimage", lineage="tale", alias=alias)

    assert two == store.entries.get(digest("2"))
    assert (two.path, two.preimage, two.lineage) == (one.path, "another preimage", "tale")
    assert two.of == (digest("1") if alias else None)


def test_what_was_used_is_known_while_the_store_is_open(store: Store, root: Path, digest: Digest) -> None:
    put(store, digest("1"), b"one")
    put(store, digest("2"), b"two")
    with open_store(root) as other:
        assert other.entries.in_use == frozenset()
        entry = other.entries.get(digest("2"))
        assert entry is not None
        assert other.entries.in_use == {entry.sha256}
