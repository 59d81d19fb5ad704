"""Objects for S3 and what speaks like it: numbered parts, and an act that makes an object of them.

*Source*: Amazon S3 API, ``CreateMultipartUpload``, ``UploadPart``, ``CompleteMultipartUpload``; User
Guide, "Conditional writes".
"""

from __future__ import annotations

import hashlib
import io
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lorapipe.remote.reasons import status_of
from lorapipe.remote.targets.target import ABSENT, Expected, Raced
from lorapipe.remote.url import Url

__all__ = ["S3"]

_GONE, _CONFLICT, _RACED, _UNKNOWN = 404, 409, 412, 501
_TYPE = "application/octet-stream"


class S3:
    """An object of a bucket on its way there.

    A store that does not know conditions (it answers that they are not implemented) is asked without.
    """

    align = 1
    at_once = 6

    def __init__(self, url: Url, files: Any) -> None:
        self._files = files
        self._what = {"Bucket": url.root, "Key": url.path}
        self._expected = ABSENT
        self._upload: str | None = None
        self._parts: dict[int, Mapping[str, Any]] = {}

    async def look(self) -> Expected:
        try:
            return Expected(str((await self._ask("head_object"))["ETag"]))
        except Exception as error:
            if _status(error) == _GONE:
                return ABSENT
            raise

    async def begin(self, expected: Expected) -> None:
        self._expected = expected
        begun = await self._ask("create_multipart_upload", ContentType=_TYPE)
        self._upload = str(begun["UploadId"])

    async def send(self, number: int, start: int, part: io.BytesIO) -> None:  # noqa: ARG002  # Google's counts bytes
        sent = await self._ask("upload_part", UploadId=self._upload, PartNumber=number, Body=part)
        sums = {name: value for name, value in sent.items() if name.startswith("Checksum")}
        self._parts[number] = {"PartNumber": number, "ETag": sent["ETag"], **sums}

    async def complete(self, start: int, rest: io.BytesIO) -> None:  # noqa: ARG002  # there is no rest
        parts = [self._parts[number] for number in sorted(self._parts)]

        async def act(**condition: str) -> None:
            await self._ask(
                "complete_multipart_upload",
                UploadId=self._upload,
                MultipartUpload={"Parts": parts},
                **condition,
            )

        await self._appear(act, self._expected, _tag_of_parts(parts))
        self._upload = None

    async def whole(self, body: io.BytesIO, expected: Expected) -> None:
        async def act(**condition: str) -> None:
            body.seek(0)
            # The store holds what comes to the sum, and keeps it: others learn the sha256 by one request.
            await self._ask(
                "put_object",
                Body=body,
                ContentType=_TYPE,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=b64encode(hashlib.sha256(body.getbuffer()).digest()).decode(),
                **condition,
            )

        await self._appear(act, expected, hashlib.md5(body.getbuffer(), usedforsecurity=False).hexdigest())

    async def abort(self) -> None:
        if self._upload is not None:
            await self._ask("abort_multipart_upload", UploadId=self._upload)
            self._upload = None

    async def remove(self) -> None:
        await self._ask("delete_object")

    async def _ask(self, act: str, **more: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self._files._call_s3(act, **self._what, **more)
        return found

    async def _appear(self, act: Callable[..., Awaitable[None]], expected: Expected, tag: str) -> None:
        """Do the ``act`` that makes the object; one that was done, and whose answer was lost, counts.

        ``tag`` is the ETag that it will have, where the store makes it of the content.
        """
        condition = _condition(expected)
        try:
            try:
                await act(**condition)
            except Exception as error:
                if not condition or _status(error) != _UNKNOWN:
                    raise
                await act()
        except Exception as error:
            status = _status(error)
            if status in (_GONE, _CONFLICT, _RACED) and (await self.look()).mark == f'"{tag}"':
                return
            if status in (_CONFLICT, _RACED):
                raise Raced from error
            raise


def _condition(expected: Expected) -> dict[str, str]:
    if expected.any:
        return {}
    return {"IfNoneMatch": "*"} if expected.mark is None else {"IfMatch": expected.mark}


def _tag_of_parts(parts: list[Mapping[str, Any]]) -> str:
    """The ETag of an object of these parts: MD5 of their MD5s, and their number; else nothing."""
    try:
        sums = b"".join(bytes.fromhex(str(part["ETag"]).strip('"')) for part in parts)
    except ValueError:
        return ""
    return f"{hashlib.md5(sums, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _status(error: BaseException) -> int | None:
    """The HTTP status of an exception, or of the one that s3fs made it from."""
    found = status_of(error)
    return status_of(error.__cause__) if found is None and error.__cause__ is not None else found
