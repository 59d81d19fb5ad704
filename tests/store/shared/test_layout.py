"""Names in a shared store: those of the local one, and read back strictly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.store.paths import StorePaths
from lorapipe.store.shared.layout import (
    MARKER_TEXT,
    VERSION,
    blob_name,
    is_ours,
    key_of,
    manifest_name,
    sha256_of,
    token_name,
    version_of,
)

DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(DIGESTS)
def test_names_are_those_of_the_local_store_and_are_read_back(digest: str) -> None:
    paths = StorePaths(Path("/store"))
    assert Path("/store") / blob_name(digest) == paths.blob(digest)
    assert Path("/store") / manifest_name(digest) == paths.manifest(digest)
    assert sha256_of(blob_name(digest)) == key_of(manifest_name(digest)) == digest
    assert sha256_of(manifest_name(digest)) is key_of(blob_name(digest)) is None


@given(st.text() | st.sampled_from(["../x", "a" * 63, "A" * 64, f"{'a' * 64}/", f"../{'a' * 61}"]))
def test_what_is_no_digest_becomes_no_name(text: str) -> None:
    for name in (blob_name, manifest_name, token_name):
        with pytest.raises(ValueError, match="not "):
            name(text)


@pytest.mark.parametrize(
    "name",
    [
        f"blobs/aa/{'b' * 64}",
        f"blobs/{'a' * 64}",
        f"other/aa/{'a' * 64}",
        f"blobs/aa/{'a' * 64}.json",
        f"manifests/aa/{'a' * 64}",
        "blobs/aa/README",
        "tokens/README",
        "",
    ],
)
def test_a_name_in_another_place_is_nobodys(name: str) -> None:
    assert sha256_of(name) is key_of(name) is None
    assert not is_ours(name)


def test_what_is_being_written_is_ours() -> None:
    assert is_ours("blobs/aa/.lorapipe-12-0123456789abcdef.tmp")
    assert is_ours(token_name("0" * 32))


def test_the_marker_tells_the_version() -> None:
    assert version_of(MARKER_TEXT) == VERSION == 1


@given(
    st.binary()
    | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_what_is_no_marker_tells_none(data: bytes) -> None:
    assert version_of(data) is None


@pytest.mark.parametrize("value", ["1", 1.0, True, 0, -1, None, [1]])
def test_a_version_is_a_whole_number_from_one(value: object) -> None:
    assert version_of(json.dumps({"lorapipe-store": value}).encode()) is None
