"""A store opened: lazily, lightly, and an output's way through it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lorapipe.errors import BuildError
from lorapipe.store.contents import listing_digest, whole_digest
from lorapipe.store.digest import FileState
from lorapipe.store.places import VARIABLE
from lorapipe.store.store import Store, open_store

Digest = Callable[[str | bytes], str]


def test_opening_and_closing_makes_nothing(root: Path) -> None:
    with open_store(root), open_store(root, looking=True):
        pass
    assert not root.parent.exists()


def test_without_a_root_it_is_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "named"))
    with open_store() as store:
        assert store.paths.root == tmp_path / "named"


@pytest.mark.parametrize("looking", [True, False])
def test_a_store_of_another_user_is_named(root: Path, monkeypatch: pytest.MonkeyPatch, looking: bool) -> None:
    root.mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: path != root)
    with pytest.raises(BuildError) as caught:
        open_store(root, looking=looking)
    assert caught.value.code == "store-unreadable"
    assert str(root) in caught.value.message
    assert VARIABLE in str(caught.value.hint)


def publish(
    store: Store, path: Path, data: bytes, key: str, replacing: str | None = None
) -> FileState | None:
    with store.stage(path) as staged:
        staged.file.write(data)
        return store.publish(staged, hashlib.sha256(data).hexdigest(), key, replacing=replacing)


def test_a_published_output_is_ours_and_memoised(root: Path, tmp_path: Path, digest: Digest) -> None:
    path = tmp_path / "out" / "f"
    with open_store(root) as store:
        state = publish(store, path, b"abc", digest("key"))
    assert path.read_bytes() == b"abc"
    assert state == FileState.of(path)
    with open_store(root, looking=True) as looking:
        assert looking.memo.lookup(path) == digest(b"abc")
        assert looking.journal.ours(path, digest(b"abc"))


def test_the_journal_has_it_before_the_name_does(root: Path, tmp_path: Path, digest: Digest) -> None:
    path = tmp_path / "f"
    seen: list[str] = []

    def hook(point: str) -> None:
        seen.append(point)
        if point in ("journal:recorded", "output:publish"):
            with open_store(root, looking=True) as looking:
                assert looking.journal.ours(path, digest(b"abc"))
            assert not path.exists()

    with open_store(root, hook=hook) as store:
        publish(store, path, b"abc", digest("key"))
    assert seen == [
        "output:created",
        "output:seal",
        "output:write",  # three bytes wait in the buffer until then
        "output:sealed",
        "journal:record",
        "journal:recorded",
        "output:publish",
        "output:renamed",
        "output:published",
    ]


def test_replacing_keeps_the_present_digest_on_the_books(
    store: Store, tmp_path: Path, digest: Digest
) -> None:
    path = tmp_path / "f"
    publish(store, path, b"one", digest("k1"))
    publish(store, path, b"two", digest("k2"), replacing=digest(b"one"))
    assert [record.sha256 for record in store.journal.last(path)] == [digest(b"two"), digest(b"one")]


def publish_folder(store: Store, path: Path, key: str, replacing: str | None = None, **files: bytes) -> str:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    with store.stage_folder(path) as staged:
        for name, data in files.items():
            staged.create(name).write(data)
        store.publish_folder(staged, digests, key, replacing=replacing)
    return listing_digest(digests)


def test_a_published_folder_is_ours_and_each_of_its_files_memoised(
    root: Path, tmp_path: Path, digest: Digest
) -> None:
    path = tmp_path / "out" / "m"
    with open_store(root) as store:
        whole = publish_folder(store, path, digest("key"), a=b"abc", b=b"")
    with open_store(root, looking=True) as looking:
        assert looking.memo.lookup(path / "a") == digest(b"abc")
        assert looking.memo.lookup(path / "b") == digest(b"")
        assert looking.journal.ours(path, whole)
        assert whole_digest(path, looking.memo.lookup) == whole


def test_the_journal_has_a_folder_before_the_name_does_and_both_while_it_is_replaced(
    root: Path, tmp_path: Path, digest: Digest
) -> None:
    path = tmp_path / "m"
    seen: list[str] = []
    with open_store(root, hook=seen.append) as store:
        old = publish_folder(store, path, digest("k1"), a=b"old")
        seen.clear()
        new = publish_folder(store, path, digest("k2"), old, a=b"new")
    assert [point for point in seen if not point.endswith("write")] == [
        *("folder:created", "folder:seal", "folder:sealed", "journal:record", "journal:recorded"),
        *("folder:publish", "folder:aside", "folder:renamed", "folder:published"),
    ]
    with open_store(root, looking=True) as looking:
        assert [record.sha256 for record in looking.journal.last(path)] == [new, old]


def test_a_store_that_cannot_take_the_record_is_found_out_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_bytes(b"")
    with open_store(tmp_path / "in-the-way") as broken, pytest.raises(BuildError) as caught:
        broken.stage(tmp_path / "out" / "f")
    assert caught.value.code == "store-unwritable"
    assert not (tmp_path / "out").exists()


def test_a_store_opened_for_looking_refuses_each_write(root: Path, tmp_path: Path, digest: Digest) -> None:
    with open_store(root, looking=True) as looking:
        for write in (
            lambda: looking.entries.put(digest("k"), lambda file: None, "p"),
            lambda: looking.entries.lock(digest("k")).__enter__(),
            lambda: looking.stage(tmp_path / "f"),
            lambda: looking.stage_folder(tmp_path / "m"),
            lambda: looking.journal.record(tmp_path / "f", digest("a"), digest("k")),
        ):
            with pytest.raises(BuildError) as caught:
                write()
            assert caught.value.code == "store-unwritable"
    assert not root.parent.exists()


@pytest.fixture
def commons() -> Iterator[Path]:
    """A folder that other users can reach: pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)  # noqa: S607  # a fixture's clean-up


AS_READER = """
import os, sys, pathlib, urllib.parse
from lorapipe.errors import BuildError
from lorapipe.store.store import open_store
if os.getuid() == 0:  # whom no mode stops; by now all is imported that a stranger may not read
    os.setgid(65534)
    os.setuid(65534)
root, file, key, sha = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4]
for looking in (False, True):
    with open_store(root, looking=looking) as store:
        assert not os.access(root, os.W_OK), "not read-only"
        assert store.entries.peek(key).sha256 == sha
        assert store.entries.get(key).sha256 == sha
        assert store.memo.hash(file).sha256 == sha
        assert store.memo.lookup(file) == sha
        assert store.journal.ours(file, sha)
        try:
            store.entries.put(key, lambda f: None, "p")
        except BuildError as error:
            assert error.code == "store-unwritable", error
        else:
            raise AssertionError("it wrote")
print("read")
"""


def test_a_read_only_store_can_be_read(commons: Path, digest: Digest) -> None:
    root = commons / "store"
    root.mkdir()
    with open_store(root) as store:
        publish(store, commons / "f", b"abc", digest("k"))
        store.entries.put(digest("k"), lambda file: file.write(b"abc") and None, "p")
    subprocess.run(["chmod", "-R", "a-w", str(root)], check=True)  # noqa: S607  # as a user would
    before = sorted(path.name for path in root.rglob("*"))
    argv = [sys.executable, "-c", AS_READER, str(root), str(commons / "f"), digest("k"), digest(b"abc")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout == "read\n", done.stderr
    assert sorted(path.name for path in root.rglob("*")) == before


def test_importing_the_store_is_light() -> None:
    heavy = [
        "torch",
        "numpy",
        "networkx",
        "filelock",
        "platformdirs",
        "jsonschema",
        "click",
        "rich",
        "fsspec",
    ]
    code = (
        "import sys, lorapipe.store.store, lorapipe.store.lockfile\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
        "print(sorted({n.split('.')[1] for n in sys.modules if n.startswith('lorapipe.')}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['errors', 'remote', 'store', 'version']"]
