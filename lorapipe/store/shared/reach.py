"""Whether two machines mean the same store by its name, and both may write it.

One leaves a token in it, the others see the token there: a folder of the same name on another disk
has none. :mod:`lorapipe.store.shared.layout` keeps tokens apart from results.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lorapipe.errors import BuildError
from lorapipe.remote.url import is_url
from lorapipe.store.paths import StorePaths
from lorapipe.store.places import find_places
from lorapipe.store.shared.bucket import Bucket, Missing, Trouble, open_bucket
from lorapipe.store.shared.layout import token_name

__all__ = ["Token", "leave_token", "see_token", "take_token"]

_BYTES = 16


@dataclass(frozen=True, slots=True)
class Token:
    """What was left in ``store``, a folder or a URL; it can be pickled and sent."""

    store: str
    name: str
    text: str


def leave_token(store: Path | str) -> Token:
    """Leave a token in a store, for :func:`see_token` elsewhere; :func:`take_token` takes it away again.

    Raises :class:`~lorapipe.errors.BuildError` ``store-unwritable``, and
    :class:`~lorapipe.errors.UsageError` as :func:`~lorapipe.store.places.find_places`.
    """
    token = Token(_spelt(store), token_name(os.urandom(_BYTES).hex()), os.urandom(_BYTES).hex())
    if not is_url(token.store):
        StorePaths(Path(token.store)).create()
    try:
        _bucket(token.store).write(token.name, token.text.encode())
    except Trouble as error:
        raise BuildError(
            "store-unwritable",
            f"the store {token.store} cannot be written: {error.reason}",
            hint="name another store, or see that you may write this one",
        ) from error
    return token


def see_token(token: Token) -> str | None:
    """Why its store cannot be used from here; ``None`` if it is the same store and can be written.

    Raises :class:`~lorapipe.errors.UsageError` ``extra-missing``.
    """
    store = token.store
    try:
        bucket = _bucket(store)
        (found,) = bucket.read([token.name], len(token.text))
        if isinstance(found, Trouble):
            raise found
        if found != token.text.encode():
            return f"{store} is not the same store here: it is another folder, or bucket, of that name"
    except Trouble as error:
        return f"{store} cannot be reached from here: {error.reason}"
    own = token_name(os.urandom(_BYTES).hex())
    try:
        bucket.write(own, b"")
        bucket.remove([own])
    except Trouble as error:
        return f"{store} cannot be written from here: {error.reason}"
    return None


def take_token(token: Token) -> None:
    """Take a token away; one that cannot be is cleared away with what is old."""
    with suppress(Trouble, Missing):
        _bucket(token.store).remove([token.name])


def _spelt(store: Path | str) -> str:
    if isinstance(store, str) and is_url(store):
        return str(find_places(store).shared)
    return str(find_places(store).root)


def _bucket(store: str) -> Bucket:
    if is_url(store):
        return open_bucket(store)
    from lorapipe.store.shared.folder import FolderBucket

    return FolderBucket(Path(store))
