"""Where stores are: a folder of this machine, and behind it the one that a team shares, if there is one.

    LORAPIPE_STORE    LORAPIPE_SHARED_STORE    results are kept in        and shared by
    -                 -                        the user's cache folder    nobody
    /fast/disk        -                        /fast/disk                 nobody
    s3://team/loras   -                        the user's cache folder    s3://team/loras
    -                 s3://team/loras          the user's cache folder    s3://team/loras
    /fast/disk        s3://team/loras          /fast/disk                 s3://team/loras

A shared store has a URL: ``s3://bucket/prefix``, ``gs://bucket/prefix``, or ``file:///folder`` for a
folder that several machines mount.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lorapipe.errors import LorapipeError, UsageError
from lorapipe.remote.url import is_url, parse_url

__all__ = ["SHARED_VARIABLE", "VARIABLE", "Places", "another_folder", "find_places"]

VARIABLE = "LORAPIPE_STORE"
"""The environment variable that puts the store elsewhere: a folder, or the URL of a shared one."""

SHARED_VARIABLE = "LORAPIPE_SHARED_STORE"
"""The one that names a shared store beside a folder in :data:`VARIABLE`."""

_SCHEMES = ("s3", "gs", "file")

_HINT = "write s3://bucket/prefix, gs://bucket/prefix, or file:///folder for a folder of several machines"


@dataclass(frozen=True, slots=True)
class Places:
    """The folder ``root`` of the store, and the URL of the one that it shares with others."""

    root: Path
    shared: str | None = None


def find_places(
    store: Path | str | None = None,
    shared: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Places:
    """Where the stores are, as the module's table says; ``store`` and ``shared`` are its two columns.

    Where one of the two is given, the environment is not asked. A relative path counts from the
    working folder; an empty variable is none at all.

    Raises :class:`~lorapipe.errors.UsageError`: ``bad-shared-store`` for what is no place for one,
    ``two-shared-stores``.
    """
    names = ("store", "shared_store")
    if store is None and shared is None:
        given = os.environ if environment is None else environment
        store, shared, names = given.get(VARIABLE) or None, given.get(SHARED_VARIABLE) or None, _VARIABLES
    if isinstance(store, str) and is_url(store):
        if shared is not None:
            raise UsageError(
                "two-shared-stores",
                f"{names[0]} and {names[1]} both name a shared store",
                hint=f"name a folder in {names[0]}, or unset one of the two",
            )
        return Places(_cache_folder(), _checked(store, names[0]))
    root = _cache_folder() if store is None else Path(store).expanduser().absolute()
    return Places(root, None if shared is None else _checked(shared, names[1]))


_VARIABLES = (VARIABLE, SHARED_VARIABLE)


def another_folder() -> str:
    """The remedy for a store's folder that is of no use."""
    if is_url(os.environ.get(VARIABLE, "")):
        return f"name a folder in {VARIABLE}, and the shared store in {SHARED_VARIABLE}"
    return f"name another folder in {VARIABLE}"


def _cache_folder() -> Path:
    import platformdirs  # not needed where a folder is named

    return Path(platformdirs.user_cache_dir("lorapipe", appauthor=False))


def _checked(url: str, named: str) -> str:
    """A shared store's URL in one spelling, without a slash at its end."""
    scheme, mark, rest = url.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in _SCHEMES:
        raise _bad(f"{named} names no shared store: '{url[:80]}'")
    if scheme == "file":
        if not rest.startswith("/") or not rest.strip("/") or not rest.isprintable():
            raise _bad(f"{named}: a shared folder is named by its whole path, not '{url[:80]}'")
        return "file:///" + os.path.normpath(rest).lstrip("/")
    try:
        return str(parse_url(url)).rstrip("/")
    except LorapipeError as error:
        if error.code == "url-with-secret":  # which would be shown wherever the store is named
            raise _bad(f"{named} has credentials in it", error.hint) from error
        raise _bad(f"{named}: {error.message}") from error


def _bad(message: str, hint: str | None = _HINT) -> UsageError:
    return UsageError("bad-shared-store", message, hint=hint)
