"""A pin is kept as a file, so that a lost database loses none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lorapipe.errors import BuildError
from lorapipe.store.eviction import kept_results, surplus
from lorapipe.store.store import Store, open_store

Digest = Callable[[str], str]


def test_pins_are_added_and_removed_once(store: Store, digest: Digest) -> None:
    key = digest("a")
    assert store.pins.keys() == frozenset()
    assert [store.pins.add(key), store.pins.add(key)] == [True, False]
    assert store.pins.keys() == {key}
    assert [store.pins.remove(key), store.pins.remove(key)] == [True, False]
    assert store.pins.keys() == frozenset()


def test_a_pinned_result_outlives_the_database_and_any_size(store: Store, root: Path, digest: Digest) -> None:
    for name in "ab":
        store.entries.put(digest(name), lambda file, name=name: [file.write(name.encode()), None][1], "p")  # type: ignore[misc]
    store.pins.add(digest("a"))
    store.close()
    (root / "index.sqlite").write_bytes(b"broken")

    with open_store(root) as again:
        assert [kept.key for kept in surplus(kept_results(again), most=0)] == [digest("b")]


def test_an_alias_of_a_pinned_key_is_of_the_same_result(store: Store, digest: Digest) -> None:
    entry = store.entries.put(digest("a"), lambda file: [file.write(b"a"), None][1], "p")
    store.entries.link(digest("content"), entry, "p", alias=True)
    store.pins.add(digest("a"))

    (kept,) = kept_results(store)
    assert kept.pinned
    assert kept.key == digest("a")


def test_what_is_no_key_is_no_pin(store: Store, root: Path, digest: Digest) -> None:
    store.pins.add(digest("a"))
    (root / "pins" / "README").write_text("mine")

    assert store.pins.keys() == {digest("a")}
    with pytest.raises(ValueError, match="not a sha256"):
        store.pins.add("../../x")


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path, digest: Digest) -> None:
    (tmp_path / "in-the-way").write_bytes(b"")
    with open_store(tmp_path / "in-the-way" / "store") as broken, pytest.raises(BuildError) as caught:
        broken.pins.add(digest("a"))
    assert caught.value.code == "store-unwritable"
