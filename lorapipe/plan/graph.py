"""The recipe as a networkx graph, and the order in which its steps are done."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import networkx as nx

from lorapipe.recipe.model import Recipe

__all__ = ["Position", "order", "schedule", "step_graph"]


@dataclass(frozen=True, slots=True)
class Position:
    """One place in the schedule: a step, and whose values nobody needs after it."""

    step: str
    releases: tuple[str, ...]


def step_graph(recipe: Recipe) -> nx.DiGraph[str]:
    """Steps as nodes, and an edge from each input to the step that takes it."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(recipe.steps)
    for step in recipe.steps.values():
        graph.add_edges_from((term.step, step.id) for term in step.terms())
    return graph


def order(graph: nx.DiGraph[str]) -> tuple[str, ...]:
    """Every step after its inputs; among those that are free to go, as written."""
    written = {step: position for position, step in enumerate(graph)}
    return tuple(nx.lexicographical_topological_sort(graph, key=written.__getitem__))


def schedule(graph: nx.DiGraph[str], wanted: Collection[str], ready: Collection[str]) -> tuple[Position, ...]:
    """What to do, in order, to get ``wanted``, and when each value can be let go.

    Steps in ``ready`` have their result in the store: they are on the schedule when
    something needs them, their own inputs are not. Pure: the executor only walks it.
    """
    needed = _needed(graph, wanted, ready)
    sequence = [step for step in order(graph) if step in needed]
    last: dict[str, str] = {}
    for step in sequence:
        last[step] = step
        if step not in ready:
            last.update(dict.fromkeys(graph.predecessors(step), step))
    releases: Mapping[str, list[str]] = {step: [] for step in sequence}
    for value, step in last.items():
        releases[step].append(value)
    return tuple(Position(step, tuple(releases[step])) for step in sequence)


def _needed(graph: nx.DiGraph[str], wanted: Collection[str], ready: Collection[str]) -> set[str]:
    needed: set[str] = set()
    pending = list(wanted)
    while pending:
        step = pending.pop()
        if step not in needed:
            needed.add(step)
            if step not in ready:
                pending.extend(graph.predecessors(step))
    return needed
