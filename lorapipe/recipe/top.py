"""What stands around the steps: version, name, params, matrix, defaults."""

from __future__ import annotations

from lorapipe.recipe.check import Finding, Problem, check, word_value
from lorapipe.recipe.holes import holes_in
from lorapipe.recipe.language import Language
from lorapipe.recipe.nodes import MapNode, Node, show
from lorapipe.recipe.source import Report, Span
from lorapipe.recipe.suggest import nearest

__all__ = ["check_top"]

_START = Span(0, 0, 0, 1)


def check_top(root: Node, language: Language, report: Report) -> None:
    """Note what the recipe's own schema refuses; the steps themselves are not looked at."""
    if not isinstance(root, MapNode):
        hint = "begin with 'lorapipe: 1' and 'steps:'"
        report.add("recipe-not-map", f"a recipe is a map, not {show(root)}", root.span, hint)
        return
    findings = list(check(root, language.top))
    known = language.top["properties"]
    also = {word: name for key in known for word, name in known[key].get("x-also-known-as", {}).items()}
    unknown = [f.names[0] for f in findings if f.problem is Problem.UNKNOWN_KEY and not f.path]
    meant = {nearest(name, known, also) for name in unknown}
    for finding in findings:
        if finding.problem is Problem.UNKNOWN_KEY:
            _unknown_key(finding, language, report)
        elif finding.problem is Problem.MISSING_KEY and not meant.intersection(finding.names):
            _missing_key(finding.names[0], report)
        elif finding.problem is Problem.BAD_KEY:
            _bad_name(finding, report)
        elif finding.problem is Problem.BAD_VALUE:
            _bad_value(finding, report)


def _unknown_key(finding: Finding, language: Language, report: Report) -> None:
    (name,) = finding.names
    assert isinstance(finding.node, MapNode)
    entry = next(one for one in finding.node.entries if one.name == name)
    if holes_in(name):
        return  # noted when holes were filled
    properties = finding.schema["properties"]
    also = {word: key for one in properties.values() for word, key in one.get("x-also-known-as", {}).items()}
    meant = nearest(name, properties, also)
    hint = f"did you mean '{meant}'?" if meant else f"it takes {', '.join(properties)}"
    if meant is None and not finding.path and _looks_like_step(entry.value, language):
        hint = "steps stand under 'steps'"
    owner = f"'{finding.path[-1]}'" if finding.path else "a recipe"
    report.add("unknown-key", f"{owner} has no '{name}'", entry.key.span, hint)


def _looks_like_step(node: Node, language: Language) -> bool:
    return isinstance(node, MapNode) and any(one.name in language.kinds for one in node.entries)


def _missing_key(name: str, report: Report) -> None:
    example = "lorapipe: 1" if name == "lorapipe" else f"{name}:"
    report.add("missing-key", f"a recipe needs '{name}'", _START, f"add a line '{example}'")


def _bad_name(finding: Finding, report: Report) -> None:
    (name,) = finding.names
    if holes_in(name):
        return
    assert isinstance(finding.node, MapNode)
    span = next(one.key.span for one in finding.node.entries if one.name == name)
    what = {"steps": "a step's id", "params": "a param's name"}.get(str(finding.path[0]), "an axis's name")
    hint = f"{what} is made of a-z, 0-9, - and _, and begins with a letter"
    report.add("bad-name", f"'{name}' cannot be {what}", span, hint)


def _bad_value(finding: Finding, report: Report) -> None:
    node = finding.node
    if finding.path == ("lorapipe",):
        report.add("version", f"this lorapipe reads recipes of version 1, not {show(node)}", node.span)
    elif finding.path == ("steps",):
        message = "a recipe needs at least one step"
        if not isinstance(node, MapNode):
            message = f"'steps' takes a map id: step, not {show(node)}"
        report.add("steps", message, node.span, "such as char: {load: char.safetensors}")
    else:
        message, span, hint = word_value(finding)
        report.add("bad-value", message, span, hint)
