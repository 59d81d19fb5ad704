"""Objects of Google Cloud Storage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lorapipe.remote.origins.origin import Begun, Sink, state_by_get
from lorapipe.remote.origins.web import stream
from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Url

__all__ = ["Google"]


class Google:
    """An object of a bucket, known again by its generation: a number that each upload gets anew."""

    def __init__(self, url: Url, files: Any) -> None:
        self._url, self._files = url, files

    async def state(self) -> RemoteState:
        found = await state_by_get(self, self._url)
        return replace(found, revision=found.etag)

    async def get(self, start: int, stop: int, begun: Begun, sink: Sink, quiet: float) -> None:
        await self._files._set_session()
        address = self._files.url(f"{self._url.root}/{self._url.path}")
        headers = self._files._get_headers(None)
        await stream(self._files.session, address, headers, (start, stop), begun, sink, quiet)
