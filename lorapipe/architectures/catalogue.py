"""All families: one for each table, read when it is asked for."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

from lorapipe.architectures.family import Family, build_family
from lorapipe.architectures.table import Head, bad_table, parse_head, parse_table
from lorapipe.errors import RecipeError

__all__ = ["families", "family", "heads", "titles"]

_TABLES = Path(__file__).parent / "tables"


@cache
def families() -> tuple[str, ...]:
    """Names of all families."""
    return tuple(sorted(path.stem for path in _TABLES.glob("*.yaml")))


@cache
def heads() -> tuple[Head, ...]:
    """The heads of all tables."""
    return tuple(parse_head(name, _text(f"{name}.yaml")) for name in families())


def titles() -> dict[str, str]:
    """What people call each family: ``sd1`` is ``SD1.x``."""
    return {head.name: head.title for head in heads()}


def family(name: str) -> Family:
    """The family of that name or alias, whatever its case (``sdxl``, ``SD1.5``).

    Raises :class:`~lorapipe.errors.RecipeError`, code ``unknown-family``.
    """
    if name in families():
        return _family(name)
    known = _aliases()
    wanted = name.strip().lower()
    if wanted in known:
        return _family(known[wanted])
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    hint = f"did you mean '{known[near[0]]}'?" if near else "known are " + ", ".join(families())
    raise RecipeError("unknown-family", f"no model family '{name}'", hint=hint, option="family")


@cache
def _aliases() -> dict[str, str]:
    known = {name: name for name in families()}
    for head in heads():
        for alias in (head.title, *head.aliases):
            if known.setdefault(alias.lower(), head.name) != head.name:
                raise bad_table(head.name, f"the alias {alias!r} is also that of {known[alias.lower()]}")
    return known


@cache
def _family(name: str) -> Family:
    shared = {path.stem: path.read_text(encoding="utf-8") for path in _TABLES.glob("parts/*.yaml")}
    return build_family(parse_table(name, _text(f"{name}.yaml"), shared))


def _text(file: str) -> str:
    return (_TABLES / file).read_text(encoding="utf-8")
