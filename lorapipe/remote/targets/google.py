"""Objects for Google Cloud Storage: bytes in order, the last of which make the object.

*Source*: Google Cloud Storage, "Resumable uploads", "Request preconditions".
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

from lorapipe.remote.targets.target import ABSENT, Expected, Raced
from lorapipe.remote.url import Url

__all__ = ["Google"]

_TYPE = "application/octet-stream"


class Google:
    """An object of a bucket on its way there.

    What is sent again, because the answer to it was lost, the server knows by its place and passes over.
    """

    align = 1 << 18
    at_once = 1

    def __init__(self, url: Url, files: Any) -> None:
        self._files, self._url = files, url
        self._session: str | None = None

    async def look(self) -> Expected:
        try:
            _, text = await self._files._call("GET", "b/{}/o/{}", self._url.root, self._url.path)
        except FileNotFoundError:
            return ABSENT
        return Expected(str(json.loads(text)["generation"]))

    async def begin(self, expected: Expected) -> None:
        bucket, name = quote(self._url.root, safe=""), quote(self._url.path, safe="")
        at = self._files.base.replace("/storage/v1/", "/upload/storage/v1/")
        condition = {} if expected.any else {"ifGenerationMatch": expected.mark or "0"}
        with _racing():
            headers, _ = await self._files._call(
                "POST",
                f"{at}b/{bucket}/o?name={name}",
                uploadType="resumable",
                headers={"X-Upload-Content-Type": _TYPE},
                json={"name": self._url.path, "contentType": _TYPE},
                **condition,
            )
        self._session = str(headers["Location"])

    async def send(self, number: int, start: int, part: io.BytesIO) -> None:  # noqa: ARG002  # S3's counts parts
        length = len(part.getbuffer())
        headers = await self._put(part, f"bytes {start}-{start + length - 1}/*")
        if headers.get("Range") != f"bytes=0-{start + length - 1}":
            raise ConnectionError("the server did not take all of it")  # asked again: it knows what it has

    async def complete(self, start: int, rest: io.BytesIO) -> None:
        length = len(rest.getbuffer())
        span = f"{start}-{start + length - 1}" if length else "*"
        await self._put(rest, f"bytes {span}/{start + length}")
        self._session = None

    async def whole(self, body: io.BytesIO, expected: Expected) -> None:
        if self._session is None:
            await self.begin(expected)
        await self.complete(0, body)

    async def abort(self) -> None:
        if self._session is not None:
            await self._files._call("DELETE", self._session)
            self._session = None

    async def remove(self) -> None:
        with suppress(FileNotFoundError):
            await self._files._call("DELETE", "b/{}/o/{}", self._url.root, self._url.path)

    async def _put(self, part: io.BytesIO, span: str) -> Mapping[str, str]:
        assert self._session is not None
        with _racing():
            found = await self._files._call("PUT", self._session, headers={"Content-Range": span}, data=part)
        headers: Mapping[str, str] = found[0]
        return headers


@contextmanager
def _racing() -> Iterator[None]:
    """Name the answer that a condition does not hold, of which gcsfs makes this exception."""
    try:
        yield
    except FileExistsError as error:
        raise Raced from error
