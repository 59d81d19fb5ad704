"""How objects are brought to each scheme, so that they appear whole or not at all."""

from __future__ import annotations

from lorapipe.errors import RecipeError
from lorapipe.remote.filesystem import filesystem
from lorapipe.remote.targets.target import Target
from lorapipe.remote.url import Url

__all__ = ["Target", "check_writable", "target_of"]

_REMEDIES = {
    "hf": "save to a folder here, then 'hf upload REPO FOLDER' makes one commit of it",
    "https": "save to a file here, and upload it as the server wants it",
}


def check_writable(url: Url) -> None:
    """See that outputs can be written to a scheme.

    The Hub wants the sha256 of a file before the first of its bytes, which no stream knows. Raises
    :class:`~lorapipe.errors.RecipeError` ``remote-read-only``.
    """
    if url.scheme not in ("s3", "gs"):
        hint = _REMEDIES.get(url.scheme, _REMEDIES["https"])
        message = f"'{url.scheme}://' can be read, not written"
        raise RecipeError("remote-read-only", message, hint=hint, option="to")


def target_of(url: Url) -> Target:
    """What brings an object to ``url``.

    Raises as :func:`check_writable` and :func:`~lorapipe.remote.filesystem.filesystem`.
    """
    check_writable(url)
    files = filesystem(url)
    if url.scheme == "gs":
        from lorapipe.remote.targets.google import Google

        return Google(url, files)
    from lorapipe.remote.targets.s3 import S3

    return S3(url, files)
