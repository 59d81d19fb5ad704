"""A shared store in a bucket of objects: S3 and what speaks its language, Google Cloud Storage.

Requests are those of :mod:`lorapipe.remote`, which asks again what fails in passing. Here is a limit to
how long what a person waits for may take, since a build can do without.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lorapipe.errors import BuildError, InputError
from lorapipe.remote.calls import Patience, called, patience, started
from lorapipe.remote.filesystem import faults, filesystem
from lorapipe.remote.origins import origin_of
from lorapipe.remote.ranges import Known, fetch
from lorapipe.remote.state import state
from lorapipe.remote.targets.target import ABSENT, ANYTHING
from lorapipe.remote.uploading import Upload, abort
from lorapipe.remote.url import parse_url
from lorapipe.store.reading import open_regular
from lorapipe.store.shared.bucket import GoOn, Item, Missing, Trouble, go_on

__all__ = ["ObjectBucket"]

_SOON_S = 6.0
"""Seconds for what a person waits for: manifests."""

_AT_ONCE = 32
"""Small objects that are asked for at once."""

_RANGE = 8 << 20
_AHEAD = 4
"""Ranges of a result that are asked for at once: one stream alone has a fraction of the line."""

_CHUNK = 1 << 22

_TURN_S = 0.1
"""Seconds after which who waits for the network asks whether to go on."""

T = TypeVar("T")


def _unheard(count: int) -> None:
    pass


class ObjectBucket:
    """What lies under a URL of S3 or GCS, as a :class:`~lorapipe.store.shared.bucket.Bucket`."""

    def __init__(self, url: str) -> None:
        self._url = parse_url(url).as_folder()
        self._files = filesystem(self._url)

    def read(self, names: Sequence[str], most: int, waiting: GoOn = go_on) -> list[bytes | Missing | Trouble]:
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(name: str) -> bytes:
            url = self._url / name
            limits = Patience(min(_SOON_S, patience()))
            async with turns:
                return bytes(await fetch(origin_of(url), Known(url), 0, most + 1, limits))

        async def together() -> list[bytes | BaseException]:
            return await asyncio.gather(*map(one, names), return_exceptions=True)

        with self._faults():
            found = _waited(started(together()), waiting)
        return [each if isinstance(each, bytes) else self._named(each) for each in found]

    def chunks(self, name: str, size: int, waiting: GoOn = go_on) -> Iterator[bytes]:
        url = self._url / name
        with self._faults():
            origin, known = origin_of(url), Known(url)
        bounds = deque((at, min(size, at + _RANGE)) for at in range(0, size, _RANGE))
        ahead: deque[Future[bytearray]] = deque()
        try:
            while bounds or ahead:
                # The first answer tells the size: of an object of another one no more is asked for.
                while bounds and len(ahead) < (1 if known.size is None else _AHEAD):
                    limits = Patience(patience())
                    ahead.append(started(fetch(origin, known, *bounds.popleft(), limits)))
                with self._faults():
                    chunk = _waited(ahead.popleft(), waiting)
                if known.size != size:
                    return
                yield bytes(chunk)
        finally:
            for each in ahead:
                each.cancel()

    def size(self, name: str) -> int | None:
        try:
            with self._faults():
                return state(self._url / name).size
        except Missing:
            return None
        except Trouble as trouble:
            if trouble.refused:  # so S3 answers, where it is not there, who may not list the bucket
                return None
            raise

    def write(self, name: str, data: bytes, *, replace: bool = True) -> bool:
        try:
            with self._uploading(name, len(data), replace=replace) as upload:
                upload.write(data)
        except FileExistsError:
            return False
        return True

    def send(self, name: str, file: Path, sent: Callable[[int], None]) -> None:
        with open_regular(file) as source, self._uploading(name, file.stat().st_size, sent=sent) as upload:
            while chunk := source.read(_CHUNK):
                upload.write(chunk)

    def listing(self, folder: str) -> Iterator[Item]:
        path = f"{self._url.root}/{self._url.path}"
        find = partial(self._files._find, f"{path}{folder}", detail=True)
        with suppress(Missing):
            with self._faults():
                found: Mapping[str, Mapping[str, Any]] = called(self._url, find)
            for name, known in found.items():
                yield Item(name.removeprefix(path), int(known["size"]), _written_ns(known))

    def remove(self, names: Iterable[str]) -> None:
        # Each by itself: of many at once, S3 tells of no refusal.
        for name in names:
            with suppress(Missing), self._faults():
                called(self._url, self._files._rm_file, f"{self._url.root}/{self._url.path}{name}")

    @contextmanager
    def _uploading(
        self, name: str, size: int, *, replace: bool = True, sent: Callable[[int], None] = _unheard
    ) -> Iterator[Upload]:
        """An object being written; it appears if the context ends well. Raises ``FileExistsError``."""
        with self._faults(writing=True):
            upload = Upload(self._url / name, size, expected=ANYTHING if replace else ABSENT, sent=sent)
            try:
                yield upload
                upload.complete()
            except BaseException:
                abort((upload,))
                raise

    def _named(self, error: BaseException) -> Missing | Trouble:
        try:
            with self._faults(), faults(self._url):
                raise error
        except (Missing, Trouble) as named:
            return named

    @contextmanager
    def _faults(self, *, writing: bool = False) -> Iterator[None]:
        """Take the errors that name the fault apart: what is missing, refused, or not to be had now."""
        try:
            with faults(self._url, writing=writing):
                yield
        except (InputError, BuildError) as error:
            if error.code == "output-raced":
                raise FileExistsError from error
            # A bucket of a mistyped name must not pass for an empty store.
            if error.code == "remote-missing" and not writing and "bucket" not in error.message:
                raise Missing from error
            raise Trouble(error.message, refused=error.code == "remote-forbidden") from error


def _waited(future: Future[T], waiting: GoOn) -> T:
    """What comes of what is under way, which ends if ``waiting`` says so."""
    try:
        while not future.done():
            wait((future,), timeout=_TURN_S)
            waiting()
        return future.result()
    finally:
        future.cancel()


def _written_ns(known: Mapping[str, Any]) -> int:
    """When an object was written, as each file system says it; the beginning of time if it does not."""
    for name in ("LastModified", "mtime", "updated", "created"):
        at = known.get(name)
        if isinstance(at, str):
            with suppress(ValueError):
                at = datetime.fromisoformat(at.replace("Z", "+00:00"))
        if isinstance(at, datetime):
            return int(at.timestamp() * 1e9)
    return 0
