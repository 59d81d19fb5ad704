"""Files of repositories on the Hugging Face Hub."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import replace
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from lorapipe.remote.filesystem import filesystem, without
from lorapipe.remote.origins.origin import Answer, Begun, Sink
from lorapipe.remote.origins.web import no_length, stream
from lorapipe.remote.reasons import status_of
from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Url

__all__ = ["Hub", "Repository"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Repository:
    """Which repository a URL names: ``kind`` is "model", "dataset" or "space"."""

    def __init__(self, url: Url) -> None:
        root, _, revision = url.root.partition("@")
        above, _, below = root.partition("/")
        self.kind = above[:-1] if above in ("datasets", "spaces") else "model"
        self.id = below if self.kind != "model" else root
        self.revision = unquote(revision) or "main"
        self.endpoint = os.environ.get("HF_ENDPOINT") or None


class Hub:
    """A file at the commit that its revision means when it is first asked for.

    One request to the Hub tells commit, size, and of large files the sha256; it names an address
    too, from which ranges are read.
    """

    def __init__(self, url: Url) -> None:
        try:
            import huggingface_hub as hub
        except ImportError as error:
            raise without(url) from error
        self._url, self._hub = url, cast("Any", hub)
        self._web = cast("Any", filesystem(Url("https", "huggingface.co", "")))
        self._repository = Repository(url)
        self._address = ""
        self._state: RemoteState | None = None

    async def state(self) -> RemoteState:
        found = await asyncio.to_thread(self._look)
        if found.size is None:
            raise no_length(self._url)
        etag = found.etag or ""
        sha256 = etag if _SHA256.fullmatch(etag) else None
        self._address = found.location
        self._state = RemoteState(found.size, etag or None, found.commit_hash, sha256)
        return self._state

    async def get(self, start: int, stop: int, begun: Begun, sink: Sink, quiet: float) -> None:
        if self._state is None:
            await asyncio.wait_for(self.state(), quiet)
        try:
            await self._get(start, stop, begun, sink, quiet)
        except Exception as error:
            if status_of(error) not in (401, 403):
                raise
            # The address is signed, and the signature holds for an hour.
            await asyncio.wait_for(self.state(), quiet)
            await self._get(start, stop, begun, sink, quiet)

    async def _get(self, start: int, stop: int, begun: Begun, sink: Sink, quiet: float) -> None:
        state = self._state
        assert state is not None

        def told(answer: Answer) -> None:
            begun(replace(answer, etag=state.etag))

        session = await self._web.set_session()
        await stream(session, self._address, self._headers(), (start, stop), told, sink, quiet)

    def _headers(self) -> dict[str, str]:
        """The token, to the Hub alone: the address may be another host's."""
        endpoint = self._repository.endpoint or self._hub.constants.ENDPOINT
        if urlsplit(self._address).netloc != urlsplit(endpoint).netloc:
            return {}
        found: dict[str, str] = self._hub.utils.build_hf_headers(library_name="lorapipe")
        return found

    def _look(self) -> Any:
        revision = self._state.revision if self._state is not None else None
        where = self._hub.hf_hub_url(
            self._repository.id,
            self._url.path,
            repo_type=self._repository.kind,
            revision=revision or self._repository.revision,
            endpoint=self._repository.endpoint,
        )
        return self._hub.get_hf_file_metadata(
            where, endpoint=self._repository.endpoint, library_name="lorapipe"
        )
