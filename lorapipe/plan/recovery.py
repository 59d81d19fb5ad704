"""From provenance back to a recipe: text that, run where the inputs are, makes the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lorapipe.errors import InputError, LorapipeError
from lorapipe.plan.files import Certainty, InputFile
from lorapipe.plan.graph import order, step_graph
from lorapipe.plan.lineage import Lineage, Source
from lorapipe.plan.resolve import lineage_of
from lorapipe.plan.restoring import Found, restored_steps
from lorapipe.plan.told import Told
from lorapipe.recipe.draft import Draft, render
from lorapipe.recipe.model import Recipe
from lorapipe.recipe.parsing import parse
from lorapipe.steps import find_kind

__all__ = ["Recovered", "recovered_recipe"]

_SUFFIX = ".safetensors"  # of the files that can tell of their making

_NOWHERE: Mapping[str, Found] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Recovered:
    """A recipe's text, and what may keep it from making the same bytes, a sentence each."""

    text: str
    warnings: tuple[str, ...] = ()


def recovered_recipe(told: Told, name: str, paths: Mapping[str, Found] = _NOWHERE) -> Recovered:
    """The recipe of what ``told`` tells; ``name`` is that of the file that tells it, a folder's with a slash.

    ``paths`` gives by sha256 where inputs lie as seen from the recipe; of the others the bare
    name is written, in a folder named after the digest where two share one. Options that do not
    change bytes were not told and are not in it.

    Raises :class:`~lorapipe.errors.InputError` ``not-recoverable`` where this lorapipe has no such
    steps or options.
    """
    files = _files(told.sources, paths)
    changed = tuple(_changed_kinds(told.lineage))
    elsewhere = tuple(_renamed(told.sources, paths))
    try:
        draft = Draft(
            dict(restored_steps(told.lineage, files, _output(told, name))),
            defaults={"device": told.profile.device, "compute": told.profile.compute},
            head=(*_head(told, name), *changed, *elsewhere),
        )
        text = _printable(render(draft))
        recipe = parse(text, "the recovered recipe")
        same = changed or _lineage(recipe, told.sources, files).digest == told.lineage.digest
    except (LorapipeError, ValueError) as error:
        # ValueError: numbers that no recipe can say, steps that read or write no file where they should.
        raise _not_recoverable(name, error) from error
    if not same:
        changed = ("its steps have other options in this lorapipe: bytes may differ",)
    return Recovered(text, (*changed, *elsewhere))


def _head(told: Told, name: str) -> Iterator[str]:
    profile = told.profile
    yield f"The recipe of {name}, from its metadata."
    yield f"Built with torch {profile.torch} on {profile.device}, computed in {profile.compute}."
    if told.epoch is not None:
        yield f"Built with SOURCE_DATE_EPOCH={told.epoch} in the environment: its date is in the file."


def _changed_kinds(lineage: Lineage) -> Iterator[str]:
    """Each kind of which this lorapipe has another version than the one that built the file."""
    versions = {ancestor.kind: ancestor.version for ancestor in lineage.ancestors()}
    for kind, version in versions.items():
        present = _version(kind)
        if present is not None and present != version:
            yield f"{kind} was version {version}, this lorapipe has {present}: bytes may differ"


def _version(kind: str) -> int | None:
    try:
        return find_kind(kind).version
    except LorapipeError:
        return None  # which the recipe's own check says better


def _renamed(sources: tuple[Source, ...], paths: Mapping[str, Found]) -> Iterator[str]:
    for source in sources:
        found = paths.get(source.sha256)
        if found is not None and Path(found.path).name != source.name:
            yield (
                f"'{source.name}' was found as '{Path(found.path).name}': the tensors come out the same,"
                " while the metadata will tell the new name"
            )


def _files(sources: tuple[Source, ...], paths: Mapping[str, Found]) -> dict[str, Found]:
    """What ``load`` is to say, by sha256."""
    shared = Counter(source.name for source in sources)
    bare = {
        source.sha256: source.name if shared[source.name] == 1 else f"{source.sha256[:12]}/{source.name}"
        for source in sources
    }
    return {sha256: paths.get(sha256, Found(name)) for sha256, name in bare.items()}


def _output(told: Told, name: str) -> str:
    """What ``to`` is to say: the file's own name, or that of a folder for one file of a folder."""
    stem = name.removesuffix("/").removesuffix(_SUFFIX)
    return f"{stem}/" if told.folder else f"{stem}{_SUFFIX}"


def _printable(text: str) -> str:
    """The text with what could steer a terminal or hide in an editor written as YAML's escapes."""
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _lineage(recipe: Recipe, sources: tuple[Source, ...], files: Mapping[str, Found]) -> Lineage:
    """The lineage of the recipe's one output, as a plan would make it once the inputs are hashed."""
    origins = {files[source.sha256].path: source for source in sources}
    lineages: dict[str, Lineage] = {}
    for name in order(step_graph(recipe)):
        step = recipe.steps[name]
        inputs = {
            port: tuple((term.weight, lineages[term.step]) for term in terms)
            for port, terms in step.inputs.items()
        }
        source = next((origins[file] for file in map(str, step.params.values()) if file in origins), None)
        file = None if source is None else InputFile(Path(source.name), 0, source.sha256, Certainty.PINNED)
        lineages[name] = lineage_of(step, find_kind(step.kind), inputs, file)
    return lineages[name]  # the last, of which every other is an ancestor


def _not_recoverable(name: str, error: Exception) -> InputError:
    told = [part.message for part in error.parts] if isinstance(error, LorapipeError) else [str(error)]
    return InputError(
        "not-recoverable",
        "this lorapipe has no recipe for what it tells of its making",
        hint="a newer lorapipe, or a package with further step kinds, may have built it",
        where=name,
        details=(*told[:5], *([f"and {len(told) - 5} more"] if len(told) > 5 else [])),
    )
