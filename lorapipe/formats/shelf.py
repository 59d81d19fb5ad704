"""What is open while a step is looked at: each folder surveyed once, each file opened once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorapipe.formats.containers.tensor_file import TensorFile
from lorapipe.formats.files import open_tensors
from lorapipe.formats.folders.survey import FolderContents, survey
from lorapipe.formats.folders.tensor_folder import TensorFolder
from lorapipe.remote.url import Location

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Shelf"]


class Shelf:
    """Files and folders of weights, open until it is closed or forgotten.

    What lies elsewhere takes a request or more to survey and to open, and several ask for it: the
    identity of an input, its spec, its cost.
    """

    __slots__ = ("_opened", "_surveyed")

    def __init__(self) -> None:
        self._surveyed: dict[tuple[Location, str | None], FolderContents] = {}
        self._opened: dict[tuple[Location, str | None], TensorFile | TensorFolder] = {}

    def survey(self, path: Location, variant: str | None = None) -> FolderContents:
        """As :func:`~lorapipe.formats.folders.survey.survey`; known, too, by the place where it stays so."""
        found = self._surveyed.get((path, variant))
        if found is None:
            found = survey(path, variant)
            self._surveyed[path, variant] = self._surveyed[found.root, variant] = found
        return found

    def tensors(self, path: Location, variant: str | None = None) -> TensorFile | TensorFolder:
        """As :func:`~lorapipe.formats.files.open_tensors`; the shelf closes it."""
        found = self._opened.get((path, variant))
        if found is None:
            contents = self._surveyed.get((path, variant))
            found = open_tensors(path, variant) if contents is None else TensorFolder.of(path, contents)
            self._opened[path, variant] = found
        return found

    def close(self) -> None:
        """Close all that is open; closing twice is nothing."""
        for source in self._opened.values():
            source.close()
        self._opened.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
