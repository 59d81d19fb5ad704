"""An architecture's table as values: what its YAML says, not yet written out.

The language of the tables is described at the head of ``tables/parts/ldm.yaml``;
:mod:`lorapipe.architectures.expansion` writes the rows out. A table is package data, so
that a fault in it is an internal one (:class:`~lorapipe.errors.LorapipeError`, code
``architecture-table``).

A table is two YAML documents: a short head by which a family is found, and the rest,
which is read only when a file may belong to the family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from lorapipe.architectures.target import Part
from lorapipe.errors import LorapipeError

__all__ = ["Component", "Head", "Naming", "Row", "Table", "Walk", "bad_table", "parse_head", "parse_table"]

# A pure-Python yaml still works, ten times slower.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KINDS = frozenset({"linear", "conv1x1", "conv3x3", "conv", "norm", "embedding", "parameter"})
_BREAK = "\n---\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is known of a family before its table is read: names for it, and signs of it in names.

    Every name that the family knows has one of the ``signs`` in its beginning (the part
    before the first number between dots or underscores), those with a ``^`` at the very start.
    ``variant_of`` is another family, for which a file that fits both alike is taken.
    """

    name: str
    title: str
    source: str
    aliases: tuple[str, ...]
    signs: tuple[str, ...]
    starts: tuple[str, ...]
    variant_of: str | None = None

    def may_know(self, beginning: str) -> bool:
        """Whether names that begin so may be the family's."""
        return beginning.startswith(self.starts) or any(sign in beginning for sign in self.signs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How one kind of file spells a component's modules, or stores its tensors.

    The name is ``prefix`` and the module's name on one side (``spells``: ``path`` is
    diffusers', ``key`` the checkpoint's, or a further side of the table), with
    ``separator`` for each dot and the level ``without`` left out.
    """

    prefix: str
    separator: str = "."
    spells: str = "path"
    without: str = ""

    def spell(self, name: str) -> str:
        """The whole name of what is called ``name`` on the naming's side."""
        if self.without:
            name = name.removeprefix(self.without)
        return self.prefix + (name if self.separator == "." else name.replace(".", self.separator))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a table; see the head of ``tables/parts/ldm.yaml``."""

    path: str = ""
    key: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    only: str | None = None
    kind: str | None = None
    rows: tuple[Part, ...] = ()
    transpose: bool = False
    features: tuple[str | None, str | None] = (None, None)
    each: Mapping[str, str] = field(default_factory=dict)
    along: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)
    part: str | None = None
    modules: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Component:
    """One model of the family: the group a recipe weighs it by, its rows, and its spellings.

    ``namings`` give each module one canonical name each; names by ``also`` are
    understood and never written. ``stored`` says how checkpoints spell its tensors, the
    reference layout first. ``blocks`` maps names of blocks, ``{n}`` in them a number of two
    digits, to the beginnings of their keys.
    """

    name: str
    group: str
    prefix: str
    sizes: Mapping[str, int]
    rows: tuple[Row, ...]
    namings: Mapping[str, Naming]
    also: tuple[Naming, ...]
    stored: tuple[Naming, ...]
    blocks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Walk:
    """The order in which ``named_modules`` meets a model's layers, and where classes stand."""

    order: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]

    def place(self, path: str) -> tuple[tuple[int, str], ...]:
        """Sorts paths as the walk meets them; numbered siblings stand in their own order."""
        return tuple(
            (int(s), "") if s.isdigit() else (self.order.index(s), "") if s in self.order else (0, s)
            for s in path.split(".")
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A whole table. ``sides`` maps each further side to the one that it falls back to.

    ``modelspec`` is what trainers write of a LoRA under these keys of the ModelSpec standard.
    ``block_lists`` are the blocks that lists of values are for, ``block_presets`` such lists
    with a name, ``block_names`` further names of blocks.
    """

    head: Head
    components: Mapping[str, Component]
    parts: Mapping[str, tuple[Row, ...]]
    sides: Mapping[str, str]
    positions: Mapping[str, tuple[str, Walk]]
    metadata: Mapping[str, tuple[str, ...]]
    modelspec: Mapping[str, str] = field(default_factory=dict)
    block_lists: tuple[tuple[str, ...], ...] = ()
    block_presets: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    block_names: Mapping[str, str] = field(default_factory=dict)


def bad_table(name: str, problem: str) -> LorapipeError:
    """The error of a table that contradicts itself."""
    return LorapipeError("architecture-table", f"the table of {name} is wrong: {problem}")


def parse_head(name: str, text: str) -> Head:
    """Read the first document of the table ``name``."""
    try:
        return _head(name, _load(text.partition(_BREAK)[0]))
    except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise bad_table(name, f"{type(error).__name__}: {error}") from error


def parse_table(name: str, text: str, shared: Mapping[str, str] | None = None) -> Table:
    """Read the YAML of the table ``name``; ``shared`` holds the YAML of what it includes."""
    try:
        head, _, body = text.partition(_BREAK)
        raw = {**_load(head), **(_load(body) if body else {})}
        return _table(name, raw, [_load((shared or {})[part]) for part in raw.get("include", ())])
    except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise bad_table(name, f"{type(error).__name__}: {error}") from error


def _load(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(text, Loader=_Loader)  # noqa: S506  # a safe loader, in C where there is one
    return found


def _head(name: str, raw: Mapping[str, Any]) -> Head:
    signs = raw.get("signs", ())
    return Head(
        name=name,
        title=raw["title"],
        source=raw["source"],
        aliases=tuple(raw.get("aliases", ())),
        variant_of=raw.get("variant-of"),
        signs=tuple(sign for sign in signs if not sign.startswith("^")),
        starts=tuple(sign[1:] for sign in signs if sign.startswith("^")),
    )


def _table(name: str, raw: Mapping[str, Any], included: list[dict[str, Any]]) -> Table:
    parts: dict[str, tuple[Row, ...]] = {}
    walks: dict[str, Walk] = {}
    sides: dict[str, str] = {}
    lists: tuple[tuple[str, ...], ...] = ()
    presets: dict[str, tuple[float, ...]] = {}
    also: dict[str, str] = {}
    for source in (*included, raw):
        parts |= {part: _rows(rows) for part, rows in source.get("parts", {}).items()}
        walks |= {walk: _walk(w) for walk, w in source.get("walks", {}).items()}
        sides |= source.get("sides", {})
        listed = source.get("block-lists", {})
        lists += tuple(_block_list(names) for names in listed.get("lists", ()))
        presets |= {name: tuple(map(float, values)) for name, values in listed.get("presets", {}).items()}
        also |= listed.get("also", {})
    return Table(
        head=_head(name, raw),
        components={n: _component(n, c) for n, c in raw["components"].items()},
        parts=parts,
        sides=sides,
        positions={m: (p["component"], walks[p["walk"]]) for m, p in raw.get("positions", {}).items()},
        metadata={key: tuple(patterns) for key, patterns in raw.get("metadata", {}).items()},
        modelspec=raw.get("modelspec", {}),
        block_lists=lists,
        block_presets=presets,
        block_names=also,
    )


def _component(name: str, raw: Mapping[str, Any]) -> Component:
    prefix = raw["key"] + "." if raw["key"] else ""
    also = tuple(Naming(**fields) for fields in raw.get("also", ()))
    stored = [Naming(prefix=prefix, spells="key")]
    for wrapping in raw.get("wrappings", ()):
        fields = {"prefix": wrapping} if isinstance(wrapping, str) else wrapping
        stored.append(Naming(**{"spells": "key", **fields}))
    if "folder" in raw:
        levels = dict.fromkeys(("", *(naming.without for naming in also)))
        stored += [Naming(prefix=f"{raw['folder']}/", without=level) for level in levels]
    return Component(
        name=name,
        group=raw["group"],
        prefix=prefix,
        sizes=raw.get("sizes", {}),
        rows=_rows(raw["modules"]),
        namings={n: Naming(**fields) for n, fields in raw["namings"].items()},
        also=also,
        stored=tuple(dict.fromkeys(stored)),
        blocks=raw.get("blocks", {}),
    )


def _block_list(names: list[str]) -> tuple[str, ...]:
    """Names of blocks, ``IN04..05`` being IN04 and IN05."""
    found: list[str] = []
    for name in names:
        first, _, last = name.partition("..")
        stem = first.rstrip("0123456789")
        number = first[len(stem) :]
        found += [f"{stem}{n:02}" for n in range(int(number), int(last) + 1)] if last else [first]
    return tuple(found)


def _walk(raw: Mapping[str, Any]) -> Walk:
    return Walk(tuple(raw["order"]), {c: tuple(where) for c, where in raw["classes"].items()})


def _rows(raw: list[dict[str, Any]]) -> tuple[Row, ...]:
    return tuple(_row(**fields) for fields in raw)


def _row(**fields: Any) -> Row:
    """A row with its types; an unknown field is a TypeError of the dataclass."""
    if "modules" in fields:
        fields["modules"] = _rows(fields["modules"])
    if "rows" in fields:
        fields["rows"] = _parts(fields["rows"])
    if "features" in fields:
        fields["features"] = tuple(None if f is None else str(f) for f in fields["features"])
    row = Row(**fields)
    if [row.kind is None, row.part is None, not row.modules].count(False) != 1:
        raise ValueError(f"row {row.path!r} needs one of kind, part, modules")
    if row.kind is not None and row.kind not in _KINDS:
        raise ValueError(f"row {row.path!r} has the unknown kind {row.kind!r}")
    if row.only not in (None, "path", "key", "names"):
        raise ValueError(f"row {row.path!r} is on the unknown side {row.only!r} only")
    return row


def _parts(raw: list[Any]) -> tuple[Part, ...]:
    """``[a, b, n]``, or several of them in the module's own order."""
    triples = raw if isinstance(raw[0], list) else [raw]
    parts = tuple((first, last, n) for first, last, n in triples)
    if len({n for _, _, n in parts}) != 1 or not all(0 <= first < last <= n for first, last, n in parts):
        raise ValueError(f"rows {raw} are no parts of one tensor")
    return parts
