"""The recipe as a networkx graph, and the order in which its steps are done."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import networkx as nx

from lorapipe.recipe.model import Recipe

__all__ = ["Position", "awaited", "held_back", "order", "schedule", "step_graph"]


_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Position:
    """One place in the schedule: a step, and the wanted steps (``goals``) that it is done for.

    Without them it need not be done.
    """

    step: str
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
    for later, checks in awaited(graph, checked).items():
        waiting.add_edges_from((check, later) for check in checks)
    return tuple(nx.lexicographical_topological_sort(waiting, key=written.__getitem__))


def awaited(graph: nx.DiGraph[str], checked: Mapping[str, str]) -> dict[str, set[str]]:
    """The checks that each step waits for, besides its inputs; ``checked`` as in :func:`order`."""
    first = set(checked).union(*(nx.ancestors(graph, check) for check in checked))
    found: dict[str, set[str]] = {}
    for check, step in checked.items():
        for later in nx.descendants(graph, step) - first:
            found.setdefault(later, set()).add(check)
    return found


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
    """What to do, in order, to get ``wanted``.

    Steps in ``ready`` have their result in the store: they are on the schedule when
    something needs them, their own inputs are not. ``checked`` as in :func:`order`.
    """
    sequence = order(graph, checked)
    goals = {step: {step} for step in wanted}
    for step in reversed(sequence):
        for above in graph.predecessors(step) if step in goals and step not in ready else ():
            goals.setdefault(above, set()).update(goals[step])
    return tuple(Position(step, frozenset(goals[step])) for step in sequence if step in goals)
