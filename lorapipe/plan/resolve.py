"""From steps to specs: files found, results inferred, lineages made, all errors at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lorapipe.errors import LorapipeError, ManyErrors, Place, RecipeError
from lorapipe.formats.folders.survey import is_folder
from lorapipe.plan.files import Digests, Folders, InputFile, find_input, identify, place_output
from lorapipe.plan.lineage import Lineage, Source
from lorapipe.plan.overlaps import Overlap, overlap
from lorapipe.recipe.alike import alike
from lorapipe.recipe.language import FileUse, core_language, kind_schema
from lorapipe.recipe.model import Recipe, Step
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Cost, Inputs, Kind, Weighted
from lorapipe.weights.specs import Spec

__all__ = ["Resolved", "by_place", "lineage_of", "placed", "resolve"]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A step with its kind, its files, and what its result will be."""

    step: Step
    kind: Kind
    spec: Spec
    cost: Cost
    files: Mapping[str, Path]
    source: InputFile | None
    lineage: Lineage | None
    warnings: tuple[str, ...]


def resolve(
    recipe: Recipe,
    order: Iterable[str],
    folders: Folders,
    digests: Digests,
    *,
    locked: Mapping[str, str],
    read: bool,
    left_out: Collection[str] = (),
) -> dict[str, Resolved]:
    """Resolve every step, inputs before those that use them.

    ``locked`` maps load steps to the sha256 that the lock file holds; ``read`` hashes
    inputs that the memo does not know. A step above which something failed is passed
    over, so that one mistake is one message; a step that is ``left_out`` is passed over where something
    is wrong with it, and none of its inputs is hashed. Raises
    :class:`~lorapipe.errors.ManyErrors` with all errors of all steps, those of the variants of one once.
    """
    done: dict[str, Resolved] = {}
    failed: dict[str, list[tuple[LorapipeError, ...]]] = {}
    for name in order:
        step = recipe.steps[name]
        if any(term.step not in done for term in step.terms()):
            continue
        try:
            wanted = name not in left_out
            done[name] = _resolve_step(step, done, folders, digests, locked.get(name), read and wanted)
        except LorapipeError as error:
            if wanted:
                failed.setdefault(step.written, []).append(tuple(placed(error, step)))
    errors = [error for found in failed.values() for error in alike(found)]
    errors.extend(_clashes(done))
    if errors:
        raise ManyErrors(sorted(errors, key=by_place))
    return done


def _resolve_step(
    step: Step,
    done: Mapping[str, Resolved],
    folders: Folders,
    digests: Digests,
    locked: str | None,
    read: bool,
) -> Resolved:
    kind = find_kind(step.kind)
    files, source = _files(step, folders, digests, locked, read)
    ports = {
        port: tuple(Weighted(t.step, t.weight, done[t.step].spec) for t in terms)
        for port, terms in step.inputs.items()
    }
    inputs: Inputs[Spec] = Inputs(ports, files)
    spec = kind.infer(inputs, step.params)
    return Resolved(
        step=step,
        kind=kind,
        spec=spec,
        cost=kind.cost(inputs, step.params, spec),
        files=files,
        source=source,
        lineage=_lineage(step, kind, done, source),
        warnings=kind.warn(inputs, step.params, spec),
    )


def _files(
    step: Step, folders: Folders, digests: Digests, locked: str | None, read: bool
) -> tuple[dict[str, Path], InputFile | None]:
    files: dict[str, Path] = {}
    source = None
    for option, use in _file_options(step.kind).items():
        name = str(step.params[option])
        if use is FileUse.OUTPUT:
            files[option] = place_output(name, folders)
        else:
            pin = cast("str | None", step.params.get("sha256"))
            variant = cast("str | None", step.params.get("variant"))
            files[option] = find_input(name, pin, folders, digests)
            source = identify(files[option], pin, locked, digests, read=read, variant=variant)
    return files, source


def _file_options(kind: str) -> Mapping[str, FileUse]:
    language = core_language()
    if kind in language.kinds:
        return language.kind(kind).files
    return kind_schema(kind, find_kind(kind).schema or {}, language.files).files


def _lineage(
    step: Step, kind: Kind, done: Mapping[str, Resolved], source: InputFile | None
) -> Lineage | None:
    if source is not None and source.sha256 is None:
        return None
    inputs: dict[str, tuple[tuple[float, Lineage], ...]] = {}
    for port, terms in step.inputs.items():
        above = [(t.weight, done[t.step].lineage) for t in terms]
        known = tuple((weight, lineage) for weight, lineage in above if lineage is not None)
        if len(known) < len(above):
            return None
        inputs[port] = known
    return lineage_of(step, kind, inputs, source)


def lineage_of(
    step: Step,
    kind: Kind,
    inputs: Mapping[str, tuple[tuple[float, Lineage], ...]],
    source: InputFile | None,
) -> Lineage:
    """A step's lineage from those of its inputs; ``source`` is the file that it loads, hashed."""
    params = {name: value for name, value in step.params.items() if name not in kind.keyless}
    origin = Source(source.path.name, source.sha256) if source and source.sha256 else None
    return Lineage(step.kind, kind.version, params, inputs, origin)


def placed(error: LorapipeError, step: Step) -> Iterator[LorapipeError]:
    """The error, or each of several, with its place in the recipe: the option at fault, or the step."""
    for one in error.parts:
        place = step.places.get(one.option or step.kind, step.place)
        if isinstance(one.where, str) and "load" in step.params:
            # The name as the recipe has it: the reader knows no other.
            one.where = str(step.params["load"])
        yield one.located(where=place, step=step.id)


def by_place(error: LorapipeError) -> tuple[int, int]:
    """Where in the recipe an error stands: what sorts errors."""
    return (error.where.line, error.where.column) if isinstance(error.where, Place) else (0, 0)


def _clashes(done: Mapping[str, Resolved]) -> Iterable[LorapipeError]:
    """Two steps that write one file or one inside the other, and outputs that are also inputs."""
    inputs = {name: r.files["load"] for name, r in done.items() if "load" in r.files}
    targets = {r.files["to"]: name for name, r in done.items() if "to" in r.files}
    writers: dict[Path, str] = {}
    for name, resolved in done.items():
        target = resolved.files.get("to")
        if target is None:
            continue
        step = resolved.step
        place = step.places.get("to", step.place)
        if target in writers:
            yield RecipeError(
                "output-collision",
                f"'{name}' and '{writers[target]}' write the same file",
                hint="give each its own 'to'",
                where=place,
                step=name,
            )
        writers.setdefault(target, name)
        above = next((folder for folder in target.parents if folder in targets), None)
        if above is not None:
            yield RecipeError(
                "output-collision",
                f"'{name}' would write into the file that '{targets[above]}' writes",
                hint="give each its own 'to'",
                where=place,
                step=name,
            )
        clash = overlap(target, inputs)
        if clash is not None:
            how, loader = clash
            sort = "folder" if is_folder(inputs[loader]) else "file"
            yield RecipeError(
                "output-in-input" if how is Overlap.INSIDE else "output-is-input",
                f"'{name}' would {how.value} the {sort} that '{loader}' loads",
                hint="write to another folder" if how is Overlap.INSIDE else "write to another name",
                where=place,
                step=name,
            )
