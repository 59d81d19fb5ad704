"""The file system of fsspec that speaks a URL's scheme, and its faults as errors of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lorapipe.errors import BuildError, InputError, LorapipeError, UsageError
from lorapipe.remote.url import Url

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem

__all__ = ["EXTRAS", "faults", "filesystem", "without"]

_RETRIES = frozenset({"AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"})
"""The user's own say in how often S3 is asked again."""

EXTRAS = {"s3": "s3", "gs": "gs", "hf": "hf", "https": "http", "http": "http"}
"""Scheme -> the extra of lorapipe that brings what speaks it."""


def filesystem(url: Url) -> AbstractFileSystem:
    """The file system that ``url`` lies on, one a process and a set of options.

    Credentials and options come from where the libraries look for them (AWS_*, ~/.aws,
    GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN, ~/.netrc, FSSPEC_* and ~/.config/fsspec); none are
    given here. Listings are not kept: a build asks again. Raises
    :class:`~lorapipe.errors.UsageError` ``extra-missing``, and as :func:`faults`.
    """
    try:
        import fsspec
    except ImportError as error:
        raise without(url) from error
    options: dict[str, Any] = {"use_listings_cache": False} if url.scheme != "hf" else {}
    if url.scheme in ("http", "https"):
        options["client_kwargs"] = {"trust_env": True}  # proxies and ~/.netrc, as other programs do
    if url.scheme == "s3" and not _RETRIES.intersection(os.environ):
        # s3fs asks again, and so do we: with botocore's five times five, nobody would hear why for minutes.
        given = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = {"retries": {"total_max_attempts": 1}, **given}
    with faults(url):
        try:
            return fsspec.filesystem(url.scheme, **options)
        except ImportError as error:
            raise without(url) from error


@contextmanager
def faults(url: Url, *, writing: bool = False) -> Iterator[None]:
    """Turn what the network and its libraries raise inside into errors about ``url``.

    They become :class:`~lorapipe.errors.InputError`, or when ``writing``
    :class:`~lorapipe.errors.BuildError`: ``remote-missing``, ``remote-forbidden``,
    ``remote-unreachable``, ``remote-timeout``, ``remote-failing``, ``input-changed``. Mistakes of
    the program itself, and lorapipe's own errors, pass.
    """
    try:
        yield
    except LorapipeError:
        raise
    except Exception as error:
        from lorapipe.remote.reasons import is_foreign, reason_of

        if not is_foreign(error):
            raise
        reason = reason_of(error, url)
        sort = BuildError if writing else InputError
        raise sort(reason.code, reason.message, hint=reason.hint, where=str(url)) from error


def without(url: Url) -> UsageError:
    """The error for a scheme whose library is not installed."""
    extra = EXTRAS.get(url.scheme, "remote")
    return UsageError(
        "extra-missing",
        f"'{url.scheme}://' needs what lorapipe's extra '{extra}' brings",
        hint=f"pip install 'lorapipe[{extra}]'",
        where=str(url),
        option="load",
    )
