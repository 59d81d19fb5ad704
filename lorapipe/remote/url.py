"""URLs of files and folders, as values that can be walked like paths.

``s3://bucket/key``, ``gs://bucket/key``, ``hf://org/repo@revision/file``, ``https://host/path?query``.
A name that ends in a slash is a folder's. Keys of buckets are taken literally (nothing in them is
unquoted), as the tools of their makers take them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from lorapipe.errors import RecipeError

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = ["SCHEMES", "Location", "Url", "is_url", "parse_url"]

SCHEMES = ("s3", "gs", "hf", "https", "http")
"""What ``load`` takes; ``memory`` too, whose files live and die with the program: for tests."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_REPO = re.compile(r"[\w.-]{1,96}", re.ASCII)
_KINDS = ("datasets", "spaces")
_REFS = re.compile(r"(refs/(?:pr/[0-9]+|convert/[^/]+))(?:/|$)")
"""Revisions with a slash. *Source*: huggingface_hub, ``hf_api.SPECIAL_REFS_REVISION_REGEX``."""

_SECRET = re.compile(
    r"(?:x-(?:amz|goog)-(?:signature|credential|security-token)|signature|sig|awsaccesskeyid|"
    r"(?:access[_-]?|auth[_-]?)?token|api[_-]?key|password|secret)",
    re.IGNORECASE,
)
"""Names in a query that stand before what must not come into a lock: presigned URLs, tokens."""

_LONGEST = 2_000


@dataclass(frozen=True, slots=True, order=True)
class Url:
    """A URL in one spelling: equal values are equal texts.

    ``root`` is a bucket, a repository with its revision, or a host with its port; ``path`` what
    follows the slash after it, with a slash at its end where it is a folder's; ``query`` that of
    ``https`` without its question mark. Made by :func:`parse_url`.
    """

    scheme: str
    root: str
    path: str
    query: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.root}/{self.path}" + (f"?{self.query}" if self.query else "")

    def as_posix(self) -> str:
        """The text, as of a path."""
        return str(self)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder by its name: it ends in a slash, or is all of a bucket or repository."""
        return not self.path or self.path.endswith("/")

    @property
    def name(self) -> str:
        """What stands after the last slash, or of a folder before it; of a whole bucket its name."""
        last = self.path.rstrip("/").rpartition("/")[2] or self.root.rpartition("/")[2]
        return unquote(last) if self.scheme in ("http", "https") else last

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> Url:
        """The folder that it lies in, with a slash at its end; of a whole bucket itself."""
        above, slash, _ = self.path.rstrip("/").rpartition("/")
        return Url(self.scheme, self.root, above + slash)

    @property
    def parents(self) -> tuple[Url, ...]:
        """Every folder that it lies in, the nearest first."""
        found: list[Url] = []
        at = self
        while at.path:
            at = at.parent
            found.append(at)
        return tuple(found)

    def __truediv__(self, name: str) -> Url:
        """What is called ``name`` in this folder. A name from a listing: nothing is quoted but for https."""
        base = self.path if self.is_folder else f"{self.path}/"
        web = self.scheme in ("http", "https")
        return Url(self.scheme, self.root, base + (quote(name, safe="/:@!$&'()*+,;=~-._") if web else name))

    def as_folder(self) -> Url:
        """The same with a slash at its end."""
        return self if self.is_folder else Url(self.scheme, self.root, f"{self.path}/", self.query)

    def is_relative_to(self, other: Location) -> bool:
        """Whether it is ``other`` or lies in it."""
        if not isinstance(other, Url) or (self.scheme, self.root) != (other.scheme, other.root):
            return False
        above = other.as_folder().path
        return self.path == other.path or self.path.startswith(above)

    def relative_to(self, other: Url) -> PurePosixPath:
        """The way from the folder ``other`` to it; ``ValueError`` where it does not lie there."""
        if not self.is_relative_to(other):
            raise ValueError(f"{self} is not in {other}")
        rest = self.path[len(other.as_folder().path) :]
        return PurePosixPath(unquote(rest) if self.scheme in ("http", "https") else rest)

    @property
    def loopback(self) -> bool:
        """Whether it is a web address of this machine itself."""
        host = urlsplit(str(self)).hostname or ""
        if self.scheme not in ("http", "https"):
            return False
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")


Location: TypeAlias = "Path | Url"
"""Where a file is: on this machine or elsewhere."""


def is_url(text: str) -> bool:
    """Whether text is meant as a URL, of whatever scheme; a drive of Windows is none."""
    return _URL.match(text) is not None


def parse_url(text: str) -> Url:
    """The URL that text gives, in its one spelling.

    Raises :class:`~lorapipe.errors.RecipeError`: ``unknown-scheme``, ``url-with-secret`` for a user,
    a password, or a token or signature in the query, and ``bad-url``.
    """
    if _CONTROL.search(text) or not text.isprintable():
        raise _bad("holds a character that is not printed")
    if len(text.encode("utf-8", "surrogatepass")) > _LONGEST:
        raise _bad(f"is longer than {_LONGEST} bytes")
    scheme, mark, rest = text.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in (*SCHEMES, "memory"):
        known = ", ".join(f"{known}://" for known in SCHEMES)
        raise RecipeError(
            "unknown-scheme", f"'{scheme}://' is no place to load from", hint=f"there are {known}"
        )
    if "#" in rest:
        raise _bad("has a fragment ('#...')", "leave it out: it names a part of a page")
    if "\\" in rest:
        raise _bad("has a backslash", "folders are parted by /")
    parsed = _PARSERS[scheme](scheme, rest)
    parts = [unquote(part) for part in parsed.path.split("/")]
    if any(part in (".", "..") for part in parts):
        raise _bad("has '.' or '..' among its folders", "write the way without them")
    return parsed


def _bucket(scheme: str, rest: str) -> Url:
    bucket, _, key = rest.partition("/")
    if "@" in bucket:
        raise _secret("names a user")
    if "?" in key:
        raise _bad("has a query", "the lock keeps the version that was read; leave the query out")
    if _BUCKET.fullmatch(bucket) is None:
        raise _bad("names no bucket", f"write {scheme}://bucket/key")
    if key.startswith("/"):
        raise _bad("has an empty folder at its beginning", f"write {scheme}://bucket/key")
    return Url(scheme, bucket, key)


def _hub(scheme: str, rest: str) -> Url:
    """``[datasets/]org/repo[@revision]/path``; a revision with slashes is quoted, but for ``refs/...``."""
    kind, _, below = rest.partition("/")
    above, rest = (f"{kind}/", below) if kind in _KINDS else ("", rest)
    org, _, rest = rest.partition("/")
    if "@" in org:
        raise _bad("names no repository", "write hf://org/repo@revision/file")
    head, at, after = rest.partition("@")
    if at and "/" not in head:
        refs = _REFS.match(after)
        revision = refs[1] if refs else after.partition("/")[0]
        repo, path = head, after[len(revision) + 1 :]
        revision = quote(unquote(revision), safe="")
        if not revision or ".." in unquote(revision):
            raise _bad("has no revision after '@'", "write hf://org/repo@revision/file")
    else:
        (repo, _, path), revision = rest.partition("/"), ""
    if _REPO.fullmatch(org) is None or _REPO.fullmatch(repo) is None or ".." in (org, repo):
        raise _bad("names no repository", "write hf://org/repo@revision/file")
    if "?" in path:
        raise _bad("has a query", "write hf://org/repo@revision/file")
    return Url(scheme, f"{above}{org}/{repo}" + (f"@{revision}" if revision else ""), path)


def _web(scheme: str, rest: str) -> Url:
    where, _, query = rest.partition("?")
    host, _, path = where.partition("/")
    if "@" in host:
        raise _secret("names a user")
    host = host.lower().removesuffix(":443" if scheme == "https" else ":80")
    if _HOST.fullmatch(host) is None:
        raise _bad("names no host", f"write {scheme}://host/path; names with other letters as punycode")
    named = next(
        (name for name, _ in parse_qsl(query, keep_blank_values=True) if _SECRET.fullmatch(name)), None
    )
    if named is not None:
        raise _secret(f"has '{named}' in its query")
    return Url(
        scheme, host, quote(path, safe="/%:@!$&'()*+,;=~-._"), quote(query, safe="/%:@!$&'()*+,;=~-._?")
    )


def _memory(scheme: str, rest: str) -> Url:
    root, _, path = rest.partition("/")
    return Url(scheme, root, path)


_PARSERS = {"s3": _bucket, "gs": _bucket, "hf": _hub, "https": _web, "http": _web, "memory": _memory}


def _bad(what: str, hint: str = "copy it again from where the file is") -> RecipeError:
    return RecipeError("bad-url", f"the URL {what}", hint=hint, option="load")


def _secret(what: str) -> RecipeError:
    return RecipeError(
        "url-with-secret",
        f"the URL {what}, and would be kept in the lock for all to read",
        hint="keep credentials where their makers look for them: ~/.netrc, ~/.aws, HF_TOKEN",
        option="load",
    )
