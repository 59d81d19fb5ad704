"""A recipe that an importer fills in, step by step."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from lorapipe.recipe.draft import Draft, literal, step_id
from lorapipe.recipe.model import JSON

__all__ = ["Sheet"]

_NONE: Mapping[str, JSON] = MappingProxyType({})


class Sheet:
    """Steps in the order in which they were added.

    Paths that are given are relative to ``here``, where the command ran; those that are
    written, to ``folder``, the recipe's. ``about`` tells of given files what is noted behind
    their steps.
    """

    def __init__(self, folder: Path, here: Path, about: Mapping[str, str] = MappingProxyType({})) -> None:
        self._folder = folder
        self._here = here
        self._steps: dict[str, Mapping[str, JSON]] = {}
        self._remarks: dict[str, Sequence[str]] = {}
        self._head: list[str] = []
        self._about = about
        self._notes: dict[str, str] = {}
        self.params: dict[str, JSON] = {}
        self.matrix: dict[str, JSON] = {}
        self.defaults: dict[str, JSON] = {}

    def add(self, name: str, options: Mapping[str, JSON], *remarks: str) -> str:
        """Add a step under ``name``, or a numbered one where it is taken; the id that it got."""
        step = step_id(name, self._steps)
        self._steps[step] = options
        if remarks:
            self._remarks[step] = remarks
        return step

    def load(self, given: str, options: Mapping[str, JSON] = _NONE, *, name: str | None = None) -> str:
        """A ``load`` of a file; the step's id is ``name``, else made of the file's."""
        step = self.add(name or Path(given).stem, {"load": self.written(given), **options})
        if given in self._about:
            self._notes[step] = self._about[given]
        return step

    def remark(self, step: str, *texts: str) -> None:
        """Put comments above a step, below those that it has."""
        self._remarks[step] = (*self._remarks.get(step, ()), *texts)

    def save(
        self,
        step: str,
        given: str,
        options: Mapping[str, JSON] = _NONE,
        *,
        name: str = "out",
        varies: str = "",
    ) -> str:
        """A ``save``; a folder that is not the recipe's, or in it, is said in a remark.

        ``varies`` is the name of an axis whose value becomes part of the file's name.
        """
        remarks = []
        to = self.written(given)
        if to.startswith("../") or Path(to).is_absolute():
            root = Path(to).parent.as_posix()
            remarks.append(f"Outputs stay in the recipe's folder: run with --output-root {root}")
            to = Path(to).name + ("/" if to.endswith("/") else "")
        if varies:
            stem, dot, suffix = to.rpartition(".")
            to = f"{stem}-$({varies}){dot}{suffix}"
        return self.add(name, {"save": step, "to": to, **options}, *remarks)

    def tell(self, *texts: str) -> None:
        """Add comments to the recipe's head."""
        self._head.extend(texts)

    def written(self, given: str) -> str:
        """A path as the recipe says it: from its folder, with forward slashes, one at the end kept."""
        path = Path(given)
        if not path.is_absolute():
            path = Path(os.path.relpath(self._here / path, self._folder))
        return literal(path.as_posix() + ("/" if given.endswith("/") else ""))

    def found(self, given: str) -> Path:
        """Where a file is that the command named."""
        return self._here / given

    def draft(self, name: str | None = None) -> Draft:
        return Draft(
            self._steps,
            name=name,
            params=self.params,
            matrix=self.matrix,
            defaults=self.defaults,
            head=self._head,
            remarks=self._remarks,
            notes=self._notes,
        )
