"""Results by content key: there wholly or not at all, verified on use, built once."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from lorapipe.errors import BuildError, Interrupted
from lorapipe.store.entries import Entry
from lorapipe.store.store import Store, open_store

Digest = Callable[[str], str]
DATA = b"a result" * 1000


def writing(data: bytes) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        half = len(data) // 2
        file.write(data[:half])
        file.write(data[half:])

    return write


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def key(digest: Digest) -> str:
    return digest("key")


def test_what_was_put_is_got(store: Store, key: str) -> None:
    put = store.entries.put(key, writing(DATA), "what the key was made of")
    assert put.sha256 == hashlib.sha256(DATA).hexdigest()
    assert put.size == len(DATA)
    assert put.path.read_bytes() == DATA
    assert store.entries.get(key) == store.entries.peek(key) == put


def test_notes_are_kept_beside_the_result_and_belong_to_the_key(store: Store, root: Path, key: str) -> None:
    other = key[::-1]
    notes = {"energy": {"a.weight": 0.1 + 0.2}, "ranks": {"a.weight": 3}}
    with_notes = store.entries.put(key, writing(DATA), "", notes=notes)
    without = store.entries.put(other, writing(DATA), "")
    assert with_notes.path == without.path
    assert [found.notes for found in map(store.entries.get, (key, other)) if found] == [notes, {}]
    manifests = {path.stem: json.loads(path.read_text()) for path in (root / "manifests").rglob("*.json")}
    assert manifests[key]["notes"] == notes
    assert "notes" not in manifests[other]


def test_a_key_never_put_is_a_miss_that_makes_nothing(store: Store, root: Path, key: str) -> None:
    assert store.entries.peek(key) is None
    assert not root.exists()


def test_a_key_that_is_no_digest_is_refused_before_the_work(store: Store, root: Path) -> None:
    with pytest.raises(ValueError, match="not a sha256"):
        store.entries.put("../../x", lambda file: pytest.fail("it began the work"), "")
    with pytest.raises(ValueError, match="not a sha256"):
        store.entries.get("../../x")
    assert not root.exists()


def test_the_layout_on_disk(store: Store, root: Path, key: str) -> None:
    entry = store.entries.put(key, writing(DATA), '{"kind":"shuffle"}')
    assert entry.path == root / "blobs" / entry.sha256[:2] / entry.sha256
    manifest = root / "manifests" / key[:2] / f"{key}.json"
    assert json.loads(manifest.read_text()) == {
        "version": 1,
        "key": key,
        "sha256": entry.sha256,
        "size": len(DATA),
        "preimage": '{"kind":"shuffle"}',
    }
    assert list((root / "temp").iterdir()) == []


def test_another_process_gets_it(store: Store, root: Path, key: str) -> None:
    put = store.entries.put(key, writing(DATA), "p")
    with open_store(root) as other, open_store(root, looking=True) as looking:
        assert other.entries.get(key) == put
        assert looking.entries.get(key) == put
        assert looking.entries.peek(key) == put


def test_equal_results_of_two_keys_share_a_blob(store: Store, root: Path, digest: Digest) -> None:
    one = store.entries.put(digest("1"), writing(DATA), "1")
    two = store.entries.put(digest("2"), writing(DATA), "2")
    assert one.path == two.path
    store.entries.drop(digest("1"))
    assert store.entries.get(digest("1")) is None
    assert store.entries.get(digest("2")) == two


def test_putting_again_replaces(store: Store, key: str) -> None:
    store.entries.put(key, writing(b"one"), "p")
    two = store.entries.put(key, writing(b"two"), "p")
    assert store.entries.get(key) == two


def test_entries_outlive_the_sqlite_file(store: Store, root: Path, key: str) -> None:
    put = store.entries.put(key, writing(DATA), "p")
    store.close()
    (root / "index.sqlite").write_bytes(b"garbage" * 100)
    with open_store(root) as again:
        assert again.entries.get(key) == put


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def flipped_with_mtime_set_back(path: Path) -> None:
    before = path.stat()
    flipped(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut_short(path: Path) -> None:
    os.truncate(path, 10)


@pytest.mark.parametrize("damage", [flipped, flipped_with_mtime_set_back, cut_short, Path.unlink])
@pytest.mark.parametrize("memoised", [True, False])
def test_a_damaged_or_vanished_blob_is_a_miss_and_is_built_again(
    root: Path, key: str, damage: Callable[[Path], None], memoised: bool
) -> None:
    with open_store(root) as store:
        entry = store.entries.put(key, writing(DATA), "p")
        if memoised:
            store.memo.settle()
            assert store.memo.lookup(entry.path) == entry.sha256
        time.sleep(0.02)
        damage(entry.path)
        assert store.entries.get(key) is None
        assert store.entries.peek(key) is None
        again, built = store.entries.obtain(key, writing(DATA), "p")
        assert built
        assert again == entry
        assert again.path.read_bytes() == DATA


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"version": 2}',
        '{"version": 1, "key": "KEY", "sha256": "../../../../etc/passwd", "size": 1, "preimage": ""}',
        '{"version": 1, "key": "other", "sha256": "SHA", "size": 8000, "preimage": ""}',
        '{"version": 1, "key": "KEY", "sha256": "SHA", "size": true, "preimage": ""}',
        '{"version": 1, "key": "KEY", "sha256": "SHA", "size": 8000, "preimage": 1}',
        '{"version": 1, "key": "KEY", "sha256": "SHA", "size": 8001, "preimage": ""}',
    ],
)
def test_a_damaged_manifest_is_a_miss(store: Store, root: Path, key: str, text: str) -> None:
    entry = store.entries.put(key, writing(DATA), "p")
    manifest = root / "manifests" / key[:2] / f"{key}.json"
    manifest.write_text(text.replace("KEY", key).replace("SHA", entry.sha256))
    assert store.entries.peek(key) is None
    assert store.entries.get(key) is None
    assert not manifest.exists()
    assert store.entries.put(key, writing(DATA), "p") == entry
    assert store.entries.get(key) == entry


def test_looking_drops_nothing(store: Store, root: Path, key: str) -> None:
    entry = store.entries.put(key, writing(DATA), "p")
    store.close()
    flipped(entry.path)
    before = files(root)
    with open_store(root, looking=True) as looking:
        assert looking.entries.get(key) is None
    assert files(root) == before


def test_peeking_reads_no_data(store: Store, key: str) -> None:
    """A plan takes the size's word; the blob is verified when it is used."""
    entry = store.entries.put(key, writing(DATA), "p")
    flipped(entry.path)
    assert store.entries.peek(key) == entry
    assert store.entries.get(key) is None


def test_the_second_use_of_a_blob_reads_nothing(store: Store, root: Path, key: str) -> None:
    entry = store.entries.put(key, writing(DATA), "p")
    store.memo.settle()
    entry.path.chmod(0o600)  # changes ctime: unknown again
    assert store.memo.lookup(entry.path) is None
    time.sleep(0.06)
    assert store.entries.get(key) == entry
    assert store.memo.lookup(entry.path) == entry.sha256


def test_use_is_noted_for_the_eviction(store: Store, digest: Digest) -> None:
    for name in "ab":
        store.entries.put(digest(name), writing(name.encode()), name)
    store.entries.get(digest("a"))
    rows = store.database.query("SELECT key, size FROM entries ORDER BY used_ns DESC")
    assert rows == [(digest("a"), 1), (digest("b"), 1)]


def test_a_dropped_entry_is_noted_no_more(store: Store, key: str) -> None:
    store.entries.put(key, writing(DATA), "p")
    store.entries.drop(key)
    assert store.database.query("SELECT * FROM entries") == []
    store.entries.drop(key)


def test_a_writer_that_fails_leaves_the_store_as_it_was(store: Store, root: Path, key: str) -> None:
    old = store.entries.put(key, writing(DATA), "p")
    before = files(root)

    def fail(file: BinaryIO) -> None:
        file.write(bytes(10**6))
        raise Interrupted("interrupted", "stop")

    with pytest.raises(Interrupted):
        store.entries.put(key, fail, "p")
    assert files(root) == before
    assert store.entries.get(key) == old


@pytest.mark.parametrize("point", ["blob:write", "blob:seal", "manifest:write"])
def test_a_full_disk_is_named_and_leaves_no_partial_entry(root: Path, key: str, point: str) -> None:
    def hook(at: str) -> None:
        if at == "blob:write" == point or at == "manifest:write" == point:
            raise OSError(errno.ENOSPC, "full")
        if at == "blob:seal" == point:
            raise BuildError("disk-full", "from elsewhere")

    with open_store(root, hook=hook) as store:
        with pytest.raises(BuildError) as caught:
            store.entries.put(key, writing(DATA), "p")
        assert caught.value.code == "disk-full"
        assert store.entries.get(key) is None
        assert list((root / "temp").iterdir()) == []
    with open_store(root) as store:
        assert store.entries.obtain(key, writing(DATA), "p")[1]


def test_a_disk_too_small_is_found_before_the_work(store: Store, key: str) -> None:
    with pytest.raises(BuildError) as caught:
        store.entries.put(key, lambda file: pytest.fail("it began the work"), "p", needed=10**18)
    assert caught.value.code == "disk-full"


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path, key: str) -> None:
    (tmp_path / "in-the-way").write_bytes(b"")
    with open_store(tmp_path / "in-the-way" / "store") as broken:
        assert broken.entries.get(key) is None
        for attempt in (
            lambda: broken.entries.put(key, writing(DATA), "p"),
            lambda: broken.entries.obtain(key, writing(DATA), "p"),
        ):
            with pytest.raises(BuildError) as caught:
                attempt()
            assert caught.value.code == "store-unwritable"
            assert caught.value.hint == "name another folder in LORAPIPE_STORE"


def test_a_folder_that_refuses_is_called_the_store(store: Store, root: Path, key: str) -> None:
    store.paths.create()
    (root / "blobs").write_bytes(b"in the way")
    with pytest.raises(BuildError) as caught:
        store.entries.put(key, writing(DATA), "p")
    assert caught.value.code == "store-unwritable"
    assert str(root) in caught.value.message
    assert list((root / "temp").iterdir()) == []


def test_obtain_builds_once(store: Store, key: str) -> None:
    first = store.entries.obtain(key, writing(DATA), "p")
    second = store.entries.obtain(key, lambda file: pytest.fail("built twice"), "p")
    assert (first[1], second[1]) == (True, False)
    assert first[0] == second[0]


def test_of_many_that_want_a_key_one_builds_and_the_others_wait(root: Path, key: str) -> None:
    built: list[int] = []
    results: list[tuple[Entry, bool]] = []

    def work(number: int) -> None:
        def write(file: BinaryIO) -> None:
            built.append(number)
            time.sleep(0.1)
            file.write(DATA)

        with open_store(root) as mine:
            results.append(mine.entries.obtain(key, write, "p"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert sorted(was_built for _, was_built in results) == [False, False, False, True]
    assert len({entry for entry, _ in results}) == 1


def test_other_keys_are_not_waited_for(store: Store, digest: Digest) -> None:
    with store.entries.lock(digest("1")), store.entries.lock(digest("2")):
        pass


def test_waiting_can_be_given_up(root: Path, key: str) -> None:
    asked: list[float] = []

    def give_up() -> None:
        asked.append(time.monotonic())
        if len(asked) > 2:
            raise Interrupted("interrupted", "stop")

    with open_store(root) as one, one.entries.lock(key):
        done: list[BaseException] = []

        def wait() -> None:
            try:
                with open_store(root) as two, two.entries.lock(key, checkpoint=give_up):
                    pytest.fail("two held one key")
            except Interrupted as error:
                done.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(10)
        assert len(done) == 1
    with open_store(root) as again, again.entries.lock(key):
        pass


def test_a_lock_is_free_after_an_error_under_it(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="mine"), store.entries.lock(key):
        raise ValueError("mine")
    with store.entries.lock(key):
        pass


def test_what_dead_processes_left_is_swept(store: Store, root: Path, key: str) -> None:
    store.paths.create()
    left = root / "temp" / ".lorapipe-999999999-0123456789abcdef.tmp"
    left.write_bytes(b"half")
    store.entries.put(key, writing(DATA), "p")
    assert not left.exists()
