"""The recipe's graph as text for other programs to draw: mermaid and Graphviz dot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from lorapipe.plan.checks import held_outputs
from lorapipe.recipe.model import Recipe, Step
from lorapipe.views.text import visible

__all__ = ["FORMATS", "dot", "mermaid"]


_MERMAID = {"load": ("[(", ")]"), "save": ("[/", "/]"), "check": ("{{", "}}")}
_DOT = {"load": "cylinder", "save": "note", "check": "hexagon"}


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Each node's kind and lines, edges with their weights, and from checks to what they hold back."""

    nodes: Mapping[str, tuple[str, tuple[str, ...]]]
    edges: tuple[tuple[str, float, str], ...]
    held: tuple[tuple[str, str], ...]


def mermaid(recipe: Recipe, *, each: bool = False) -> str:
    """A mermaid flowchart, left to right; a weight other than 1 stands on its edge.

    A dotted arrow leads from a check to each output that it holds back. The variants of a step are one
    node, with ``each`` a node each.
    """
    drawn = _drawn(recipe, each=each)
    numbers = {name: f"s{i}" for i, name in enumerate(drawn.nodes)}
    lines = ["flowchart LR"]
    for name, (kind, words) in drawn.nodes.items():
        left, right = _MERMAID.get(kind, ("[", "]"))
        label = "<br>".join(_escaped_html(part) for part in words)
        lines.append(f'    {numbers[name]}{left}"{label}"{right}')
    for above, weight, name in drawn.edges:
        arrow = "-->" if weight == 1.0 else f"-->|{weight:g}|"
        lines.append(f"    {numbers[above]} {arrow} {numbers[name]}")
    lines += [f"    {numbers[check]} -.-> {numbers[output]}" for check, output in drawn.held]
    return "\n".join(lines) + "\n"


def dot(recipe: Recipe, *, each: bool = False) -> str:
    """A Graphviz digraph, left to right; else as :func:`mermaid`."""
    drawn = _drawn(recipe, each=each)
    lines = ["digraph recipe {", "    rankdir=LR", "    node [shape=box]"]
    for name, (kind, words) in drawn.nodes.items():
        label = "\\n".join(_escaped(part) for part in words)
        shape = f" shape={_DOT[kind]}" if kind in _DOT else ""
        lines.append(f'    "{_escaped(name)}" [label="{label}"{shape}]')
    for above, weight, name in drawn.edges:
        label = "" if weight == 1.0 else f' [label="{weight:g}"]'
        lines.append(f'    "{_escaped(above)}" -> "{_escaped(name)}"{label}')
    lines += [
        f'    "{_escaped(check)}" -> "{_escaped(output)}" [style=dotted]' for check, output in drawn.held
    ]
    return "\n".join([*lines, "}"]) + "\n"


FORMATS: Mapping[str, Callable[..., str]] = MappingProxyType({"mermaid": mermaid, "dot": dot})


def _drawn(recipe: Recipe, *, each: bool) -> _Drawn:
    groups: dict[str, list[Step]] = {}
    for name, step in recipe.steps.items():
        groups.setdefault(name if each else step.written, []).append(step)
    shown = {step.id: name for name, of in groups.items() for step in of}
    weights: dict[tuple[str, str], set[float]] = {}
    for above, weight, name in _edges(recipe):
        weights.setdefault((shown[above], shown[name]), set()).add(weight)
    return _Drawn(
        {name: (of[0].kind, _label(name, of)) for name, of in groups.items()},
        # A weight that is another in each variant is told by none.
        tuple((one, found.pop() if len(found) == 1 else 1.0, two) for (one, two), found in weights.items()),
        tuple(dict.fromkeys((shown[check], shown[output]) for check, output in _held(recipe))),
    )


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


def _label(name: str, variants: Sequence[Step]) -> tuple[str, ...]:
    """The step's name, its kind, and what tells it apart from others of that kind, or how often it stands."""
    step = variants[0]
    if len(variants) > 1:
        return (name, step.kind, f"{len(variants)} variants")
    files = [str(step.params[key]) for key in ("load", "to") if key in step.params]
    return (step.id, step.kind, *(visible(file.rpartition("/")[2]) for file in files))


def _escaped(text: str) -> str:
    """For a quoted string of dot, in which entities are read too."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


def _escaped_html(text: str) -> str:
    """For a quoted label of mermaid, which is HTML; ``#`` would begin an entity of mermaid's own."""
    for mark, entity in (("&", "&amp;"), ("#", "&num;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(mark, entity)
    return text
