"""What is known of a file elsewhere without reading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from lorapipe.remote.calls import called
from lorapipe.remote.url import Url

__all__ = ["RemoteState", "Version", "etag_of", "state"]


@dataclass(frozen=True, slots=True)
class RemoteState:
    """A file's ``size`` in bytes, and by what it is known again.

    ``etag`` changes whenever the bytes do; None where a server gives nothing that does (a weak ETag
    may stand for other bytes). ``revision`` is what names these bytes for good: a commit of the Hub,
    a version of S3, a generation of Google's. ``sha256`` is there where the server keeps that of the
    whole file: LFS does, S3 if it was uploaded with it.
    """

    size: int
    etag: str | None = None
    revision: str | None = None
    sha256: str | None = None

    def same_as(self, other: RemoteState) -> bool:
        """Whether both are of the same bytes, as far as the server tells."""
        return (self.size, self.etag) == (other.size, other.etag)


@dataclass(frozen=True, slots=True)
class Version:
    """A file elsewhere in the state in which it was seen: what a digest is a digest of."""

    url: Url
    state: RemoteState


def etag_of(states: Mapping[str, RemoteState]) -> str | None:
    """What changes when the bytes do: the ETag of a file (named ``""``), of a folder the digest of all.

    None where one has none.
    """
    if "" in states:
        return states[""].etag
    if not states or any(each.etag is None for each in states.values()):
        return None
    text = "\n".join(f"{each.etag} {name}" for name, each in sorted(states.items()))
    return sha256(text.encode()).hexdigest()


def state(url: Url) -> RemoteState:
    """Ask for the state of the file at ``url``: one request.

    Raises as :func:`~lorapipe.remote.filesystem.faults`, and ``remote-no-length``.
    """
    from lorapipe.remote.origins import origin_of

    origin = origin_of(url)
    return called(url, origin.state)
