"""The recipe's graph as text for other programs to draw: mermaid and Graphviz dot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from lorapipe.recipe.model import Recipe, Step
from lorapipe.views.text import visible

__all__ = ["FORMATS", "dot", "mermaid"]


def mermaid(recipe: Recipe) -> str:
    """A mermaid flowchart, left to right; a weight other than 1 stands on its edge."""
    numbers = {name: f"s{i}" for i, name in enumerate(recipe.steps)}
    lines = ["flowchart LR"]
    for name, step in recipe.steps.items():
        left, right = {"load": ("[(", ")]"), "save": ("[/", "/]")}.get(step.kind, ("[", "]"))
        label = "<br>".join(_escaped_html(part) for part in _label(step))
        lines.append(f'    {numbers[name]}{left}"{label}"{right}')
    for name, step in recipe.steps.items():
        for term in step.terms():
            arrow = "-->" if term.weight == 1.0 else f"-->|{term.weight:g}|"
            lines.append(f"    {numbers[term.step]} {arrow} {numbers[name]}")
    return "\n".join(lines) + "\n"


def dot(recipe: Recipe) -> str:
    """A Graphviz digraph, left to right; a weight other than 1 stands on its edge."""
    shapes = {"load": "cylinder", "save": "note"}
    lines = ["digraph recipe {", "    rankdir=LR", "    node [shape=box]"]
    for name, step in recipe.steps.items():
        label = "\\n".join(_escaped(part) for part in _label(step))
        shape = f" shape={shapes[step.kind]}" if step.kind in shapes else ""
        lines.append(f'    "{name}" [label="{label}"{shape}]')
    for name, step in recipe.steps.items():
        for term in step.terms():
            weight = "" if term.weight == 1.0 else f' [label="{term.weight:g}"]'
            lines.append(f'    "{term.step}" -> "{name}"{weight}')
    return "\n".join([*lines, "}"]) + "\n"


FORMATS: Mapping[str, Callable[[Recipe], str]] = MappingProxyType({"mermaid": mermaid, "dot": dot})


def _label(step: Step) -> list[str]:
    """The step's name, its kind, and what tells it apart from others of that kind."""
    files = [str(step.params[key]) for key in ("load", "to") if key in step.params]
    return [step.id, step.kind, *(visible(file.rpartition("/")[2]) for file in files)]


def _escaped(text: str) -> str:
    """For a quoted string of dot, in which entities are read too."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


def _escaped_html(text: str) -> str:
    """For a quoted label of mermaid, which is HTML; ``#`` would begin an entity of mermaid's own."""
    for mark, entity in (("&", "&amp;"), ("#", "&num;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(mark, entity)
    return text
