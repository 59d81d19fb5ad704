"""Which outputs are ours."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lorapipe.errors import BuildError
from lorapipe.remote.url import Url
from lorapipe.store.journal import KEPT, Record
from lorapipe.store.store import Store, open_store

Digest = Callable[[str], str]


def test_a_recorded_digest_is_ours_at_its_path_only(store: Store, tmp_path: Path, digest: Digest) -> None:
    path = tmp_path / "f"
    store.journal.record(path, digest("a"), digest("key"))
    assert store.journal.ours(path, digest("a"))
    assert not store.journal.ours(path, digest("edited since"))
    assert not store.journal.ours(tmp_path / "g", digest("a"))


def test_a_record_survives_a_loss_of_power(store: Store, tmp_path: Path, digest: Digest) -> None:
    """In sqlite's terms: the commit waits for the disk (synchronous = FULL)."""
    store.journal.record(tmp_path / "f", digest("a"), digest("key"))
    assert store.database.query("PRAGMA synchronous") == [(2,)]


def test_nothing_is_ours_where_there_is_no_store(
    store: Store, tmp_path: Path, root: Path, digest: Digest
) -> None:
    assert not store.journal.ours(tmp_path / "f", digest("a"))
    assert store.journal.last(tmp_path / "f") == ()
    assert not root.exists()


def test_old_and_new_are_both_ours_between_record_and_rename(
    store: Store, tmp_path: Path, digest: Digest
) -> None:
    path = tmp_path / "f"
    store.journal.record(path, digest("old"), digest("k1"))
    store.journal.record(path, digest("new"), digest("k2"))
    assert store.journal.ours(path, digest("old"))
    assert store.journal.ours(path, digest("new"))
    assert store.journal.last(path) == (
        Record(digest("new"), digest("k2")),
        Record(digest("old"), digest("k1")),
    )


def test_recording_again_makes_it_the_latest_with_its_present_key(
    store: Store, tmp_path: Path, digest: Digest
) -> None:
    path = tmp_path / "f"
    for name, key in [("a", "k1"), ("b", "k2"), ("a", "k3")]:
        store.journal.record(path, digest(name), digest(key))
    assert store.journal.last(path) == (Record(digest("a"), digest("k3")), Record(digest("b"), digest("k2")))


def test_only_the_latest_are_kept_for_each_path(store: Store, tmp_path: Path, digest: Digest) -> None:
    store.journal.record(tmp_path / "other", digest("o"), digest("k"))
    for number in range(KEPT + 5):
        store.journal.record(tmp_path / "f", digest(str(number)), digest("k"))
    kept = [record.sha256 for record in store.journal.last(tmp_path / "f")]
    assert kept == [digest(str(number)) for number in reversed(range(5, KEPT + 5))]
    assert store.journal.ours(tmp_path / "other", digest("o"))


def test_the_file_there_now_stays_ours_however_often_a_build_dies(
    store: Store, tmp_path: Path, digest: Digest
) -> None:
    path = tmp_path / "f"
    store.journal.record(path, digest("present"), digest("k"))
    for number in range(3 * KEPT):
        store.journal.record(
            path, digest(f"never renamed {number}"), digest("k"), replacing=digest("present")
        )
    assert store.journal.ours(path, digest("present"))
    assert store.journal.last(path)[0].sha256 == digest(f"never renamed {3 * KEPT - 1}")


def test_replacing_a_file_that_is_not_ours_does_not_make_it_ours(
    store: Store, tmp_path: Path, digest: Digest
) -> None:
    store.journal.record(tmp_path / "f", digest("new"), digest("k"), replacing=digest("foreign"))
    assert not store.journal.ours(tmp_path / "f", digest("foreign"))


def test_a_folder_is_known_by_any_of_its_names(store: Store, tmp_path: Path, digest: Digest) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store.journal.record(tmp_path / "link" / "f", digest("a"), digest("k"))
    assert store.journal.ours(tmp_path / "real" / "f", digest("a"))
    assert store.journal.ours(tmp_path / "link" / ".." / "link" / "f", digest("a"))


def test_a_link_in_the_last_place_is_known_by_its_own_name(
    store: Store, tmp_path: Path, digest: Digest
) -> None:
    """The rename replaces it, so after the rename only its own name could be found."""
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "f").symlink_to(tmp_path / "target")
    store.journal.record(tmp_path / "f", digest("a"), digest("k"))
    (tmp_path / "f").unlink()
    assert store.journal.ours(tmp_path / "f", digest("a"))


def test_a_relative_path_is_that_of_the_working_folder(
    store: Store, tmp_path: Path, digest: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store.journal.record(Path("f"), digest("a"), digest("k"))
    assert store.journal.ours(tmp_path / "f", digest("a"))


def test_a_name_that_is_not_text_is_a_name(store: Store, tmp_path: Path, digest: Digest) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.safetensors")
    store.journal.record(path, digest("a"), digest("k"))
    assert store.journal.ours(path, digest("a"))


def test_another_process_sees_it(store: Store, root: Path, tmp_path: Path, digest: Digest) -> None:
    store.journal.record(tmp_path / "f", digest("a"), digest("k"))
    with open_store(root) as other, open_store(root, looking=True) as looking:
        assert other.journal.ours(tmp_path / "f", digest("a"))
        assert looking.journal.ours(tmp_path / "f", digest("a"))


def test_a_store_that_cannot_take_the_record_is_an_error(tmp_path: Path, digest: Digest) -> None:
    """Without the record, the output would be refused as foreign after a crash."""
    (tmp_path / "in-the-way").write_bytes(b"")
    with open_store(tmp_path / "in-the-way") as broken, pytest.raises(BuildError) as caught:
        broken.journal.record(tmp_path / "f", digest("a"), digest("k"))
    assert caught.value.code == "store-unwritable"


def test_an_object_is_known_by_its_url(store: Store, tmp_path: Path, digest: Digest) -> None:
    there = Url("s3", "bucket", "out/x.safetensors")
    store.journal.record(there, digest("a"), "key")
    assert store.journal.ours(there, digest("a"))
    assert store.journal.last(there)[0].key == "key"
    assert not store.journal.last(Url("gs", "bucket", "out/x.safetensors"))
    assert not store.journal.last(tmp_path / "out/x.safetensors")


def test_objects_below_a_folder_are_forgotten_with_it(store: Store, digest: Digest) -> None:
    folder = Url("s3", "bucket", "out/model/")
    for url in (folder, folder / "a", folder / "sub/b", Url("s3", "bucket", "out/models")):
        store.journal.record(url, digest("a"), "key")
    store.journal.forget(folder)
    assert not store.journal.last(folder / "a")
    assert not store.journal.last(folder / "sub/b")
    assert store.journal.last(Url("s3", "bucket", "out/models"))


def test_nobody_is_asked_whether_an_object_is_gone(store: Store, tmp_path: Path, digest: Digest) -> None:
    store.journal.record(Url("s3", "no-such-bucket", "x"), digest("a"), "key")
    store.journal.record(tmp_path / "gone", digest("a"), "key")
    assert store.journal.forget_gone(time.time_ns() + 1) == 1
    assert store.journal.last(Url("s3", "no-such-bucket", "x"))
