"""A shared store in a folder that several machines mount: a file server, a cluster's scratch disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lorapipe.errors import BuildError
from lorapipe.store.atomic import stage
from lorapipe.store.contents import walk
from lorapipe.store.reading import open_regular
from lorapipe.store.shared.bucket import GoOn, Item, Missing, Trouble, go_on

if TYPE_CHECKING:
    from lorapipe.store.atomic import Staged

__all__ = ["FolderBucket"]

_CHUNK = 1 << 22


class FolderBucket:
    """A folder as a :class:`~lorapipe.store.shared.bucket.Bucket`.

    It must be there: one that is made anew would hide that the file server is not mounted.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, names: Sequence[str], most: int, waiting: GoOn = go_on) -> list[bytes | Missing | Trouble]:
        found = []
        for name in names:
            waiting()
            found.append(self._read(name, most))
        return found

    def _read(self, name: str, most: int) -> bytes | Missing | Trouble:
        try:
            with self._faults(), open_regular(self._root / name) as file:
                return file.read(most + 1)
        except (Missing, Trouble) as error:
            return error

    def chunks(self, name: str, size: int, waiting: GoOn = go_on) -> Iterator[bytes]:
        with self._faults():
            file = open_regular(self._root / name)
        with file:
            while size > 0:
                with self._faults():
                    chunk = file.read(min(size, _CHUNK))
                if not chunk:
                    return
                size -= len(chunk)
                yield chunk
                waiting()

    def size(self, name: str) -> int | None:
        try:
            with self._faults():
                return (self._root / name).stat().st_size
        except Missing:
            return None

    def write(self, name: str, data: bytes, *, replace: bool = True) -> bool:
        path = self._root / name
        with self._writing(path) as staged:
            staged.file.write(data)
            staged.seal()
            if replace:
                staged.publish()
                return True
            try:
                path.hardlink_to(staged.temp)  # unlike a rename it leaves alone what is there
            except FileExistsError:
                return False
            except OSError:  # a file system without links: two that write at once are rare
                if path.exists():
                    return False
                staged.publish()
            return True

    def send(self, name: str, file: Path, sent: Callable[[int], None]) -> None:
        with open_regular(file) as source, self._writing(self._root / name) as staged:
            while chunk := source.read(_CHUNK):
                staged.file.write(chunk)
                sent(len(chunk))
            staged.publish()

    def listing(self, folder: str) -> Iterator[Item]:
        with self._faults():
            if not self._root.is_dir():
                raise Trouble("there is no such folder")
            if not (self._root / folder).is_dir():
                return
            for name, regular in walk(self._root / folder, f"{folder}/"):
                # Another machine may take it away meanwhile.
                with suppress(FileNotFoundError):
                    found = (self._root / name).stat()
                    if regular:
                        yield Item(name, found.st_size, found.st_mtime_ns)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(Missing), self._faults():
                (self._root / name).unlink()

    @contextmanager
    def _writing(self, path: Path) -> Iterator[Staged]:
        with self._faults():
            if not self._root.is_dir():
                raise Trouble("there is no such folder")
            try:
                with stage(path, label="shared") as staged:
                    yield staged
            except BuildError as error:
                denied = isinstance(error.__cause__, PermissionError)
                raise Trouble(_said(error.__cause__ or error), refused=denied) from error

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if not self._root.is_dir():
                raise Trouble("there is no such folder") from error
            raise Missing from error
        except OSError as error:
            raise Trouble(_said(error), refused=isinstance(error, PermissionError)) from error


def _said(error: BaseException) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{said[:1].lower()}{said[1:]}"
