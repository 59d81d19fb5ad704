"""Recipe text to a validated :class:`~lorapipe.recipe.model.Recipe`.

    text --read--> Document --instantiate(values)--> Recipe

A document is the text's nodes with their holes; what is inserted into them comes with
:func:`instantiate`, once for each set of values. All errors of a text are raised
together, in the order of their places.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from lorapipe.errors import InputError, LorapipeError
from lorapipe.recipe.assemble import assemble
from lorapipe.recipe.collisions import check_variants
from lorapipe.recipe.compose import MAX_BYTES, compose
from lorapipe.recipe.expansion import depending, draft_steps, expand
from lorapipe.recipe.holes import UNKNOWN, Value, check_inserted, fill, inserted, names_in
from lorapipe.recipe.language import Language, core_language
from lorapipe.recipe.matrix import axes_of, read_matrix
from lorapipe.recipe.model import Recipe
from lorapipe.recipe.nodes import MapNode, Node
from lorapipe.recipe.params import Given, values_in_force
from lorapipe.recipe.plugins import dotted_keys, find_schemas_of
from lorapipe.recipe.references import check_references
from lorapipe.recipe.source import Report, Source, Span
from lorapipe.recipe.top import check_top

__all__ = ["Document", "decode", "instantiate", "load_recipe", "parse", "read", "read_bytes"]

_UNFILLED = ("lorapipe", "params", "steps")
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
    axes = axes_of(root)
    values = values_in_force(params, axes, given, report)
    names = {**dict.fromkeys(axes or _perhaps_axes(root), UNKNOWN), **values}
    root = _fill(root, names, axes, report)
    check_top(root, language, report)
    matrix = read_matrix(root, values, report)
    entries = steps.entries if isinstance(steps, MapNode) else ()
    written = draft_steps(entries, names, matrix, language, report)
    drafts = [draft for step in written for drafts in step.drafts.values() for draft in drafts]
    check_references(drafts, dict.fromkeys(entry.name for entry in entries), report)
    depends = depending(written, matrix)
    check_variants(written, depends, matrix, report)
    report.raise_errors()
    assert isinstance(root, MapNode)
    expanded = expand(written, depends, matrix, report)
    return assemble(root, expanded, values, matrix, language, document.source)


def _perhaps_axes(root: Node) -> Iterable[str]:
    """What may be an axis of a matrix that cannot be read: of that nothing more is said."""
    steps = root.get("steps") if isinstance(root, MapNode) and root.get("matrix") is not None else None
    return () if steps is None else names_in(steps)


def _fill(root: Node, names: Mapping[str, Value], axes: Collection[str], report: Report) -> Node:
    """What stands around the steps, filled but where values come from; no axis has a value there."""
    if not isinstance(root, MapNode):
        return root
    around = [one for one in root.entries if one.name not in _UNFILLED and not one.name.startswith("x-")]
    check_inserted(((entry.value, names) for entry in around), report)
    filled = {entry.name: fill(entry.value, names, report) for entry in around}
    for hole in (hole for node in filled.values() for hole in inserted(node) if hole.name in axes):
        hint = f"steps take $({hole.name}): it has another value in each variant"
        report.add("axis-outside-steps", f"'{hole.name}' is an axis of the matrix", hole.span, hint)
    entries = (replace(one, value=filled.get(one.name, one.value)) for one in root.entries)
    return replace(root, entries=tuple(entries))
