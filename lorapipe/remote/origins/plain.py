"""Files of any other file system of fsspec: its ranges, and no more."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

from lorapipe.remote.origins.origin import Answer, Begun, Sink
from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Url

__all__ = ["Plain", "mark"]


class Plain:
    """A file that is known again by what its file system calls its checksum."""

    def __init__(self, url: Url, files: Any) -> None:
        self._files, self._url = files, str(url)

    async def state(self) -> RemoteState:
        return await asyncio.to_thread(self._look)

    async def get(self, start: int, stop: int, begun: Begun, sink: Sink, quiet: float) -> None:
        state = await asyncio.to_thread(self._look)
        begun(Answer(start, state.size, state.etag))
        stop = min(stop, state.size)
        if start < stop:
            read = asyncio.to_thread(self._files.cat_file, self._url, start, stop)
            sink(await asyncio.wait_for(read, quiet))

    def _look(self) -> RemoteState:
        return mark(self._files.info(self._url))


def mark(info: Mapping[str, Any]) -> RemoteState:
    """The state that a file system's ``info`` tells of."""
    told = f"{info['size']} {info.get('created')} {info.get('mtime')} {info.get('ETag')}"
    return RemoteState(info["size"], hashlib.sha256(told.encode()).hexdigest()[:32])
