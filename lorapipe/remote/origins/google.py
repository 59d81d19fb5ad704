"""Objects of Google Cloud Storage."""

from __future__ import annotations

from typing import Any

from lorapipe.remote.origins.origin import Answer, Begun, Sink
from lorapipe.remote.origins.web import no_length, stream
from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Url

__all__ = ["Google"]


class Google:
    """An object of a bucket, known again by its generation: a number that each upload gets anew."""

    def __init__(self, url: Url, files: Any) -> None:
        self._url, self._files = url, files

    async def state(self) -> RemoteState:
        found: list[Answer] = []
        await self.get(0, 1, found.append, lambda _: False, 60.0)
        if found[0].size is None:
            raise no_length(self._url)
        return RemoteState(found[0].size, found[0].etag, found[0].etag)

    async def get(self, start: int, stop: int, begun: Begun, sink: Sink, quiet: float) -> None:
        await self._files._set_session()
        address = self._files.url(f"{self._url.root}/{self._url.path}")
        headers = self._files._get_headers(None)
        await stream(self._files.session, address, headers, (start, stop), begun, sink, quiet)
