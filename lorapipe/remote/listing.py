"""What lies in a folder elsewhere: all files below it, each with its state, by as few requests as can be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from lorapipe.errors import InputError
from lorapipe.remote.calls import called
from lorapipe.remote.filesystem import filesystem
from lorapipe.remote.state import RemoteState, state
from lorapipe.remote.url import Url

__all__ = ["MOST", "Listing", "at_revision", "fixed", "is_fixed", "listing", "states"]

MOST = 20_000
"""Files of a folder that are listed; a folder of one model has some dozens."""

_AT_ONCE = 16
"""Requests under way for the states of several files."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files below a folder by their names relative to it; ``url`` is where they stay the same.

    Web servers list nothing: ``known`` is False, and what is there has to be asked for by name.
    """

    url: Url
    files: Mapping[str, RemoteState]
    known: bool = True


def listing(url: Url) -> Listing:
    """The files below ``url``. Of the Hub at the commit that its revision means now.

    Raises as :func:`~lorapipe.remote.filesystem.faults`, and ``folder-too-large``, ``remote-missing``.
    """
    url = url.as_folder()
    if url.scheme in ("http", "https"):
        return Listing(url, MappingProxyType({}), known=False)
    if url.scheme == "hf":
        url = fixed(url)
    found = called(url, _collect, url)
    if not found:
        raise InputError("remote-missing", "there is no such folder", hint="check the URL", where=str(url))
    return Listing(url, MappingProxyType(dict(sorted(found.items()))))


def fixed(url: Url) -> Url:
    """A URL of the Hub at a commit; any other as it is. One request, none where it has one."""
    if url.scheme != "hf" or is_fixed(url):
        return url
    import asyncio

    from lorapipe.remote.origins.hub import Repository

    return at_revision(url, called(url, asyncio.to_thread, Repository(url).commit))


def is_fixed(url: Url) -> bool:
    """Whether what a URL names never changes: a repository of the Hub at a commit."""
    from lorapipe.remote.origins.hub import is_commit

    return url.scheme == "hf" and is_commit(url.root.partition("@")[2])


def at_revision(url: Url, revision: str | None) -> Url:
    """A URL of the Hub at a commit; any other, and without one, as it is."""
    if url.scheme != "hf" or revision is None:
        return url
    return replace(url, root=f"{url.root.partition('@')[0]}@{revision}")


def states(urls: Iterable[Url]) -> dict[Url, RemoteState | None]:
    """The states of several files, asked for at the same time; None for what is not there."""
    wanted = tuple(dict.fromkeys(urls))
    with ThreadPoolExecutor(_AT_ONCE, "states") as pool:
        return dict(zip(wanted, pool.map(_state, wanted), strict=True))


def _state(url: Url) -> RemoteState | None:
    try:
        return state(url)
    except InputError as error:
        if error.code != "remote-missing":
            raise
        return None


async def _collect(url: Url) -> dict[str, RemoteState]:
    found: dict[str, RemoteState] = {}
    async for name, each in _LISTED.get(url.scheme, _plain)(url):
        below = name[len(url.path) :]
        if below and not below.endswith("/"):  # a folder may have an empty object of its own
            found[below] = each
        if len(found) > MOST:
            raise InputError(
                "folder-too-large",
                f"is no folder of one model: it holds more than {MOST} files",
                hint="name the file of weights in it",
                where=str(url),
            )
    return found


async def _s3(url: Url) -> AsyncIterator[tuple[str, RemoteState]]:
    files: Any = filesystem(url)
    more: dict[str, str] = {}
    while True:
        page = await files._call_s3("list_objects_v2", Bucket=url.root, Prefix=url.path, **more)
        for each in page.get("Contents", ()):
            yield each["Key"], RemoteState(each["Size"], each.get("ETag"))
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


async def _google(url: Url) -> AsyncIterator[tuple[str, RemoteState]]:
    files: Any = filesystem(url)
    more: dict[str, str] = {}
    while True:
        page = await files._call("GET", "b/{}/o", url.root, prefix=url.path, json_out=True, **more)
        for each in page.get("items", ()):
            yield each["name"], RemoteState(int(each["size"]), each["generation"], each["generation"])
        if "nextPageToken" not in page:
            return
        more = {"pageToken": page["nextPageToken"]}


async def _hub(url: Url) -> AsyncIterator[tuple[str, RemoteState]]:
    import asyncio

    from lorapipe.remote.origins.hub import Repository

    repository = Repository(url)
    for each in await asyncio.to_thread(repository.tree, url.path.rstrip("/"), MOST):
        yield each


async def _plain(url: Url) -> AsyncIterator[tuple[str, RemoteState]]:
    import asyncio

    from lorapipe.remote.origins.plain import mark

    found: Any = await asyncio.to_thread(filesystem(url).find, str(url), detail=True)
    home = f"{quote(url.root, safe='')}/"
    for path, info in found.items():
        yield path.lstrip("/").removeprefix(home), mark(info)


_LISTED = {"s3": _s3, "gs": _google, "hf": _hub}
