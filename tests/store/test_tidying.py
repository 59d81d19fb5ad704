"""What serves nobody goes, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from lorapipe.store.store import Store, open_store
from lorapipe.store.tidying import Leftovers, tidy

Digest = Callable[[str], str]
NOTHING = Leftovers(0, 0, 0, 0, 0, 0, 0)
HOUR, DAY = 3600 * 10**9, 86400 * 10**9


def later(ns: int) -> int:
    return time.time_ns() + ns


def put(store: Store, key: str, data: bytes = b"data") -> Path:
    return store.entries.put(key, lambda file: [file.write(data), None][1], "p").path


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_a_store_in_order_keeps_all_it_has(store: Store, root: Path, digest: Digest) -> None:
    put(store, digest("a"))
    before = names(root)

    assert tidy(store, now_ns=later(HOUR * 2)) == NOTHING
    assert names(root) == before


def test_a_blob_that_no_key_leads_to_goes_when_it_is_an_hour_old(store: Store, digest: Digest) -> None:
    blob = put(store, digest("a"), b"12345")
    store.entries.drop(digest("a"))

    assert tidy(store).orphans == 0, "its manifest may be on the way"
    assert blob.exists()
    found = tidy(store, now_ns=later(2 * HOUR))

    assert (found.orphans, found.size) == (1, 5)
    assert not blob.exists()


def test_a_key_whose_blob_is_gone_or_whose_manifest_is_none_goes(store: Store, digest: Digest) -> None:
    put(store, digest("a"), b"a").unlink()
    put(store, digest("b"), b"b")
    store.paths.manifest(digest("b")).write_text("{")

    assert tidy(store).broken == 2
    assert list(store.entries.all()) == []
    assert not store.paths.manifest(digest("b")).exists()


def test_lock_files_of_no_result_go_unless_they_are_held(store: Store, root: Path, digest: Digest) -> None:
    put(store, digest("kept"))
    for name in ("kept", "idle", "held"):
        with store.entries.lock(digest(name)):
            pass
    with open_store(root) as other, other.entries.lock(digest("held")):
        tidy(store)
        assert {path.stem for path in store.paths.locks.iterdir()} == {digest("kept"), digest("held")}


def test_what_killed_builds_left_goes(store: Store, root: Path) -> None:
    store.paths.create()
    (root / "temp" / ".lorapipe-999999999-0123456789abcdef.tmp").write_bytes(b"half")
    (root / "index.sqlite.damaged").write_bytes(b"moved aside")

    assert tidy(store).temporaries == 1
    assert not {name for name in names(root) if "damaged" in name or ".tmp" in name}


def test_records_of_outputs_long_gone_go_and_others_stay(
    store: Store, tmp_path: Path, digest: Digest
) -> None:
    here, gone = tmp_path / "here", tmp_path / "gone"
    here.write_bytes(b"")
    for path in (here, gone):
        store.journal.record(path, digest("x"), digest("k"))

    assert tidy(store, now_ns=later(89 * DAY)).outputs == 0, "a disk may be unplugged"
    assert tidy(store, now_ns=later(91 * DAY)).outputs == 1
    assert store.journal.last(gone) == ()
    assert len(store.journal.last(here)) == 1


def test_digests_of_files_that_are_gone_or_changed_go_and_others_stay(store: Store, tmp_path: Path) -> None:
    same, changed, gone = (tmp_path / name for name in ("same", "changed", "gone"))
    for path in (same, changed, gone):
        path.write_bytes(b"1")
        os.utime(path, ns=(10**18, 10**18))
    time.sleep(0.06)
    for path in (same, changed, gone):
        store.memo.hash(path)
        assert store.memo.lookup(path) is not None
    changed.write_bytes(b"2")
    gone.unlink()

    assert tidy(store).digests == 2
    assert store.memo.lookup(same) is not None
    assert len(store.database.query("SELECT * FROM memo")) == 1


def test_counting_removes_nothing(store: Store, root: Path, digest: Digest) -> None:
    put(store, digest("a"), b"a").unlink()
    put(store, digest("b"), b"b")
    store.entries.drop(digest("b"))
    with store.entries.lock(digest("idle")):
        pass
    store.close()
    before = names(root)

    with open_store(root, looking=True) as looking:
        found = tidy(looking, only_count=True, now_ns=later(2 * HOUR))

    assert (found.orphans, found.broken, found.locks) == (1, 1, 1)
    assert names(root) == before
