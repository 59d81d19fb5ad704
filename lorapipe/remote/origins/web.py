"""Files of web servers, and of whatever else gives them by GET with ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorapipe.errors import InputError
from lorapipe.remote.origins.origin import Answer, Begun, Sink, parse_content_range, state_by_get
from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Url

__all__ = ["Web", "stream", "validator"]

_CHUNK = 1 << 20


class Web:
    """A file that a server gives by GET; nothing else is ever sent.

    HEAD is not used: presigned addresses do not allow it, and servers answer it otherwise.
    """

    def __init__(self, url: Url, files: Any) -> None:
        self._url, self._files = url, files

    async def state(self) -> RemoteState:
        return await state_by_get(self, self._url)

    async def get(self, start: int, stop: int, begun: Begun, sink: Sink, quiet: float) -> None:
        session = await self._files.set_session()
        headers = self._files.kwargs.get("headers", {})
        await stream(session, str(self._url), headers, (start, stop), begun, sink, quiet)


async def stream(
    session: Any,
    address: str,
    headers: Mapping[str, str],
    span: tuple[int, int],
    begun: Begun,
    sink: Sink,
    quiet: float,
) -> None:
    """Bytes of the file at ``address`` by a GET of a session of aiohttp, as :class:`Origin` gives them.

    Raises what aiohttp does, and :class:`~lorapipe.errors.InputError` ``remote-unsafe`` where https
    is sent on to an address without it.
    """
    import asyncio

    import aiohttp
    from yarl import URL

    asking = {**headers, "Accept-Encoding": "identity", "Range": f"bytes={span[0]}-{span[1] - 1}"}
    limits = aiohttp.ClientTimeout(total=None, sock_connect=quiet, sock_read=quiet)
    asked = session.get(URL(address, encoded=True), headers=asking, timeout=limits)
    response = await asyncio.wait_for(asked, quiet)
    try:
        if address.startswith("https:") and response.url.scheme != "https":
            raise InputError("remote-unsafe", "is sent on to an address without https", hint="check the URL")
        size = parse_content_range(response.headers.get("Content-Range"))[1]
        if response.status == 416 and size is not None and size <= span[0]:
            begun(Answer(span[0], size, validator(response.headers, size)))
            return
        response.raise_for_status()
        begun(_answer(response.status, response.headers))
        async for chunk in response.content.iter_chunked(_CHUNK):
            if not sink(chunk):
                return
    finally:
        response.close()


def _answer(status: int, headers: Mapping[str, str]) -> Answer:
    if status == 206:
        first, size = parse_content_range(headers.get("Content-Range"))
        return Answer(-1 if first is None else first, size, validator(headers, size))
    packed = headers.get("Content-Encoding", "identity") != "identity"
    length = headers.get("Content-Length", "")
    size = int(length) if length.isdecimal() and not packed else None
    return Answer(0, size, validator(headers, size), ranges=False)


def validator(headers: Mapping[str, str], size: int | None) -> str | None:
    """What changes when the bytes do: a strong ETag, else the date of the last change with the size.

    A weak ETag ("W/...") may stand for other bytes (RFC 9110, section 8.8.1). Google's storage
    numbers the generations of a file.
    """
    generation, etag = headers.get("x-goog-generation"), headers.get("ETag", "")
    if generation:
        return generation
    if etag and not etag.startswith("W/"):
        return etag
    changed = headers.get("Last-Modified")
    return f"{changed} {size}" if changed and size is not None else None
