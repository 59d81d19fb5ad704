"""The recipe as a networkx graph, and the order in which its steps are done."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import networkx as nx

from lorapipe.recipe.model import Recipe

__all__ = ["Position", "held_back", "order", "schedule", "step_graph"]


_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Position:
    """One place in the schedule: a step, and whose values nobody needs after it.

    ``goals`` are the wanted steps that it is done for: without them it need not be done.
    """

    step: str
    releases: tuple[str, ...]
    goals: frozenset[str] = frozenset()


def step_graph(recipe: Recipe) -> nx.DiGraph[str]:
    """Steps as nodes, and an edge from each input to the step that takes it."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(recipe.steps)
    for step in recipe.steps.values():
        graph.add_edges_from((term.step, step.id) for term in step.terms())
    return graph


def order(graph: nx.DiGraph[str], checked: Mapping[str, str] = _NOTHING) -> tuple[str, ...]:
    """Every step after its inputs; among those that are free to go, as written.

    ``checked`` maps checks to the step that each is about. What is made of that step waits for the
    check, unless a check needs it.
    """
    written = {step: position for position, step in enumerate(graph)}
    waiting = graph.copy() if checked else graph
    first = set(checked).union(*(nx.ancestors(graph, check) for check in checked))
    for check, step in checked.items():
        waiting.add_edges_from((check, later) for later in nx.descendants(graph, step) - first)
    return tuple(nx.lexicographical_topological_sort(waiting, key=written.__getitem__))


def held_back(
    graph: nx.DiGraph[str], checked: Mapping[str, str], outputs: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """The outputs that each check holds back: those of its own step, and of what is made of it."""
    found = {check: nx.descendants(graph, step) for check, step in checked.items()}
    return {check: tuple(o for o in outputs if o in found[check]) for check in checked}


def schedule(
    graph: nx.DiGraph[str],
    wanted: Collection[str],
    ready: Collection[str],
    checked: Mapping[str, str] = _NOTHING,
) -> tuple[Position, ...]:
    """What to do, in order, to get ``wanted``, and when each value can be let go.

    Steps in ``ready`` have their result in the store: they are on the schedule when
    something needs them, their own inputs are not. ``checked`` as in :func:`order`. Pure: the
    executor only walks it.
    """
    sequence = order(graph, checked)
    goals = {step: {step} for step in wanted}
    for step in reversed(sequence):
        for above in graph.predecessors(step) if step in goals and step not in ready else ():
            goals.setdefault(above, set()).update(goals[step])
    sequence = tuple(step for step in sequence if step in goals)
    last: dict[str, str] = {}
    for step in sequence:
        last[step] = step
        if step not in ready:
            last.update(dict.fromkeys(graph.predecessors(step), step))
    releases: Mapping[str, list[str]] = {step: [] for step in sequence}
    for value, step in last.items():
        releases[step].append(value)
    return tuple(Position(step, tuple(releases[step]), frozenset(goals[step])) for step in sequence)
