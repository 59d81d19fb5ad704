"""Which kind a step is, told from its keys."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from lorapipe.recipe.language import RESERVED, KindSchema, Language
from lorapipe.recipe.nodes import Entry, MapNode, Node, Scalar, show
from lorapipe.recipe.options import Draft, check_options, check_values
from lorapipe.recipe.source import Report
from lorapipe.recipe.suggest import nearest

__all__ = ["draft_step"]

_GUESSED = 20  # keys of a step that may be a misspelt kind; one with more is no step


def draft_step(entry: Entry, language: Language, ids: Collection[str], report: Report) -> list[Draft]:
    """The step of one entry of ``steps``, its errors noted.

    ``ids`` are the recipe's steps. Nothing comes back for a step whose kind nobody
    can tell, two drafts for one that has two kinds.
    """
    node = entry.value
    if not isinstance(node, MapNode):
        _not_a_map(entry.name, node, report)
        return []
    kinds = [language.kind(one.name) for one in node.entries if one.name in language.kinds]
    if len(kinds) > 1:
        return _several_kinds(entry, node, kinds, report)
    if kinds:
        draft = Draft(entry.key, kinds[0], node)
        check_options(draft, language, ids, report)
        return [draft]
    guess = _no_kind(entry, node, language, report)
    if guess is None:
        return []
    check_values(guess, report)
    return [guess]


def _not_a_map(name: str, node: Node, report: Report) -> None:
    if isinstance(node, Scalar) and node.unknown and not node.inserted:
        return  # noted where it was read
    file = node.value if isinstance(node, Scalar) and isinstance(node.value, str) else "FILE"
    hint = f"a step is a map, such as {{load: {file}}}"
    report.add("step-not-map", f"step '{name}' is {show(node)}", node.span, hint)


def _several_kinds(entry: Entry, node: MapNode, kinds: list[KindSchema], report: Report) -> list[Draft]:
    first, second = kinds[0], kinds[1]
    names = f"{', '.join(kind.name for kind in kinds[:-1])} and {kinds[-1].name}"
    count = {2: "two", 3: "three"}.get(len(kinds), str(len(kinds)))
    hint = "give each its own step"
    if second.main.port is not None:
        hint += f"; '{second.name}' could take '{entry.name}'"
    elif first.main.port is not None:
        hint += f"; '{first.name}' could take '{entry.name}'"
    key = next(one.key for one in node.entries if one.name == second.name)
    report.add("two-kinds", f"step '{entry.name}' has {count} kinds: {names}", key.span, hint)
    drafts = [Draft(entry.key, kind, _part(node, kind), sound=False) for kind in kinds]
    for draft in drafts:
        check_values(draft, report)
    return drafts


def _part(node: MapNode, kind: KindSchema) -> MapNode:
    """Of a step with two kinds, the keys that one of them has."""
    return replace(node, entries=tuple(one for one in node.entries if one.name in kind.options))


def _no_kind(entry: Entry, node: MapNode, language: Language, report: Report) -> Draft | None:
    """Say what is wrong with a step without a kind; a draft if its kind can be guessed."""
    keys = [one for one in node.entries if one.name != "description"]
    strange = [one for one in keys if one.name not in RESERVED and not any(language.having(one.name))]
    also = {word: name for kind in language.kinds.values() for word, name in kind.also_known_as.items()}
    for one in strange[:_GUESSED]:
        name = nearest(one.name, language.kinds, also)
        if name is not None and "." not in one.name:
            report.add("unknown-kind", f"no step kind '{one.name}'", one.key.span, f"did you mean '{name}'?")
            return Draft(entry.key, language.kind(name), _renamed(node, one, name), sound=False)
    if strange and not any(one.name in ("kind", "uses") for one in keys):
        _unknown_kind(strange, language, report)
    else:
        hint = _kind_hint(keys, language)
        report.add("no-kind", f"step '{entry.name}' has no kind", entry.key.span, hint)
    return None


def _unknown_kind(strange: list[Entry], language: Language, report: Report) -> None:
    one = next((one for one in strange if "." in one.name), strange[0])
    hint = f"the kinds are {', '.join(language.kinds)}"
    if "." in one.name:
        hint = "no installed package provides it"
    report.add("unknown-kind", f"no step kind '{one.name}'", one.key.span, hint)


def _renamed(node: MapNode, wrong: Entry, name: str) -> MapNode:
    """The step as it was probably meant: the misspelt kind set right."""
    right = Entry(replace(wrong.key, value=name, text=name), wrong.value)
    return replace(node, entries=tuple(right if one is wrong else one for one in node.entries))


def _kind_hint(keys: list[Entry], language: Language) -> str:
    for one in keys:
        if one.name in ("kind", "uses"):
            kind = one.value.value if isinstance(one.value, Scalar) else None
            name = kind if kind in language.kinds else "KIND"
            return f"the kind is the key that holds the main input: {{{name}: ...}}"
    for one in keys:
        kinds = ", ".join(kind.name for kind in language.having(one.name))
        if kinds:
            return f"'{one.name}' is an option of {kinds}"
    return "such as {load: FILE}"
