"""The names in a shared store, which are those of the local one, and its version.

    lorapipe-store.json       that it is one, and of which version
    blobs/<aa>/<sha256>       results, named by their content
    manifests/<aa>/<key>.json which result a key has, and what the key was made of
    tokens/<16 bytes>         what tells machines that they mean the same store

Objects are never changed, but for one that was damaged. A manifest comes after its blob.
"""

from __future__ import annotations

import json
import re

from lorapipe.store.digest import is_sha256

__all__ = [
    "BLOBS",
    "MANIFESTS",
    "MARKER",
    "MARKER_TEXT",
    "TOKENS",
    "VERSION",
    "blob_name",
    "is_ours",
    "key_of",
    "manifest_name",
    "sha256_of",
    "token_name",
    "version_of",
]

VERSION = 1
BLOBS, MANIFESTS, TOKENS = "blobs", "manifests", "tokens"

MARKER = "lorapipe-store.json"
MARKER_TEXT = f'{{"lorapipe-store": {VERSION}}}\n'.encode()

_WRITING = re.compile(r"\.lorapipe-[0-9]+-[0-9a-f]{16}\.tmp")
_TOKEN = re.compile(r"[0-9a-f]{32}")


def blob_name(sha256: str) -> str:
    """Where a result lies; ``ValueError`` for what is no sha256."""
    return f"{BLOBS}/{sha256[:2]}/{_checked(sha256)}"


def manifest_name(key: str) -> str:
    """Where the manifest of a key lies; ``ValueError`` for what is no key."""
    return f"{MANIFESTS}/{key[:2]}/{_checked(key)}.json"


def token_name(digits: str) -> str:
    """Where a token lies; ``ValueError`` for what names none."""
    if _TOKEN.fullmatch(digits) is None:
        raise ValueError(f"not 32 hexadecimal digits: {digits!r}")
    return f"{TOKENS}/{digits}"


def sha256_of(name: str) -> str | None:
    """The sha256 whose blob has a name; ``None`` if it is that of something else."""
    sha256 = name.rpartition("/")[2]
    return sha256 if is_sha256(sha256) and name == blob_name(sha256) else None


def key_of(name: str) -> str | None:
    """The key whose manifest has a name; ``None`` if it is that of something else."""
    key = name.rpartition("/")[2].removesuffix(".json")
    return key if is_sha256(key) and name == manifest_name(key) else None


def is_ours(name: str) -> bool:
    """Whether a name is one that lorapipe gives, also to what it is just writing to a folder."""
    above, _, last = name.rpartition("/")
    token = above == TOKENS and _TOKEN.fullmatch(last) is not None
    return (
        token
        or sha256_of(name) is not None
        or key_of(name) is not None
        or _WRITING.fullmatch(last) is not None
    )


def version_of(marker: bytes) -> int | None:
    """The version that a marker tells; ``None`` if it is none."""
    try:
        found = json.loads(marker)["lorapipe-store"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return found if type(found) is int and found > 0 else None


def _checked(digest: str) -> str:
    # Keys come from manifests and locks: one with a slash in it must not become a name.
    if not is_sha256(digest):
        raise ValueError(f"not a sha256 in hexadecimal: {digest!r}")
    return digest
