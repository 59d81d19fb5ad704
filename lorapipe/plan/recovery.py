"""From provenance back to a recipe: text that, run where the inputs are, makes the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lorapipe.errors import InputError, LorapipeError
from lorapipe.plan.files import Certainty, InputFile
from lorapipe.plan.graph import order, step_graph
from lorapipe.plan.lineage import Lineage, Source
from lorapipe.plan.resolve import lineage_of
from lorapipe.plan.told import Told
from lorapipe.recipe.draft import Draft, literal, render
from lorapipe.recipe.language import FileUse, KindSchema, Port, core_language
from lorapipe.recipe.model import JSON, Recipe
from lorapipe.recipe.parsing import parse
from lorapipe.recipe.plugins import find_schemas_of
from lorapipe.steps import find_kind

__all__ = ["Found", "Recovered", "recovered_recipe"]

_SUFFIX = ".safetensors"  # of the files that can tell of their making


@dataclass(frozen=True, slots=True)
class Found:
    """Where an input lies, as its recipe would say it; of a folder, which of its variants it is."""

    path: str
    variant: str | None = None


_UNTOLD: Mapping[str, JSON] = MappingProxyType({"unmatched": "warn"})
"""Options that change no byte and so were not told; without them a build that went well may be refused."""

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
            dict(_steps(told.lineage, files, _output(told, name))),
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


def _schema(kind: str) -> KindSchema | None:
    core = core_language()
    if "." in kind:
        return core.extended(find_schemas_of([kind])).kinds.get(kind)
    return core.kinds.get(kind)


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


def _steps(
    last: Lineage, files: Mapping[str, Found], output: str
) -> Iterator[tuple[str, Mapping[str, JSON]]]:
    """The steps by id, inputs first; a step that another takes twice is written twice."""
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    bodies: dict[str, dict[str, JSON]] = {}

    def new(lineage: Lineage) -> str:
        stem = lineage.kind.replace(".", "-")
        counts[stem] += 1
        return f"{stem}-{counts[stem]}"

    schema = _schema(last.kind)
    if schema is not None and FileUse.OUTPUT not in schema.files.values():
        raise ValueError(f"'{last.kind}' writes no file")
    for lineage in last.ancestors():
        taken: dict[str, str] = {}
        for parent in _twice(lineage):
            twin = new(parent)
            yield twin, bodies[parent.digest]
            taken[twin] = parent.digest
        bodies[lineage.digest] = _body(lineage, names, taken, files, output)
        names[lineage.digest] = new(lineage)
        yield names[lineage.digest], bodies[lineage.digest]


def _twice(lineage: Lineage) -> Iterator[Lineage]:
    """What a port takes again: a step's id stands only once among a step's terms."""
    for terms in lineage.inputs.values():
        seen: set[str] = set()
        for _, parent in terms:
            if parent.digest in seen:
                yield parent
            seen.add(parent.digest)


def _body(
    lineage: Lineage,
    names: Mapping[str, str],
    twins: Mapping[str, str],
    files: Mapping[str, Found],
    output: str,
) -> dict[str, JSON]:
    """One step's options, its kind's own key first."""
    spare: dict[str, list[str]] = {}
    for twin, digest in twins.items():
        spare.setdefault(digest, []).append(twin)
    ports = {port: _terms(lineage.kind, port, terms, names, spare) for port, terms in lineage.inputs.items()}
    body: dict[str, JSON] = {}
    if lineage.kind in ports:
        body = {lineage.kind: ports.pop(lineage.kind)}
    body |= ports
    known = _schema(lineage.kind)
    for option, use in ({} if known is None else known.files).items():
        if use is FileUse.OUTPUT:
            body[option] = literal(output)
        elif lineage.source is not None:
            found = files[lineage.source.sha256]
            body |= {option: literal(found.path), "sha256": lineage.source.sha256}
            body |= {} if found.variant is None else {"variant": found.variant}
    if lineage.source is not None and "sha256" not in body:
        raise ValueError(f"'{lineage.kind}' reads no file")
    # What is told never says which file to read or to write.
    body |= {key: _literal(value) for key, value in lineage.params.items() if key not in body}
    return body | {key: value for key, value in _UNTOLD.items() if known and key in known.options}


def _terms(
    kind: str,
    port: str,
    terms: tuple[tuple[float, Lineage], ...],
    names: Mapping[str, str],
    spare: dict[str, list[str]],
) -> JSON:
    """A port's terms: the bare id where it takes one step, or one with weight 1."""
    weighted: dict[str, JSON] = {}
    for weight, parent in terms:
        name = names[parent.digest]
        weighted[spare[parent.digest].pop(0) if name in weighted else name] = weight
    known = _schema(kind)
    single = known is not None and known.ports.get(port) is Port.STEP
    if len(weighted) == 1 and (single or list(weighted.values()) == [1.0]):
        return next(iter(weighted))
    return weighted


def _literal(value: JSON) -> JSON:
    """The value with every text standing for itself."""
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, list):
        return [_literal(item) for item in value]
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    return value


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
    errors: Any = getattr(error, "errors", (error,))
    told = [_sentence(each) for each in errors]
    return InputError(
        "not-recoverable",
        "this lorapipe has no recipe for what it tells of its making",
        hint="a newer lorapipe, or a package with further step kinds, may have built it",
        where=name,
        details=(*told[:5], *([f"and {len(told) - 5} more"] if len(told) > 5 else [])),
    )


def _sentence(error: Exception) -> str:
    return error.message if isinstance(error, LorapipeError) else str(error)
