"""What a file of weights is: what its header tells, its hashes, the figures of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lorapipe.build.digests import HashProgress
from lorapipe.build.engines.threads import default_workers, imported, ordered_map, single_threaded_torch
from lorapipe.build.records import Records
from lorapipe.errors import InputError, LorapipeError, ManyErrors, UsageError
from lorapipe.formats.adapters.read import read_adapter
from lorapipe.formats.checkpoints.read import read_checkpoint
from lorapipe.formats.files import open_tensors
from lorapipe.formats.folders.survey import is_folder
from lorapipe.formats.hashes import FileHashes, file_hashes, short_hashes
from lorapipe.formats.inspection import Inspection, inspect_file
from lorapipe.remote.url import Location, Url
from lorapipe.weights.each import Each
from lorapipe.weights.figures import Figures
from lorapipe.weights.inference.checking import Figure
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleId

__all__ = ["Look", "adapter_figures", "hashes_of", "look", "tensor_figures", "working"]


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a file so far: ``figures`` are a LoRA's, ``tensors`` a checkpoint's.

    ``trouble`` says why there are none although nobody asked to do without.
    """

    inspection: Inspection
    hashes: FileHashes | None = None
    figures: Mapping[ModuleId, Figures] | None = None
    tensors: Mapping[str, Figure] | None = None
    trouble: str | None = None


def look(
    path: Location,
    family: str | None = None,
    *,
    hashes: bool | None = None,
    norms: bool | None = None,
    spectra: bool = False,
    progress: HashProgress | None = None,
) -> Iterator[Look]:
    """A file in stages, each with all before it: at once what headers tell, then hashes, then figures.

    By default a LoRA is hashed and measured; of a checkpoint only a sha256 is told that is known
    from earlier commands. ``spectra`` has a LoRA measured in any case. Raises what the readers raise;
    what only the measuring finds fault with is :attr:`Look.trouble`, unless ``norms`` were asked for.
    """
    found = Look(inspect_file(path, family))
    yield found
    spec = found.inspection.spec
    lora = isinstance(spec, AdapterSpec)
    known = hashes_of(path, progress) if (lora if hashes is None else hashes) else None
    if known is None and hashes is None:
        known = _known_hashes(path)
    if known is not None:
        found = replace(found, hashes=known)
        yield found
    if not ((lora if norms is None else norms) or (lora and spectra)):
        return
    try:
        if isinstance(spec, AdapterSpec):
            yield replace(found, figures=adapter_figures(path, spec))
        else:
            yield replace(found, tensors=tensor_figures(path, spec))
    except (InputError, ManyErrors) as error:
        if norms:
            raise
        yield replace(found, trouble=_in_words(error))


def _in_words(error: LorapipeError) -> str:
    return "; ".join(one.message for one in error.parts)


def _known_hashes(path: Location) -> FileHashes | None:
    """What the memo of earlier commands has of a file or folder."""
    if isinstance(path, Url) and is_folder(path):
        return None
    with Records(looking=True) as records:
        sha256 = records.digests.known(path)
    return None if sha256 is None else short_hashes(path, sha256)


def hashes_of(path: Location, progress: HashProgress | None = None) -> FileHashes:
    """All hashes of a file; its sha256 is remembered, so that a later build need not read it for that.

    Raises :class:`~lorapipe.errors.InputError` as :func:`~lorapipe.store.digest.hash_file` does, and
    :class:`~lorapipe.errors.UsageError` ``no-hashes`` for a folder elsewhere.
    """
    if isinstance(path, Url) and is_folder(path):
        message, hint = "a folder elsewhere has no hashes", "name a file in it, or leave --hashes out"
        raise UsageError("no-hashes", message, hint=hint, where=str(path))
    with Records(looking=False, progress=progress or _unheard) as records:
        sha256 = records.digests.hash(path)
    with open_tensors(path) as source:
        return file_hashes(source, path, sha256)


def _unheard(path: Location, done: int, total: int) -> None:
    pass


def adapter_figures(path: Location, spec: AdapterSpec) -> Mapping[ModuleId, Figures]:
    """The figures of each module of a LoRA, a few modules in memory at a time.

    Raises as :func:`~lorapipe.formats.adapters.read.read_adapter` does, for NaN among others.
    """
    portrait = imported("lorapipe.weights.algebra.portrait").portrait  # it needs torch
    with open_tensors(path) as source, working() as each:
        figures: Mapping[ModuleId, Figures] = portrait(read_adapter(source, spec), each=each)
    return figures


def tensor_figures(path: Location, spec: CheckpointSpec) -> Mapping[str, Figure]:
    """The norm of each tensor of a checkpoint, and whether it is finite; a few slabs in memory at a time."""
    measure = imported("lorapipe.weights.checkpoints.measure").measure  # it needs torch
    with open_tensors(path) as source, working() as each:
        figures: Mapping[str, Figure] = measure(read_checkpoint(source, spec), each=each)
    return figures


@contextmanager
def working() -> Iterator[Each]:
    """A ``map`` on all cores, torch itself on one thread."""
    with single_threaded_torch():
        yield ordered_map(default_workers())
