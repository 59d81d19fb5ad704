"""Servers on loopback that stand for the net: web, S3 and the Hub, with what goes wrong in it.

Each counts what it is asked and what it sends, and misbehaves as a test tells it to (:class:`Faults`).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

CHUNK = 1 << 16


@dataclass
class Faults:
    """What goes wrong with the next answers; ``times`` runs down to nothing.

    ``only`` chooses the requests that count, by method and path.
    """

    latency: float = 0.0
    """Seconds before each answer."""
    status: int = 0
    """This status instead of an answer."""
    drop_after: int | None = None
    """The connection ends after so many bytes of the body."""
    stall_after: int | None = None
    """Nothing more comes after so many bytes, and the connection stays."""
    short_by: int = 0
    """The answer is whole and sound, but for so many bytes at its end."""
    times: int = 1 << 30
    only: Callable[[str, str], bool] = lambda method, path: True


@dataclass
class Asked:
    """A request, with how many bytes of a body were sent for it."""

    method: str
    path: str
    range: str | None
    status: int = 0
    sent: int = 0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: Iterator[bytes]
    length: int


class Server:
    """A server in a thread; ``answer`` makes its responses."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def sent(self) -> int:
        """Bytes of all bodies so far."""
        return sum(asked.sent for asked in self.asked)

    def forget(self) -> None:
        """Count from here on."""
        self.asked.clear()
        self.most_at_once = 0

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        raise NotImplementedError

    def fault(self, method: str, path: str) -> Faults:
        """What goes wrong with this answer, if anything does."""
        with self._lock:
            found = self.faults
            if found.times <= 0 or not found.only(method, path):
                return Faults(latency=found.latency)
            found.times -= 1
            return Faults(found.latency, found.status, found.drop_after, found.stall_after, found.short_by)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        method, path = handler.command, handler.path
        given = int(handler.headers.get("Content-Length", 0))
        body = handler.rfile.read(given) if given else b""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        asked = Asked(method, path, handler.headers.get("Range"), headers=dict(handler.headers.items()))
        self.asked.append(asked)  # before the client can look
        fault = self.fault(method, path)
        try:
            time.sleep(fault.latency)
            wrong = plain(fault.status) if fault.status else None
            response = wrong or self.answer(method, path, asked.headers, body)
            asked.status = response.status
            _send(handler, response, fault, asked, self._over)
        finally:
            with self._lock:
                self._at_once -= 1


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.handle(self)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815  # names of http.server

        def log_message(self, *args: object) -> None:
            pass

    return Handler


def _send(
    handler: BaseHTTPRequestHandler, response: Response, fault: Faults, asked: Asked, over: threading.Event
) -> None:
    """Send a response as far as the fault lets it."""
    length = max(0, response.length - fault.short_by)
    handler.send_response(response.status)
    for name, value in response.headers.items():
        handler.send_header(name, value)
    if "Transfer-Encoding" not in response.headers and response.status not in (204, 304):
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    if handler.command == "HEAD":
        return
    limit = min(x for x in (length, fault.drop_after, fault.stall_after) if x is not None)
    left = limit
    for chunk in response.body:
        part = chunk[:left]
        asked.sent += len(part)
        handler.wfile.write(part)
        left -= len(part)
        if not left:
            break
    handler.wfile.flush()
    if fault.stall_after is not None and limit < length:
        over.wait(600)
    if limit < length:
        over.wait(0.05)  # until what was sent has been taken
        handler.close_connection = True


def plain(status: int, text: str = "", headers: Mapping[str, str] | None = None) -> Response:
    body = text.encode()
    return Response(status, dict(headers or {}), iter([body]), len(body))


class Zeros:
    """A file of any size of which only the beginning is there; the rest reads as zeros."""

    def __init__(self, head: bytes, size: int) -> None:
        self.head, self.size = head, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, span: slice) -> bytes:
        start, stop, _ = span.indices(self.size)
        return self.head[start:stop].ljust(stop - start, b"\0")


Content = "bytes | Zeros"


class Files(Server):
    """A web server: files by path, with ranges, strong ETags and dates."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, Any] = {}
        self._digests: dict[int, tuple[Any, str]] = {}
        self.ranges = True
        self.lengths = True
        self.etags: str | None = "strong"  # "weak", or None for none
        self.headers: dict[str, str] = {}
        self.moved: dict[str, str] = {}

    def put(self, path: str, content: Any) -> str:
        """Lay a file under ``path``, and give its URL."""
        self.files[path] = content
        return f"{self.address}/{quote(path)}"

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        name = unquote(urlsplit(path).path).lstrip("/")
        if name in self.moved:
            return plain(302, headers={"Location": self.moved[name]})
        if method not in ("GET", "HEAD"):
            return plain(405)
        if name not in self.files:
            return plain(404, "no such file")
        return self.file(self.files[name], headers, self.headers | self.etag(self.files[name]))

    def etag(self, content: Any) -> dict[str, str]:
        known, digest = self._digests.get(id(content), (None, ""))
        if known is not content:
            data = content.head if isinstance(content, Zeros) else content
            digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
            self._digests[id(content)] = (content, digest)
        if self.etags is None:
            return {}
        return {"ETag": f'"{digest}"' if self.etags == "strong" else f'W/"{digest}"'}

    def file(self, content: Any, asked: Mapping[str, str], headers: Mapping[str, str]) -> Response:
        """All of a file, or what a Range asks for."""
        size = len(content)
        start, stop, status, said = 0, size, 200, dict(headers)
        wanted = next((v for k, v in asked.items() if k.lower() == "range"), None) if self.ranges else None
        if wanted is not None:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(size, int(last) + 1 if last else size)
            if start >= size:
                return plain(416, headers={**said, "Content-Range": f"bytes */{size}"})
            status = 206
            said["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if not self.lengths:
            return self._endless(content, said)
        pieces = (content[at : min(at + CHUNK, stop)] for at in range(start, stop, CHUNK))
        return Response(status, said, pieces, stop - start)

    def _endless(self, content: Any, headers: dict[str, str]) -> Response:
        data = content[0 : len(content)]
        packed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
        return Response(200, {**headers, "Transfer-Encoding": "chunked"}, iter([packed]), len(packed))


class Forward(Server):
    """What stands before another server, so that requests to it are counted and answers go wrong."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._target = (host, port)

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        connection = http.client.HTTPConnection(*self._target, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                if name.lower() != "connection":
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            found = connection.getresponse()
            data = found.read()
        finally:
            connection.close()
        dropped = ("content-length", "transfer-encoding", "connection", "date", "server")
        said = {name: value for name, value in found.getheaders() if name.lower() not in dropped}
        length = len(data)
        if method == "HEAD":
            length = int(found.getheader("Content-Length", "0"))
        return Response(found.status, said, iter([data]), length)


class Bucket:
    """A fresh bucket of moto's S3, behind a :class:`Forward`: ``s3.faults``, ``s3.asked``."""

    def __init__(self, name: str, proxy: Forward, client: Any) -> None:
        self.name, self.proxy, self.client = name, proxy, client

    @property
    def faults(self) -> Faults:
        return self.proxy.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.proxy.faults = faults

    @property
    def asked(self) -> list[Asked]:
        return self.proxy.asked

    @property
    def sent(self) -> int:
        return self.proxy.sent

    @property
    def most_at_once(self) -> int:
        return self.proxy.most_at_once

    def forget(self) -> None:
        self.proxy.forget()

    def url(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def put(self, key: str, data: bytes, **more: Any) -> str:
        """Lay an object into the bucket past the proxy, and give its URL."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data, **more)
        return self.url(key)

    def get(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    @property
    def keys(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return [each["Key"] for each in found]


class Hub(Files):
    """The Hub: repositories with commits; large files (LFS) come from another server, ``cdn``.

    Speaks what huggingface_hub asks for files, trees and revisions. *Source*: the Hub's API
    endpoints (huggingface.co/docs/hub/api) and huggingface_hub's requests.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cdn = Files()
        self.commits: dict[str, dict[str, dict[str, Any]]] = {}
        self.refs: dict[str, dict[str, str]] = {}
        self.token: str | None = None
        self.large = 1000

    def close(self) -> None:
        self.cdn.close()
        super().close()

    def commit(self, repo: str, files: Mapping[str, Any], ref: str = "main") -> str:
        """Add a commit whose files are those before and ``files``; gives its sha."""
        refs = self.refs.setdefault(repo, {})
        commits = self.commits.setdefault(repo, {})
        tree = {**commits.get(refs.get(ref, ""), {}), **files}
        sha = hashlib.sha1(
            f"{repo} {len(commits)} {sorted(tree)}".encode(), usedforsecurity=False
        ).hexdigest()
        commits[sha] = tree
        refs[ref] = sha
        return sha

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        parts = urlsplit(path)
        way = parts.path.strip("/").split("/")
        if (
            self.token is not None
            and headers.get("authorization", headers.get("Authorization")) != f"Bearer {self.token}"
        ):
            return plain(401, headers={"X-Error-Message": "Invalid credentials"})
        if way[:2] == ["api", "models"]:
            return self._api("/".join(way[2:4]), [unquote(part) for part in way[4:]], parse_qs(parts.query))
        if len(way) > 4 and way[2] == "resolve":
            return self._resolve("/".join(way[:2]), unquote(way[3]), unquote("/".join(way[4:])), headers)
        return plain(404)

    def _tree(self, repo: str, revision: str) -> tuple[str, dict[str, Any]] | Response:
        if repo not in self.commits:
            return plain(404, headers={"X-Error-Code": "RepoNotFound"})
        sha = self.refs[repo].get(revision, revision)
        if sha not in self.commits[repo]:
            return plain(404, headers={"X-Error-Code": "RevisionNotFound"})
        return sha, self.commits[repo][sha]

    def _api(self, repo: str, what: list[str], query: Mapping[str, list[str]]) -> Response:
        revision = what[1] if len(what) > 1 else "main"
        found = self._tree(repo, revision)
        if isinstance(found, Response):
            return found
        sha, tree = found
        if not what or what[0] == "revision":
            said: Any = {
                "id": repo,
                "sha": sha,
                "modelId": repo,
                "siblings": [{"rfilename": n} for n in tree],
            }
        elif what[0] == "tree":
            under = "/".join(what[2:])
            deep = query.get("recursive", ["false"])[0].lower() == "true"
            said = list(self._entries(tree, f"{under}/" if under else "", deep=deep))
            if not said:
                return plain(404, headers={"X-Error-Code": "EntryNotFound"})
        else:
            return plain(404)
        return plain(200, json.dumps(said), {"Content-Type": "application/json", "X-Repo-Commit": sha})

    def _entries(self, tree: Mapping[str, Any], under: str, *, deep: bool) -> Iterator[dict[str, Any]]:
        folders = set()
        for name, content in sorted(tree.items()):
            if not name.startswith(under):
                continue
            rest = name[len(under) :]
            inner = rest.split("/")
            for depth in range(1, len(inner) if deep else min(2, len(inner))):
                folders.add(under + "/".join(inner[:depth]))
            if deep or len(inner) == 1:
                entry: dict[str, Any] = {
                    "type": "file",
                    "path": name,
                    "size": len(content),
                    "oid": _oid(content),
                }
                if self._is_large(content):
                    entry["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 134}
                yield entry
        for folder in sorted(folders):
            yield {"type": "directory", "path": folder, "size": 0, "oid": "0" * 40}

    def _is_large(self, content: Any) -> bool:
        return len(content) >= self.large

    def _resolve(self, repo: str, revision: str, name: str, headers: Mapping[str, str]) -> Response:
        found = self._tree(repo, revision)
        if isinstance(found, Response):
            return found
        sha, tree = found
        if name not in tree:
            return plain(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        content = tree[name]
        said = {"X-Repo-Commit": sha}
        if not self._is_large(content):
            return self.file(content, headers, {**said, "ETag": f'"{_oid(content)}"'})
        digest = _sha256(content)
        address = self.cdn.put(digest, content)
        linked = {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{digest}"', "Location": address}
        return plain(302, headers={**said, **linked})


def _oid(content: Any) -> str:
    data = content.head if isinstance(content, Zeros) else content
    return hashlib.sha1(b"blob %d\0" % len(content) + data, usedforsecurity=False).hexdigest()


def _sha256(content: Any) -> str:
    data = content.head + str(content.size).encode() if isinstance(content, Zeros) else content
    return hashlib.sha256(data).hexdigest()


class Google(Files):
    """Google's storage: objects by ``bucket/name``, each upload a generation. *Source*: the JSON API."""

    def __init__(self) -> None:
        super().__init__()
        self.generations: dict[str, int] = {}

    def put(self, path: str, content: Any) -> str:
        self.files[path] = content
        self.generations[path] = self.generations.get(path, 100) + 1
        return f"gs://{path}"

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        parts = urlsplit(path)
        way = [unquote(part) for part in parts.path.split("/")]
        if way[1:5] == ["download", "storage", "v1", "b"]:
            name = f"{way[5]}/{'/'.join(way[7:])}"
            if name not in self.files:
                return plain(404, "No such object")
            return self.file(self.files[name], headers, {"x-goog-generation": str(self.generations[name])})
        if way[1:4] == ["storage", "v1", "b"] and way[5:] == ["o"]:
            under = f"{way[4]}/{parse_qs(parts.query).get('prefix', [''])[0]}"
            items = [
                {
                    "name": name.removeprefix(f"{way[4]}/"),
                    "size": str(len(self.files[name])),
                    "generation": str(self.generations[name]),
                }
                for name in sorted(self.files)
                if name.startswith(under)
            ]
            return plain(200, json.dumps({"items": items}), {"Content-Type": "application/json"})
        return plain(404)
