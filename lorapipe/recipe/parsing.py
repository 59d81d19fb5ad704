"""Recipe text to a validated :class:`~lorapipe.recipe.model.Recipe`.

    text --read--> Document --instantiate(values)--> Recipe

A document is the text's nodes with their holes; what is inserted into them comes with
:func:`instantiate`, once for each set of values. All errors of a text are raised
together, in the order of their places.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from lorapipe.errors import InputError, LorapipeError
from lorapipe.recipe.assemble import assemble
from lorapipe.recipe.compose import MAX_BYTES, compose
from lorapipe.recipe.holes import MAX_INSERTED, Value, fill, inserted_size
from lorapipe.recipe.kinds import draft_step
from lorapipe.recipe.language import Language, core_language
from lorapipe.recipe.model import Recipe
from lorapipe.recipe.nodes import MapNode, Node
from lorapipe.recipe.params import Given, values_in_force
from lorapipe.recipe.plugins import dotted_keys, find_schemas_of
from lorapipe.recipe.references import check_references
from lorapipe.recipe.source import Report, Source, Span
from lorapipe.recipe.top import check_top

__all__ = ["Document", "decode", "instantiate", "load_recipe", "parse", "read", "read_bytes"]

_UNFILLED = ("lorapipe", "params", "matrix")
_NO_PARAMS: Mapping[str, Given] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Document:
    """A recipe's text as nodes, holes unfilled, and the errors that left it readable."""

    source: Source
    root: Node
    errors: tuple[LorapipeError, ...] = ()


def load_recipe(path: str | Path, params: Mapping[str, Given] | None = None) -> Recipe:
    """The recipe of a file; ``params`` as for :func:`parse`.

    Raises :class:`~lorapipe.errors.InputError` for a file that is missing or cannot be
    read, and what :func:`parse` raises.
    """
    return parse(read_text(path), str(path), params)


def parse(text: str, file: str = "recipe.yaml", params: Mapping[str, Given] | None = None) -> Recipe:
    """The recipe of a text; ``file`` is the name that errors give.

    ``params`` replace the recipe's own: Python values, or settings from ``--set``
    (:func:`~.params.parse_setting`).

    Raises :class:`~lorapipe.errors.RecipeError` (for params,
    :class:`~lorapipe.errors.UsageError`), or :class:`~lorapipe.errors.ManyErrors` of them.
    """
    return instantiate(read(text, file), params or _NO_PARAMS)


def read_text(path: str | Path) -> str:
    """The text of a recipe file, which is UTF-8 and not endless."""
    return decode(read_bytes(path), str(path))


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a recipe file, up to one more than a recipe may have.

    Raises :class:`~lorapipe.errors.InputError` ``recipe-unreadable``.
    """
    try:
        with Path(path).open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError("recipe-unreadable", reason.lower(), where=str(path)) from error
    except ValueError as error:  # a NUL in the path
        raise InputError("recipe-unreadable", str(error), where=repr(str(path))) from error


def decode(data: bytes, file: str) -> str:
    """Bytes of a recipe as text; a byte order mark is dropped."""
    if len(data) > MAX_BYTES:
        Report(Source("", file)).fatal(
            "recipe-too-long", f"a recipe has at most {MAX_BYTES} bytes", Span(0, 0, 0, 1)
        )
    data = data.removeprefix(BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        source = Source(data.decode(errors="replace"), file)
        good = data[: error.start].decode()
        report = Report(source)
        hint = "save the file as UTF-8"
        report.fatal(
            "not-utf8", f"the byte 0x{data[error.start]:02x} is not UTF-8", source.span_at(len(good)), hint
        )


def read(text: str, file: str = "recipe.yaml") -> Document:
    """Text to nodes. Raises what leaves nothing to read; keeps the other errors."""
    source = Source(text.removeprefix("\ufeff"), file)
    report = Report(source)
    root = compose(report)
    return Document(source, root, report.errors)


def instantiate(document: Document, given: Mapping[str, Given], language: Language | None = None) -> Recipe:
    """A document with its holes filled, checked whole.

    ``given`` are values for params; ``language`` is the core language unless said
    otherwise, and is extended by the third-party kinds that the document uses.
    """
    report = Report(document.source, document.errors)
    root = document.root
    steps = root.get("steps") if isinstance(root, MapNode) else None
    language = language or core_language()
    dotted = dotted_keys(steps) - language.kinds.keys()
    if dotted:
        language = language.extended(find_schemas_of(dotted))
    params = root.get("params") if isinstance(root, MapNode) else None
    values = values_in_force(params, given, report)
    root = _fill(root, _with_axes(values, root), report)
    check_top(root, language, report)
    steps = root.get("steps") if isinstance(root, MapNode) else None
    entries = steps.entries if isinstance(steps, MapNode) else ()
    ids = dict.fromkeys(entry.name for entry in entries)
    drafts = [draft for entry in entries for draft in draft_step(entry, language, ids, report)]
    check_references(drafts, ids, report)
    report.raise_errors()
    assert isinstance(root, MapNode)
    return assemble(root, drafts, values, language, document.source)


def _with_axes(values: Mapping[str, Value], root: Node) -> dict[str, Value]:
    """The values, and each axis of a matrix as a name without one."""
    matrix = root.get("matrix") if isinstance(root, MapNode) else None
    axes = [entry.name for entry in matrix.entries] if isinstance(matrix, MapNode) else []
    return {**{axis: Value(None, "", known=False) for axis in axes}, **values}


def _fill(root: Node, values: Mapping[str, Value], report: Report) -> Node:
    """Every hole filled, but in the places where values come from."""
    if not isinstance(root, MapNode):
        return root
    if inserted_size(root, values) > MAX_INSERTED:
        hint = "write long texts where they stand"
        message = f"what $(name) inserts is longer than {MAX_INSERTED} characters in all"
        report.fatal("too-much-inserted", message, root.span, hint)
    entries = tuple(
        entry
        if entry.name in _UNFILLED or entry.name.startswith("x-")
        else replace(entry, value=fill(entry.value, values, report))
        for entry in root.entries
    )
    return replace(root, entries=entries)
