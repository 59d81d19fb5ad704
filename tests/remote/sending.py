"""What goes wrong on the way to a server: connections that end early, answers that get lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

import pytest

from lorapipe.remote import uploading

from .servers import Bucket, Forward

SMALL = 1 << 18
"""Bytes of a part, in tests that have no time for larger ones: fixture ``small_parts``."""


@dataclass
class Mishap:
    """What becomes of the next requests that ``only`` chooses; ``times`` runs down to nothing."""

    cut_after: int | None = None
    """The connection ends when so many bytes of the body have come; the server hears nothing of it."""
    stall: bool = False
    """Nothing of the body is taken, and the connection stays."""
    lost: bool = False
    """The server does what it is asked, and its answer does not come."""
    times: int = 1 << 30
    only: Callable[[str, str], bool] = lambda method, path: True


class Way(Forward):
    """The way to a bucket's server, with a mishap on it."""

    def __init__(self, bucket: Bucket) -> None:
        host, port = bucket.proxy._server.server_address[:2]
        super().__init__(str(host), port)
        self.mishap = Mishap(times=0)
        self._turn = threading.Lock()
        self._done = threading.Event()

    def close(self) -> None:
        self._done.set()
        super().close()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        with self._turn:
            mishap = self.mishap
            meant = mishap.times > 0 and mishap.only(handler.command, handler.path)
            mishap.times -= meant
        if not meant:
            super().handle(handler)
            return
        handler.close_connection = True
        if mishap.stall:
            self._done.wait(60)
        if mishap.cut_after is not None:
            handler.rfile.read(mishap.cut_after)
        if mishap.lost:
            body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
            self.answer(handler.command, handler.path, dict(handler.headers.items()), body)
        handler.connection.shutdown(socket.SHUT_RDWR)


def unfinished(s3: Bucket, patience: float = 3.0) -> list[str]:
    """Uploads of which the store keeps parts; an abort may be on its way still."""
    until = time.monotonic() + patience
    while True:
        found = [each["Key"] for each in s3.client.list_multipart_uploads(Bucket=s3.name).get("Uploads", [])]
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.05)


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads that fail are given up after a second; a loaded machine's silence is borne as ever."""
    monkeypatch.setattr(uploading, "patience", lambda: 1.0)
    monkeypatch.setattr(uploading, "_QUIET", 1 / 30)
