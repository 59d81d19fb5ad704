"""From an output back to its recipe: the metadata read, the inputs looked for by their digest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorapipe.build.digests import HashProgress
from lorapipe.build.records import Records
from lorapipe.errors import BuildError, InputError, RecipeError
from lorapipe.formats.files import SUFFIXES, open_tensors
from lorapipe.formats.folders.survey import is_folder
from lorapipe.plan.files import Digests, identify
from lorapipe.plan.lineage import Source
from lorapipe.plan.recovery import Recovered, recovered_recipe
from lorapipe.plan.restoring import Found
from lorapipe.plan.told import Told, read_provenance
from lorapipe.remote.url import Location
from lorapipe.store.atomic import atomic_write

__all__ = ["Recovery", "recover", "told_by", "write_recipe"]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What an output tells of its making, the recipe made of that, and the inputs that were not found."""

    told: Told
    recipe: Recovered
    missing: tuple[Source, ...]


def _quiet(path: Location, done: int, total: int) -> None:
    pass


def recover(
    path: Path, inputs: Sequence[Path] = (), beside: Path | None = None, progress: HashProgress = _quiet
) -> Recovery:
    """The recipe that built ``path``, a file or a folder, from its metadata.

    The inputs are looked for in the folders ``inputs`` by their sha256, those of the same name first;
    paths are written as seen from ``beside``, where the recipe is to lie (the working directory).

    Raises as :func:`~lorapipe.formats.files.open_tensors`, :func:`~lorapipe.plan.told.read_provenance`
    and :func:`~lorapipe.plan.recovery.recovered_recipe` do, and :class:`~lorapipe.errors.InputError`
    ``inputs-missing`` for a folder of ``inputs`` that is not there.
    """
    told = told_by(path)
    found: dict[str, Found] = {}
    if inputs:
        with Records(looking=False, progress=progress) as records:
            found = _search(told.sources, inputs, records.digests, Path.cwd() if beside is None else beside)
    name = Path(os.path.abspath(path)).name  # noqa: PTH100  # of a link its own name, as the user knows it
    recipe = recovered_recipe(told, f"{name}/" if path.is_dir() else name, found)
    missing = [source for source in told.sources if source.sha256 not in found]
    return Recovery(told, recipe, tuple(missing) if inputs else ())


def write_recipe(path: Path, text: str, *, force: bool = False) -> None:
    """Write a recipe's text. Raises :class:`~lorapipe.errors.BuildError` ``file-exists``."""
    if path.exists() and not force:
        raise BuildError(
            "file-exists", "it is there already", hint="name another, or say --force", where=str(path)
        )
    with atomic_write(path, label="recipe") as stream:
        stream.write(text.encode())


def told_by(path: Path) -> Told:
    """What a file or folder tells of its making. Raises as its reader and ``read_provenance`` do."""
    with open_tensors(path) as source:
        return read_provenance(source.metadata, str(path))


def _search(
    sources: Sequence[Source], folders: Iterable[Path], digests: Digests, beside: Path
) -> dict[str, Found]:
    """The inputs that lie in ``folders``, by sha256; what bears a wanted name is hashed before the rest."""
    wanted = {source.sha256: source.name for source in sources}
    found: dict[str, Found] = {}
    for path in sorted(_candidates(folders), key=lambda path: path.name not in wanted.values()):
        if not wanted.keys() - found.keys():
            break
        for sha256, variant in _digests_of(path, digests):
            if sha256 in wanted:
                relative = Path(os.path.relpath(path, beside)).as_posix()
                found.setdefault(sha256, Found(relative, variant))
    return found


def _candidates(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                "inputs-missing", "there is no such folder", hint="name another", where=str(folder)
            )
        yield folder
        for path in sorted(folder.rglob("*")):
            if path.is_dir() or (path.suffix.lower() in SUFFIXES and path.is_file()):
                yield path


def _digests_of(path: Path, digests: Digests) -> Iterator[tuple[str, str | None]]:
    """The sha256 of a file; of a folder of weights that of each of its variants."""
    for variant in (None, *_variants(path)) if is_folder(path) else (None,):
        try:
            sha256 = identify(path, None, None, digests, read=True, variant=variant).sha256
        except (InputError, RecipeError, OSError):
            continue  # no folder of weights, or one that nobody may read: not the one looked for
        if sha256 is not None:
            yield sha256, variant


def _variants(folder: Path) -> list[str]:
    """The words between dots that may name a variant: ``fp16`` of ``model.fp16.safetensors``."""
    files = (path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    words = {
        path.suffixes[-2].removeprefix(".").partition("-")[0] for path in files if len(path.suffixes) > 1
    }
    return sorted(words)
