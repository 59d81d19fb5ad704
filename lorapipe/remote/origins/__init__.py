"""How the files of each scheme are asked for: their state, and ranges of their bytes."""

from __future__ import annotations

from lorapipe.remote.filesystem import filesystem
from lorapipe.remote.origins.origin import Answer, Origin
from lorapipe.remote.url import Url

__all__ = ["Answer", "Origin", "origin_of"]


def origin_of(url: Url) -> Origin:
    """Who to ask for ``url``. Raises as :func:`~lorapipe.remote.filesystem.filesystem`."""
    if url.scheme == "hf":
        from lorapipe.remote.origins.hub import Hub

        return Hub(url)
    files = filesystem(url)
    if url.scheme == "s3":
        from lorapipe.remote.origins.s3 import S3

        return S3(url, files)
    if url.scheme == "gs":
        from lorapipe.remote.origins.google import Google

        return Google(url, files)
    if url.scheme in ("http", "https"):
        from lorapipe.remote.origins.web import Web

        return Web(url, files)
    from lorapipe.remote.origins.plain import Plain

    return Plain(url, files)
