"""From steps to specs: files found, results inferred, lineages made, all errors at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from lorapipe.errors import CheckFailed, LorapipeError, ManyErrors, Place, RecipeError
from lorapipe.formats.folders.survey import is_folder
from lorapipe.formats.shelf import Shelf
from lorapipe.plan.files import Digests, Folders, InputFile, find_input, identify
from lorapipe.plan.lineage import Lineage, Source
from lorapipe.plan.overlaps import Overlap, overlap
from lorapipe.plan.placing import place_output
from lorapipe.recipe.alike import alike
from lorapipe.recipe.language import FileUse, core_language, kind_schema
from lorapipe.recipe.model import Recipe, Step
from lorapipe.recipe.options import write
from lorapipe.remote.listing import at_revision
from lorapipe.remote.url import Location, Url
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Cost, Inputs, Kind, Weighted
from lorapipe.store.lockfile import LockedInput
from lorapipe.weights.specs import Spec

__all__ = ["Resolved", "by_place", "lineage_of", "placed", "resolve"]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A step with its kind, its files, and what its result will be."""

    step: Step
    kind: Kind
    spec: Spec
    cost: Cost
    files: Mapping[str, Location]
    source: InputFile | None
    lineage: Lineage | None
    warnings: tuple[str, ...]


def resolve(  # noqa: PLR0913  # what a recipe stands on, and what the lock says of it
    recipe: Recipe,
    order: Iterable[str],
    folders: Folders,
    digests: Digests,
    *,
    locked: Mapping[str, str],
    read: bool,
    left_out: Collection[str] = (),
    elsewhere: Mapping[str, LockedInput] = MappingProxyType({}),
    held: bool = False,
) -> dict[str, Resolved]:
    """Resolve every step, inputs before those that use them.

    ``locked`` maps load steps to the sha256 that the lock file holds, ``elsewhere`` those of URLs to all
    that it has of them; ``held`` to the lock, the Hub is asked for the commit that it names. ``read``
    hashes inputs that the memo does not know. A step above which something failed is passed
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
            known = _Known(digests, locked.get(name), elsewhere.get(name), held, read and wanted)
            with Shelf() as shelf:
                done[name] = _resolve_step(step, done, folders, known, shelf)
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
    known: _Known,
    shelf: Shelf,
) -> Resolved:
    kind = find_kind(step.kind)
    files, source = _files(step, folders, known, shelf)
    ports = {
        port: tuple(Weighted(t.step, t.weight, done[t.step].spec) for t in terms)
        for port, terms in step.inputs.items()
    }
    inputs: Inputs[Spec] = Inputs(ports, files, shelf)
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


@dataclass(frozen=True, slots=True)
class _Known:
    """What decides the identity of a step's input; ``locked`` and ``elsewhere`` are the lock's."""

    digests: Digests
    locked: str | None
    elsewhere: LockedInput | None
    held: bool
    read: bool

    def identify(self, path: Location, step: Step, shelf: Shelf) -> InputFile:
        """The input as it is, or for a build that is held to the lock, the Hub's as it was."""
        pin = cast("str | None", step.params.get("sha256"))
        variant = cast("str | None", step.params.get("variant"))
        was = self.elsewhere
        if self.held and was is not None and isinstance(path, Url):
            then = at_revision(path, was.revision)
            path = then if str(then) == was.path else path
        return identify(
            path,
            pin,
            self.locked,
            self.digests,
            read=self.read,
            variant=variant,
            elsewhere=was,
            shelf=shelf,
        )


def _files(
    step: Step, folders: Folders, known: _Known, shelf: Shelf
) -> tuple[dict[str, Location], InputFile | None]:
    files: dict[str, Location] = {}
    source = None
    for option, use in _file_options(step.kind).items():
        name = str(step.params[option])
        if use is FileUse.OUTPUT:
            files[option] = place_output(name, folders)
        else:
            pin = cast("str | None", step.params.get("sha256"))
            source = known.identify(find_input(name, pin, folders, known.digests), step, shelf)
            files[option] = source.path
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
    """The error, or each of several, with its place in the recipe: the option at fault, or the step.

    The variants of a step have one place: of them it is told which values they have.
    """
    for one in error.parts:
        place = step.places.get(one.option or step.kind, step.place)
        if isinstance(one.where, str) and "load" in step.params:
            # The name as the recipe has it: the reader knows no other.
            one.where = str(step.params["load"])
        if step.axes and one.step is None and not isinstance(one, CheckFailed):  # which names its step
            values = ", ".join(f"{axis}: {write(value)}" for axis, value in step.axes.items())
            one.message = f"{one.message} (with {values})"
        yield one.located(where=place, step=step.id)


def by_place(error: LorapipeError) -> tuple[int, int]:
    """Where in the recipe an error stands: what sorts errors."""
    return (error.where.line, error.where.column) if isinstance(error.where, Place) else (0, 0)


def _clashes(done: Mapping[str, Resolved]) -> Iterable[LorapipeError]:
    """Two steps that write one file or one inside the other, and outputs that are also inputs."""
    inputs = {name: r.files["load"] for name, r in done.items() if "load" in r.files}
    targets = {r.files["to"]: name for name, r in done.items() if "to" in r.files}
    writers: dict[Location, str] = {}
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
