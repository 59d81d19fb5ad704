"""The recipe language as values, read from the schemas and from nothing else.

A kind's ports, files, options and defaults all follow from its schema: a property
that refers to ``step`` or ``terms`` of the common definitions is a port, one that
refers to ``input-file`` or ``output-file`` is a file, the rest are parameters. A map among
these may have ports inside, which go by both names: ``energy.of``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Any

from lorapipe.recipe.model import JSON
from lorapipe.recipe.schemas import Schema, find_schemas, inline, read_schemas

__all__ = [
    "HOLE",
    "NAME",
    "RESERVED",
    "FileUse",
    "KindSchema",
    "Language",
    "Option",
    "Port",
    "choices",
    "closed",
    "core_language",
    "kind_schema",
    "language_of",
]

NAME = r"[a-z][a-z0-9_-]*"
"""The pattern of a step's id and of a param's name."""

HOLE = rf"\$\({NAME}\)"
"""The pattern of ``$(name)``, letter for letter as the schemas write it."""

RESERVED = ("id", "name", "uses", "with", "when", "kind", "device", "compute")
"""Keys that no step may have, kept for later versions of the language."""

_NOTE = "description"


class Port(Enum):
    """What a port takes."""

    STEP = "step"
    TERMS = "terms"


class FileUse(Enum):
    """What becomes of a file that an option names."""

    INPUT = "input-file"
    OUTPUT = "output-file"


@dataclass(frozen=True, slots=True)
class Option:
    """One key of a step. ``schema`` has its references inlined.

    ``inner`` are the ports among the keys of a map.
    """

    name: str
    schema: Schema
    required: bool
    port: Port | None = None
    file: FileUse | None = None
    inner: Mapping[str, Port] = field(default_factory=dict)

    @property
    def ports(self) -> Mapping[str, Port]:
        """The option itself if it is a port, or those inside, as ``option.key``."""
        own = {} if self.port is None else {self.name: self.port}
        return {**own, **{f"{self.name}.{key}": port for key, port in self.inner.items()}}

    @property
    def parts(self) -> tuple[Option, ...]:
        """The keys of the map that it takes, if it takes one with keys of its own: ``score.by``."""
        required = self.schema.get("required", ())
        return tuple(
            Option(f"{self.name}.{key}", fragment, key in required, self.inner.get(key))
            for key, fragment in self.schema.get("properties", {}).items()
        )

    @property
    def default(self) -> JSON:
        """The schema's default, or ``None``."""
        default: JSON = self.schema.get("default")
        return default

    @property
    def description(self) -> str:
        return str(self.schema.get("description", ""))

    @property
    def examples(self) -> tuple[JSON, ...]:
        return tuple(self.schema.get("examples", ()))

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that the option takes, where it takes only these."""
        return choices(self.schema)

    @property
    def also_known_as(self) -> Mapping[str, str]:
        """Words that people write instead, each with the word meant: an option or a value."""
        return MappingProxyType(dict(self.schema.get("x-also-known-as", {})))


@dataclass(frozen=True, slots=True)
class KindSchema:
    """What a recipe can say of one step kind.

    ``schema`` is the kind's own, references inlined and holes admitted, ``closed``
    the same without places for holes (:func:`closed`). ``options`` are its keys in
    the schema's order, the main one (the kind's name) first, without
    ``description``, which every step has.
    """

    name: str
    schema: Schema
    closed: Schema
    options: Mapping[str, Option]

    @property
    def main(self) -> Option:
        """The key that names the kind and holds the step's main input."""
        return self.options[self.name]

    @property
    def ports(self) -> Mapping[str, Port]:
        """What refers to steps, in order: options, and keys inside of options."""
        return MappingProxyType({n: port for o in self.options.values() for n, port in o.ports.items()})

    @property
    def last(self) -> bool:
        """Whether no step can take what comes of it: a file, or nothing (``x-gives: nothing``)."""
        return FileUse.OUTPUT in self.files.values() or self.schema.get("x-gives") == "nothing"

    @property
    def files(self) -> Mapping[str, FileUse]:
        """The options that name files, in order."""
        return MappingProxyType({o.name: o.file for o in self.options.values() if o.file is not None})

    @property
    def params(self) -> tuple[str, ...]:
        """The options that are not ports: what the kind's function is given."""
        return tuple(o.name for o in self.options.values() if o.port is None)

    @property
    def defaults(self) -> Mapping[str, JSON]:
        """The options that have a default, with it."""
        return MappingProxyType({o.name: o.default for o in self.options.values() if "default" in o.schema})

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(o.name for o in self.options.values() if o.required)

    @property
    def summary(self) -> str:
        """One line on what the kind does."""
        return str(self.schema.get("title", self.name))

    @property
    def description(self) -> str:
        return str(self.schema.get("description", ""))

    @property
    def also_known_as(self) -> Mapping[str, str]:
        """Words that people write instead of the kind's name."""
        return MappingProxyType(dict(self.schema.get("x-also-known-as", {})))


@dataclass(frozen=True, slots=True)
class Language:
    """The kinds of steps, and the schema of what stands around them.

    ``top`` is the recipe's schema, references inlined and closed, in which a step is
    anything.
    ``files`` are the schema sources, from which a bundle is made.
    """

    kinds: Mapping[str, KindSchema]
    top: Schema
    files: Mapping[str, Schema]

    def kind(self, name: str) -> KindSchema:
        """One kind by name; ``KeyError`` where there is no such kind."""
        return self.kinds[name]

    def having(self, option: str) -> Iterator[KindSchema]:
        """The kinds that have an option of this name."""
        return (kind for kind in self.kinds.values() if option in kind.options)

    def extended(self, schemas: Mapping[str, Schema]) -> Language:
        """The language with further kinds, each the whole schema of a step."""
        further = {name: kind_schema(name, schema, self.files) for name, schema in schemas.items()}
        return replace(self, kinds=MappingProxyType({**self.kinds, **further}))


def language_of(files: Mapping[str, Schema]) -> Language:
    """The language that a folder of schemas describes (:func:`~.schemas.read_schemas`)."""
    recipe = dict(files["recipe.v1"])
    names = recipe.pop("definitions")["any-step"]["then"]["dependencies"]
    steps = {**recipe["properties"]["steps"], "additionalProperties": True}
    top = inline({**recipe, "properties": {**recipe["properties"], "steps": steps}}, files, "recipe.v1")
    kinds = {name: kind_schema(name, files[name], files) for name in names}
    return Language(MappingProxyType(kinds), closed(top), files)


@cache  # the files of an installed package do not change while it runs
def core_language() -> Language:
    """The language of the schemas that came with this lorapipe."""
    return language_of(read_schemas(find_schemas()))


def kind_schema(name: str, schema: Schema, files: Mapping[str, Schema]) -> KindSchema:
    """One kind from its schema file's content."""
    required = schema.get("required", [])
    options = {
        key: Option(
            name=key,
            schema=inline(fragment, files),
            required=key in required,
            port=_referred(fragment, Port),
            file=_referred(fragment, FileUse),
            inner=_inner_ports(fragment),
        )
        for key, fragment in schema["properties"].items()
        if key != _NOTE
    }
    whole = inline(schema, files)
    return KindSchema(name, whole, closed(whole), MappingProxyType(options))


def closed(schema: Any) -> Any:
    """``schema`` without the places for ``$(name)``: what holds once holes are filled.

    A type that admits text only for a hole loses the text, a pattern loses the
    alternative: else the text ``$(r)`` (written ``$$(r)``) would pass for a rank.
    """
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    pattern = result.get("pattern")
    if pattern == f"^{HOLE}$":
        del result["pattern"]
        result["type"] = [name for name in result["type"] if name != "string"]
    elif isinstance(pattern, str):
        result["pattern"] = pattern.replace(f"|{HOLE}", "")
    return result


def _referred(fragment: Schema, values: type[Any]) -> Any:
    """The member of ``values`` whose common definition ``fragment`` refers to, or None."""
    _, _, name = str(fragment.get("$ref", "")).rpartition("#/definitions/")
    return next((member for member in values if member.value == name), None)


def _inner_ports(fragment: Schema) -> Mapping[str, Port]:
    found = {key: _referred(inner, Port) for key, inner in fragment.get("properties", {}).items()}
    return MappingProxyType({key: port for key, port in found.items() if port is not None})


def choices(schema: Schema) -> tuple[str, ...]:
    """The words that a scalar takes, where it takes only a few: ``examples`` lists them, first the words.

    Words are written as a pattern (``^(?:one|two|HOLE)$``), because ``enum`` would
    refuse a hole; editors complete from ``examples``.
    """
    pattern, examples = str(schema.get("pattern", "")), schema.get("examples", ())
    words = pattern.removeprefix("^(?:").removesuffix(")$").split("|")
    takes_words = pattern.startswith("^(?:") and words[0] in examples
    return tuple(one for one in examples if isinstance(one, str)) if takes_words else ()
