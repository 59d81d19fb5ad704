"""From a lineage back to steps: what a recipe would say, from which the same lineage follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lorapipe.plan.lineage import Lineage
from lorapipe.recipe.draft import literal
from lorapipe.recipe.language import FileUse, KindSchema, Port, core_language
from lorapipe.recipe.model import JSON
from lorapipe.recipe.plugins import find_schemas_of

__all__ = ["Found", "restored_steps"]

_UNTOLD: Mapping[str, JSON] = MappingProxyType({"unmatched": "warn"})
"""Options that change no byte and so were not told; without them a build that went well may be refused."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where an input lies, as its recipe would say it; of a folder, which of its variants it is."""

    path: str
    variant: str | None = None


def restored_steps(
    last: Lineage, files: Mapping[str, Found], output: str
) -> Iterator[tuple[str, Mapping[str, JSON]]]:
    """The steps by id, inputs first; a step that another takes twice is written twice.

    ``last`` is the lineage of a step that writes a file, ``files`` what ``load`` is to say of each
    input by its sha256, ``output`` what the last step is to say of its file. Texts stand for themselves.

    Raises ``ValueError`` for steps that read or write no file where they should, and
    :class:`~lorapipe.errors.LorapipeError` for a third party's kind that cannot be used.
    """
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


def _schema(kind: str) -> KindSchema | None:
    core = core_language()
    if "." in kind:
        return core.extended(find_schemas_of([kind])).kinds.get(kind)
    return core.kinds.get(kind)
