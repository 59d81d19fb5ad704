"""Files of repositories on the Hugging Face Hub."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import replace
from itertools import islice
from typing import Any
from urllib.parse import unquote, urlsplit

from lorapipe.remote.filesystem import filesystem, without
from lorapipe.remote.origins.origin import Answer, Begun, Sink, no_length
from lorapipe.remote.origins.web import stream
from lorapipe.remote.reasons import status_of
from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Url
from lorapipe.version import __version__

__all__ = ["Hub", "Repository", "is_commit"]

_WE = {"library_name": "lorapipe", "library_version": __version__}
"""What the Hub is told of who asks."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str) -> bool:
    """Whether a revision is one that never means another commit."""
    return _COMMIT.fullmatch(revision) is not None


class Repository:
    """Which repository a URL names: ``kind`` is "model", "dataset" or "space"."""

    def __init__(self, url: Url) -> None:
        root, _, revision = url.root.partition("@")
        above, _, below = root.partition("/")
        self.kind = above[:-1] if above in ("datasets", "spaces") else "model"
        self.id = below if self.kind != "model" else root
        self.revision = unquote(revision) or "main"
        self.endpoint = os.environ.get("HF_ENDPOINT") or None
        self._url = url

    def commit(self) -> str:
        """The commit that the revision means now: one request."""
        return str(self._api().repo_info(self.id, revision=self.revision, repo_type=self.kind).sha)

    def tree(self, below: str, most: int) -> list[tuple[str, RemoteState]]:
        """The files of a folder, and of those in it, with what is known of them; one more than ``most``."""
        api = self._api()
        found = api.list_repo_tree(
            self.id, below or None, recursive=True, revision=self.revision, repo_type=self.kind
        )
        files = islice((each for each in found if hasattr(each, "size")), most + 1)
        return [(each.path, self._state(each)) for each in files]

    def _state(self, file: Any) -> RemoteState:
        sha256 = file.lfs.sha256 if file.lfs is not None else None
        return RemoteState(file.size, sha256 or file.blob_id, self.revision, sha256)

    def _api(self) -> Any:
        return library(self._url).HfApi(endpoint=self.endpoint, **_WE)


def library(url: Url) -> Any:
    """huggingface_hub. Raises :class:`~lorapipe.errors.UsageError` ``extra-missing``."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise without(url) from error
    return huggingface_hub


class Hub:
    """A file at the commit that its revision means when it is first asked for.

    One request to the Hub tells commit, size, and of large files the sha256; it names an address
    too, from which ranges are read.
    """

    def __init__(self, url: Url) -> None:
        self._url, self._hub = url, library(url)
        self._web: Any = filesystem(Url("https", "huggingface.co", ""))
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
        found: dict[str, str] = self._hub.utils.build_hf_headers(**_WE)
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
        return self._hub.get_hf_file_metadata(where, endpoint=self._repository.endpoint, **_WE)
