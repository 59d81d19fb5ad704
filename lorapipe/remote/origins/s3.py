"""Objects of S3 and of what speaks like it."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import Any

from lorapipe.remote.origins.origin import Answer, Begun, Sink, parse_content_range
from lorapipe.remote.reasons import status_of
from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Url

__all__ = ["S3"]

_CHUNK = 1 << 20


class S3:
    """An object of a bucket, at the version that the URL names or the newest."""

    def __init__(self, url: Url, files: Any) -> None:
        self._files = files
        self._what = {"Bucket": url.root, "Key": url.path}
        if url.query:
            self._what["VersionId"] = url.query.removeprefix("versionId=")

    async def state(self) -> RemoteState:
        head = await self._files._call_s3("head_object", **self._what, ChecksumMode="ENABLED")
        return RemoteState(head["ContentLength"], head.get("ETag"), head.get("VersionId"), _sha256(head))

    async def get(self, start: int, stop: int, begun: Begun, sink: Sink, quiet: float) -> None:
        asked = self._files._call_s3("get_object", **self._what, Range=f"bytes={start}-{stop - 1}")
        try:
            found = await asyncio.wait_for(asked, quiet)
        except OSError as error:
            if status_of(error.__cause__ or error) != 416:  # it is empty, or ends before
                raise
            state = await asyncio.wait_for(self.state(), quiet)
            begun(Answer(start, state.size, state.etag))
            return
        body = found["Body"]
        try:
            first, size = parse_content_range(found.get("ContentRange"))
            if first is None:  # it gave all of the object
                first, size = 0, found["ContentLength"]
            begun(Answer(first, size, found.get("ETag")))
            while chunk := await asyncio.wait_for(body.read(_CHUNK), quiet):
                if not sink(chunk):
                    return
        finally:
            body.close()


def _sha256(head: dict[str, Any]) -> str | None:
    """The checksum of the whole object; that of one in parts is a checksum of their checksums.

    *Source*: Amazon S3 User Guide, "Checking object integrity". Servers that only speak like S3 do not
    tell the type; the ETag of what was uploaded in parts has their number.
    """
    text = str(head.get("ChecksumSHA256", ""))
    in_parts = "-" in text or "-" in str(head.get("ETag", ""))
    if not text or head.get("ChecksumType", "COMPOSITE" if in_parts else "FULL_OBJECT") != "FULL_OBJECT":
        return None
    try:
        raw = b64decode(text, validate=True)
    except ValueError:
        return None
    return raw.hex() if len(raw) == 32 else None
