"""A server on loopback that speaks as Google Cloud Storage does: objects, listings, resumable uploads.

*Source*: Google Cloud Storage JSON API (objects: get, list, delete, insert), "Resumable uploads".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .servers import Files, Response, plain

LEAST = 1 << 18
"""Bytes of which every chunk but the last is a multiple."""


@dataclass
class Session:
    """An upload on its way."""

    name: str
    expected: str | None
    data: bytearray = field(default_factory=bytearray)


class Google(Files):
    """One bucket, ``loras``: its objects by name, their generations, the uploads that are not complete.

    ``lose`` answers of uploads get lost: what they ask is done, and the connection ends.
    """

    bucket = "loras"

    def __init__(self) -> None:
        super().__init__()
        self.generations: dict[str, int] = {}
        self.sessions: dict[str, Session] = {}
        self.lose = 0
        self._count = 100

    def url(self, name: str) -> str:
        return f"gs://{self.bucket}/{name}"

    def lay(self, name: str, data: bytes) -> None:
        """Make an object of this name."""
        self._count += 1
        self.files[name], self.generations[name] = data, self._count

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        if self.lose and handler.command == "PUT":
            self.lose -= 1
            body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
            self.answer(handler.command, handler.path, dict(handler.headers.items()), body)
            handler.close_connection = True
            return
        super().handle(handler)

    def answer(  # noqa: PLR0911  # a return for each request that there is
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        parts = urlsplit(path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        found = re.fullmatch(r"/(?:upload/|download/)?storage/v1/b/([^/]+)/o(?:/(.*))?", parts.path)
        if found is None or found[1] != self.bucket:
            return self._json(404, {"error": {"code": 404, "message": "no such bucket"}})
        if "upload_id" in asked:
            return self._continue(method, asked["upload_id"], headers, body)
        if method == "POST":
            return self._begin(asked)
        name = None if found[2] is None else unquote(found[2])
        if name is None:
            return self._list(asked.get("prefix", ""))
        if name not in self.files:
            return self._json(404, {"error": {"code": 404, "message": "no such object"}})
        if method == "DELETE":
            del self.files[name]
            return plain(204)
        if asked.get("alt") == "media":
            said = {"X-Goog-Generation": str(self.generations[name]), "ETag": f'"{self.generations[name]}"'}
            return self.file(self.files[name], headers, said)
        return self._json(200, self._resource(name))

    def _begin(self, asked: Mapping[str, str]) -> Response:
        number = f"session-{len(self.sessions)}-{self._count}"
        self._count += 1
        if asked.get("ifGenerationMatch", self._generation(asked["name"])) != self._generation(asked["name"]):
            return self._json(412, {"error": {"code": 412, "message": "condition"}})
        self.sessions[number] = Session(asked["name"], asked.get("ifGenerationMatch"))
        location = f"{self.address}/upload/storage/v1/b/{self.bucket}/o?upload_id={number}"
        return plain(200, "", {"Location": location})

    def _continue(self, method: str, number: str, headers: Mapping[str, str], body: bytes) -> Response:
        session = self.sessions.get(number)
        if session is None:
            return self._json(404, {"error": {"code": 404, "message": "no such session"}})
        if method == "DELETE":
            del self.sessions[number]
            return plain(499)
        span = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", headers["Content-Range"])
        assert span is not None
        if span[1] is not None:
            start = int(span[1])
            assert len(body) == int(span[2]) - start + 1
            assert start <= len(session.data)
            session.data += body[len(session.data) - start :]
        if span[3] == "*" or len(session.data) < int(span[3]):
            assert len(body) % LEAST == 0
            return plain(308, "", {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {})
        if session.expected is not None and session.expected != self._generation(session.name):
            if session.data != self.files.get(session.name):
                return self._json(412, {"error": {"code": 412, "message": "condition"}})
            return self._json(200, self._resource(session.name))  # said again of what is complete
        self.lay(session.name, bytes(session.data))
        return self._json(200, self._resource(session.name))

    def _generation(self, name: str) -> str:
        return str(self.generations[name]) if name in self.files else "0"

    def _list(self, prefix: str) -> Response:
        items = [self._resource(name) for name in sorted(self.files) if name.startswith(prefix)]
        return self._json(200, {"items": items} if items else {})

    def _resource(self, name: str) -> dict[str, Any]:
        return {
            "bucket": self.bucket,
            "name": name,
            "size": str(len(self.files[name])),
            "generation": str(self.generations[name]),
            "etag": f"etag-{self.generations[name]}",
        }

    def _json(self, status: int, told: Any) -> Response:
        return plain(status, json.dumps(told), {"Content-Type": "application/json"})
