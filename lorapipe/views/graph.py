"""The recipe's graph as text for other programs to draw: mermaid and Graphviz dot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from lorapipe.plan.checks import held_outputs
from lorapipe.recipe.model import Recipe, Step
from lorapipe.views.text import visible

__all__ = ["FORMATS", "dot", "mermaid"]


_MERMAID = {"load": ("[(", ")]"), "save": ("[/", "/]"), "check": ("{{", "}}")}
_DOT = {"load": "cylinder", "save": "note", "check": "hexagon"}


def mermaid(recipe: Recipe) -> str:
    """A mermaid flowchart, left to right; a weight other than 1 stands on its edge.

    A dotted arrow leads from a check to each output that it holds back.
    """
    numbers = {name: f"s{i}" for i, name in enumerate(recipe.steps)}
    lines = ["flowchart LR"]
    for name, step in recipe.steps.items():
        left, right = _MERMAID.get(step.kind, ("[", "]"))
        label = "<br>".join(_escaped_html(part) for part in _label(step))
        lines.append(f'    {numbers[name]}{left}"{label}"{right}')
    for above, weight, name in _edges(recipe):
        arrow = "-->" if weight == 1.0 else f"-->|{weight:g}|"
        lines.append(f"    {numbers[above]} {arrow} {numbers[name]}")
    lines += [f"    {numbers[check]} -.-> {numbers[output]}" for check, output in _held(recipe)]
    return "\n".join(lines) + "\n"


def dot(recipe: Recipe) -> str:
    """A Graphviz digraph, left to right; a weight other than 1 stands on its edge.

    A dotted arrow leads from a check to each output that it holds back.
    """
    lines = ["digraph recipe {", "    rankdir=LR", "    node [shape=box]"]
    for name, step in recipe.steps.items():
        label = "\\n".join(_escaped(part) for part in _label(step))
        shape = f" shape={_DOT[step.kind]}" if step.kind in _DOT else ""
        lines.append(f'    "{_escaped(name)}" [label="{label}"{shape}]')
    for above, weight, name in _edges(recipe):
        label = "" if weight == 1.0 else f' [label="{weight:g}"]'
        lines.append(f'    "{_escaped(above)}" -> "{_escaped(name)}"{label}')
    lines += [
        f'    "{_escaped(check)}" -> "{_escaped(output)}" [style=dotted]' for check, output in _held(recipe)
    ]
    return "\n".join([*lines, "}"]) + "\n"


FORMATS: Mapping[str, Callable[[Recipe], str]] = MappingProxyType({"mermaid": mermaid, "dot": dot})


def _edges(recipe: Recipe) -> Iterator[tuple[str, float, str]]:
    """From each input to its step, with its weight; once where a step takes it at several ports."""
    for name, step in recipe.steps.items():
        seen: set[str] = set()
        for terms in step.inputs.values():
            yield from ((term.step, term.weight, name) for term in terms if term.step not in seen)
            seen |= {term.step for term in terms}


def _held(recipe: Recipe) -> Iterator[tuple[str, str]]:
    for check, outputs in held_outputs(recipe).items():
        yield from ((check, output) for output in outputs)


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
