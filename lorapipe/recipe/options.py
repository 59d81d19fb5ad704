"""A step's options against its kind's schema, and what to do about the wrong ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lorapipe.recipe.check import Finding, Problem, check, word_value
from lorapipe.recipe.holes import holes_in
from lorapipe.recipe.language import KindSchema, Language, Port
from lorapipe.recipe.nodes import Entry, ListNode, MapNode, Node, Scalar, show
from lorapipe.recipe.schemas import Schema
from lorapipe.recipe.source import Report
from lorapipe.recipe.suggest import did_you_mean, nearest

__all__ = ["Draft", "check_options", "check_values", "write"]

_NOTE = "description"  # the one key that every step has


@dataclass(frozen=True, slots=True)
class Draft:
    """A step as far as it could be read: its id, its kind, its keys.

    ``sound`` is false where the kind had to be guessed or there are two: then its
    references are looked up, but nothing is concluded from them.
    """

    key: Scalar
    kind: KindSchema
    node: MapNode
    sound: bool = True

    @property
    def id(self) -> str:
        return self.key.text


def write(value: object) -> str:
    """A JSON value as a recipe would write it, in flow style.

    >>> write({"char": 1.0, "style": [True, "a b"]})
    '{char: 1.0, style: [true, a b]}'
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {write(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(write(one) for one in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def check_options(draft: Draft, language: Language, ids: Collection[str], report: Report) -> None:
    """Note everything that the kind's schema refuses; ``ids`` are the recipe's steps."""
    findings = list(check(draft.node, draft.kind.closed))
    unknown = [f.names[0] for f in findings if f.problem is Problem.UNKNOWN_KEY and not f.path]
    meant = {_meant(name, draft.kind) for name in unknown}
    for finding in findings:
        if finding.problem is Problem.UNKNOWN_KEY:
            _unknown_key(finding, draft, language, ids, report)
        elif finding.problem is Problem.MISSING_KEY and not meant.intersection(finding.names):
            _missing_key(finding, draft, report)
        elif finding.problem is Problem.BAD_VALUE:
            _bad_value(finding, draft, report)


def check_values(draft: Draft, report: Report) -> None:
    """Note wrong values only: for a kind that is not certain, the rest is not, either."""
    for finding in check(draft.node, draft.kind.closed):
        if finding.problem is Problem.BAD_VALUE:
            _bad_value(finding, draft, report)


def _bad_value(finding: Finding, draft: Draft, report: Report) -> None:
    option = draft.kind.options.get(str(finding.path[0])) if finding.path else None
    is_inside = len(finding.path) > 1 and isinstance(finding.path[1], str)
    if option is not None and option.port is not None and not is_inside:
        if finding.keyword != "pattern":  # an id that cannot be one is no step: references say so
            _bad_port(finding, option.name, option.port, draft, report)
        return
    if option is not None and is_inside and finding.path[1] in option.inner and finding.keyword == "pattern":
        return
    message, span, hint = word_value(finding)
    report.add("bad-value", message, span, hint)


def _bad_port(finding: Finding, name: str, port: Port, draft: Draft, report: Report) -> None:
    node, hint = finding.node, None
    if finding.keyword in ("minItems", "minProperties"):
        report.add("bad-value", f"'{name}' takes at least one step", node.span)
        return
    takes = "the id of one step" if port is Port.STEP else "a step's id, a list of ids, or a map id: weight"
    if len(finding.path) > 1:
        takes = "ids of steps"
        braces = _braces(draft, name)
        hint = f"weights go in braces, {braces}" if braces and isinstance(node, MapNode) else None
    elif port is Port.STEP and not isinstance(node, Scalar):
        hint = "to use several at once, give them a step of their own"
    report.add("bad-value", f"'{name}' takes {takes}, not {show(node)}", node.span, hint)


def _unknown_key(
    finding: Finding, draft: Draft, language: Language, ids: Collection[str], report: Report
) -> None:
    (name,) = finding.names
    node = finding.node
    if holes_in(name) or not isinstance(node, MapNode):
        return  # a hole in a key has been refused already
    entry = next(one for one in node.entries if one.name == name)
    if finding.path:
        options = list(finding.schema.get("properties", {}))
        hint = did_you_mean(name, options, _also(finding.schema)) or f"it takes {', '.join(options)}"
        report.add("unknown-option", f"'{finding.path[-1]}' has no '{name}'", entry.key.span, hint)
        return
    hint = _option_hint(entry, draft, language, ids)
    report.add("unknown-option", f"{draft.kind.name} has no option '{name}'", entry.key.span, hint)


def _option_hint(entry: Entry, draft: Draft, language: Language, ids: Collection[str]) -> str:
    """What to do about an option that the kind does not have."""
    name, kind = entry.name, draft.kind
    terms = next((one for one, port in kind.ports.items() if port is Port.TERMS), None)
    meant = _meant(name, kind)
    comma = _cut_by_comma(entry, draft.node)
    if name in ids:
        braces = None if terms is None else _braces(draft, terms, entry)
        return f"'{name}' is a step: " + (
            f"weights go in braces, {braces}" if braces else "this takes one step"
        )
    if terms is not None and meant == terms:
        return f"weights go in braces, {_braces(draft, terms) or f'{{{terms}: {{char: 1.0, style: -0.5}}}}'}"
    if meant is not None:
        return f"did you mean '{meant}'?"
    if comma is not None:
        return f"quote a value that holds a comma: '{comma}'"
    return _where_it_belongs(name, kind, language)


def _where_it_belongs(name: str, kind: KindSchema, language: Language) -> str:
    others = ", ".join(other.name for other in language.having(name))
    if name in ("device", "compute"):
        return f"'{name}' holds for the whole recipe, in 'defaults'"
    if others:
        return f"'{name}' is an option of {others}"
    return f"it takes {', '.join([*kind.options, _NOTE])}"


def _meant(name: str, kind: KindSchema) -> str | None:
    """The option that a key of this name was probably meant to be."""
    return nearest(name, [*kind.options, _NOTE], _also(kind.schema))


def _also(schema: Schema) -> Mapping[str, str]:
    """What the properties of a schema are also known as."""
    known = (one.get("x-also-known-as", {}) for one in schema.get("properties", {}).values())
    return {word: meant for words in known for word, meant in words.items()}


def _cut_by_comma(entry: Entry, node: MapNode) -> str | None:
    """``{load: a, b.safetensors}``: the value that the comma cut in two."""
    at = node.entries.index(entry)
    before = node.entries[at - 1].value if at else None
    if not node.flow or not isinstance(entry.value, Scalar) or not entry.value.empty:
        return None
    return f"{before.text}, {entry.name}" if isinstance(before, Scalar) and before.plain else None


def _braces(draft: Draft, port: str, further: Entry | None = None) -> str | None:
    """A port's terms as they are written with weights, ``further`` among them."""
    weights: dict[str, str] = {}
    main = draft.node.get(port)
    for one in main.items if isinstance(main, ListNode) else [main]:
        if isinstance(one, Scalar) and isinstance(one.value, str):
            weights[one.value] = "1.0"
        elif isinstance(one, MapNode):
            weights |= {term.name: _weight(term.value) for term in one.entries}
    if further is not None:
        weights[further.name] = _weight(further.value)
    return f"{{{port}: {write(weights)}}}" if weights else None


def _weight(node: Node) -> str:
    return node.text if isinstance(node, Scalar) and node.text else "1.0"


def _missing_key(finding: Finding, draft: Draft, report: Report) -> None:
    if finding.path:
        names = " or ".join(f"'{name}'" for name in finding.names)
        report.add("missing-option", f"'{finding.path[-1]}' needs {names}", finding.node.span)
        return
    key = next(one.key for one in draft.node.entries if one.name == draft.kind.name)
    names = " or ".join(f"'{name}'" for name in finding.names)
    option = draft.kind.options[finding.names[0]]
    hint = f"such as {option.name}: {write(option.examples[0])}" if option.examples else None
    report.add("missing-option", f"{draft.kind.name} needs {names}", key.span, hint)
