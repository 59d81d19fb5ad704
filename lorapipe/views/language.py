"""The step kinds as text: a list of all, or all about one. Everything said is the schema's."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from lorapipe.recipe.language import FileUse, KindSchema, Option, Port
from lorapipe.recipe.options import write

__all__ = ["example", "kind_page", "kind_table", "option_takes"]

_WIDTH = 100


def kind_table(kinds: Iterable[KindSchema]) -> str:
    """One line for each kind: its name and what it does."""
    return _columns([(kind.name, kind.summary) for kind in kinds], indent="")


def kind_page(kind: KindSchema) -> str:
    """What a kind does, an example, and its options with types, defaults and examples.

    The keys of a map that an option takes are under it, further in.
    """
    rows = [row for option in kind.options.values() for row in _option_rows(option)]
    parts = [
        f"{kind.name}: {kind.summary}",
        textwrap.fill(kind.description, _WIDTH),
        f"    {example(kind)}",
        _columns([*rows, ("description", "text; a note for readers")], indent="  "),
    ]
    return "\n\n".join(part for part in parts if part)


def example(kind: KindSchema) -> str:
    """A step of this kind with what it needs, as a recipe writes it."""
    needed = set(kind.required)
    for names in kind.schema.get("anyOf", [])[:1]:
        needed |= set(names["required"])
    return write({name: kind.options[name].examples[0] for name in kind.options if name in needed})


def option_takes(option: Option) -> str:
    """What an option takes, in a few words.

    The schema's own words where it has any (``patternErrorMessage``), without the
    name and without the hole, which every scalar takes.
    """
    if option.port is not None:
        return {Port.STEP: "the id of a step", Port.TERMS: "ids of steps, or a map id: weight"}[option.port]
    if option.file is not None:
        return {FileUse.INPUT: "a file to read", FileUse.OUTPUT: "a file to write"}[option.file]
    words = str(option.schema.get("patternErrorMessage", ""))
    if words:
        return words.removeprefix(f"'{option.name.rpartition('.')[2]}' takes ").removesuffix(", or $(name)")
    return {"object": "a map", "array": "a list"}.get(str(option.schema.get("type")), "text")


def _option_rows(option: Option) -> list[tuple[str, str]]:
    facts = [option_takes(option)]
    if option.required:
        facts.append("required")
    elif "default" in option.schema:
        facts.append(f"default {write(option.default)}")
    elif option.examples and not option.choices:
        facts.append(f"such as {write(option.examples[0])}")
    inner = [row for part in option.parts for row in _option_rows(part)]
    *outer, name = option.name.split(".")
    return [("  " * len(outer) + name, "; ".join(facts)), ("", option.description), *inner]


def _columns(rows: list[tuple[str, str]], indent: str) -> str:
    """Two columns; the second is wrapped."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    lines: list[str] = []
    for name, text in rows:
        wrapped = textwrap.wrap(text, _WIDTH - len(indent) - width) or [""]
        lines += [f"{indent}{name:<{width}}{wrapped[0]}".rstrip()]
        lines += [f"{indent}{'':<{width}}{more}" for more in wrapped[1:]]
    return "\n".join(lines)
