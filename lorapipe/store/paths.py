"""Where the store lives, and where each thing lies in it.

    <root>/
      CACHEDIR.TAG              tells backup programs that this can be made again
      index.sqlite              memo, journal, use of the entries
      blobs/<aa>/<sha256>       results, named by their content
      manifests/<aa>/<key>.json which result a key has, and what the key was made of
      locks/<key>.lock          kernel locks: one process builds, the others wait
      pins/<key>                empty files: what the size budget leaves alone
      temp/                     files being written

Nothing here touches the disk but :meth:`StorePaths.create`, which writers call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lorapipe.errors import BuildError
from lorapipe.store.digest import is_sha256
from lorapipe.store.places import another_folder, find_places

__all__ = ["StorePaths", "store_root", "unwritable"]

_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# This folder is lorapipe's store. It can be deleted: what is needed is built again.
"""


def store_root(environment: Mapping[str, str] | None = None) -> Path:
    """The folder of the store, as :func:`~lorapipe.store.places.find_places` finds it."""
    return find_places(environment=environment).root


@dataclass(frozen=True, slots=True)
class StorePaths:
    """The layout of a store under ``root``. Keys and digests are 64 hexadecimal digits."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "index.sqlite"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def manifests(self) -> Path:
        return self.root / "manifests"

    @property
    def temp(self) -> Path:
        return self.root / "temp"

    def blob(self, sha256: str) -> Path:
        return self.blobs / _checked(sha256)[:2] / sha256

    def manifest(self, key: str) -> Path:
        return self.manifests / _checked(key)[:2] / f"{key}.json"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def pins(self) -> Path:
        return self.root / "pins"

    def lock(self, key: str) -> Path:
        return self.locks / f"{_checked(key)}.lock"

    def pin(self, key: str) -> Path:
        return self.pins / _checked(key)

    def create(self) -> None:
        """Make root and ``temp``, for their owner alone: manifests name the files a LoRA was made of.

        A root that exists keeps its mode, so that a team may share one. Raises
        :class:`~lorapipe.errors.BuildError` ``store-unwritable``.
        """
        if self.temp.is_dir():
            return
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            if not self.root.is_dir():
                self.root.mkdir(mode=0o700, exist_ok=True)
                (self.root / "CACHEDIR.TAG").write_text(_TAG, encoding="ascii")
            self.temp.mkdir(exist_ok=True)
        except OSError as error:
            raise unwritable(self.root, error) from error


def unwritable(root: Path, error: BaseException) -> BuildError:
    """The error for a store that cannot be written."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return BuildError(
        "store-unwritable",
        f"the store {root} cannot be written: {reason}",
        hint=another_folder(),
    )


def _checked(digest: str) -> str:
    # Keys come back to us from lock files and manifests: one with a slash in it must not become a path.
    if not is_sha256(digest):
        raise ValueError(f"not a sha256 in hexadecimal: {digest!r}")
    return digest
