"""Results that stay, whatever the size budget says.

A pin is an empty file named by its key and not a row in the database, which may be thrown away.
It stays while its result comes and goes.
"""

from __future__ import annotations

from lorapipe.store.digest import is_sha256
from lorapipe.store.paths import StorePaths, unwritable

__all__ = ["Pins"]


class Pins:
    """The pinned keys of a store."""

    def __init__(self, paths: StorePaths) -> None:
        self._paths = paths

    def keys(self) -> frozenset[str]:
        try:
            return frozenset(path.name for path in self._paths.pins.iterdir() if is_sha256(path.name))
        except OSError:
            return frozenset()

    def add(self, key: str) -> bool:
        """Pin a key; False if it was. Raises :class:`~lorapipe.errors.BuildError` ``store-unwritable``."""
        if key in self.keys():
            return False
        self._paths.create()
        try:
            self._paths.pins.mkdir(exist_ok=True)
            self._paths.pin(key).touch()
        except OSError as error:
            raise unwritable(self._paths.root, error) from error
        return True

    def remove(self, key: str) -> bool:
        """Let a key go; False if it was not pinned. Raises as :meth:`add`."""
        try:
            self._paths.pin(key).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise unwritable(self._paths.root, error) from error
        return True
