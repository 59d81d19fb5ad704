"""References between steps."""

from __future__ import annotations

import itertools

import networkx
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.recipe.parsing import parse

from .complaints import HEAD, complaints, of_step, of_steps

IMPOSSIBLE = "a step can only use what is made without it"


def test_an_unknown_step_is_compared_with_the_others() -> None:
    assert of_steps("  char: {shuffle: a}\n  x: {shuffle: cahr}") == [
        "r.yaml:6:16: error: no step 'cahr' - did you mean 'char'?"
    ]


def test_a_step_is_not_proposed_to_itself() -> None:
    assert of_steps("  chair: {shuffle: chair-}") == ["r.yaml:5:20: error: no step 'chair-'"]


def test_a_file_in_place_of_a_step_is_told_of_load() -> None:
    assert of_step("{concat: [a, c.safetensors, models/x]}") == [
        "r.yaml:5:19: error: no step 'c.safetensors' - a file is read by its own step: {load: c.safetensors}",
        "r.yaml:5:34: error: no step 'models/x' - a file is read by its own step: {load: models/x}",
    ]


def test_every_unknown_term_is_reported_where_it_stands() -> None:
    assert of_step("{concat: {p: 1, a: 2, q: 3}}") == [
        "r.yaml:5:16: error: no step 'p'",
        "r.yaml:5:28: error: no step 'q'",
    ]


def test_what_stands_for_the_text_of_a_hole_is_no_step() -> None:
    assert of_step("{shuffle: $$(w)}") == ["r.yaml:5:16: error: no step '$(w)'"]
    assert of_step("{concat: {$(w): 1}}") == ["r.yaml:5:16: error: a key takes no $(name): '$(w)'"]


def test_a_step_that_uses_itself() -> None:
    assert of_step("{concat: [a, x]}") == ["r.yaml:5:19: error: step 'x' uses itself"]


def test_a_save_gives_nothing_to_use() -> None:
    assert of_steps("  s: {save: a, to: s.pt}\n  x: {shuffle: s}") == [
        "r.yaml:6:16: error: step 's' gives nothing to use - a save makes a file; use what it saves, 'a'"
    ]


def test_a_check_gives_nothing_to_use() -> None:
    steps = "  c: {check: a, finite: true}\n  x: {shuffle: c}\n  y: {check: b, energy: {of: c, min: 1}}"
    nothing = "error: step 'c' gives nothing to use - a check makes no weights; use what it takes, 'a'"
    assert of_steps(steps) == [f"r.yaml:6:16: {nothing}", f"r.yaml:7:30: {nothing}"]


def test_a_step_inside_of_an_option_is_looked_up_as_any_other() -> None:
    assert of_step("{check: a, energy: {of: bb, min: 1}}") == [
        "r.yaml:5:30: error: no step 'bb' - did you mean 'b'?"
    ]
    assert of_step("{check: a, energy: {of: f.pt, min: 1}}") == [
        "r.yaml:5:30: error: no step 'f.pt' - a file is read by its own step: {load: f.pt}"
    ]
    assert of_steps("  c: {shuffle: a}\n  x: {check: x, energy: {of: x, min: 1}}") == [
        "r.yaml:6:14: error: step 'x' uses itself",
        "r.yaml:6:30: error: step 'x' uses itself",
    ]


def test_a_circle_is_named_step_by_step_from_its_first_step() -> None:
    """q uses p, r uses q, p uses r: p feeds q, q feeds r, r feeds p."""
    assert of_steps("  q: {shuffle: p}\n  r: {concat: [a, q]}\n  p: {shuffle: r}") == [
        f"r.yaml:5:16: error: the steps go in a circle: q -> r -> p -> q - {IMPOSSIBLE}"
    ]


def test_every_separate_circle_is_found_and_what_hangs_on_one_is_not_blamed() -> None:
    steps = "  p: {shuffle: q}\n  q: {shuffle: p}\n  user: {shuffle: p}\n  r: {shuffle: s}\n  s: {shuffle: r}"
    assert of_steps(steps) == [
        f"r.yaml:5:16: error: the steps go in a circle: p -> q -> p - {IMPOSSIBLE}",
        f"r.yaml:8:16: error: the steps go in a circle: r -> s -> r - {IMPOSSIBLE}",
    ]


def test_a_step_with_two_kinds_is_not_part_of_a_circle() -> None:
    errors = of_steps("  p: {shuffle: q, svd-resize: q}\n  q: {shuffle: p}")
    assert len(errors) == 1
    assert "two kinds" in errors[0]


def test_terms_keep_their_order_weights_and_places() -> None:
    recipe = parse(HEAD + "  x: {concat: {b: -0.5, a: 2}}\n  y: {concat: [b, a, b]}\n  z: {concat: a}\n")
    terms = [[(t.step, t.weight, t.place.column) for t in recipe.steps[s].inputs["concat"]] for s in "xyz"]
    assert terms == [
        [("b", -0.5, 16), ("a", 2.0, 25)],
        [("b", 1.0, 16), ("a", 1.0, 19), ("b", 1.0, 22)],
        [("a", 1.0, 15)],
    ]


def test_references_lead_forwards_and_backwards_in_the_file() -> None:
    assert complaints("lorapipe: 1\nsteps: {x: {shuffle: y}, y: {shuffle: a}, a: {load: f}}") == []


graphs = st.dictionaries(
    st.integers(0, 7), st.lists(st.integers(0, 7), min_size=1, max_size=3), min_size=1, max_size=8
)


@settings(max_examples=150, deadline=None)
@given(graphs)
def test_circles_are_told_exactly_where_networkx_finds_some(uses: dict[int, list[int]]) -> None:
    """Each circle named is one, they share no step, and cutting them all leaves none."""
    steps = "".join(
        f"  s{i}: {{concat: [{', '.join(f's{j}' for j in needs)}]}}\n" for i, needs in uses.items()
    )
    leaves = "".join(f"  s{i}: {{load: f}}\n" for i in range(8) if i not in uses)
    errors = complaints("lorapipe: 1\nsteps:\n" + steps + leaves)
    circles = [e.split("circle: ")[1].split(" - ")[0].split(" -> ") for e in errors if "circle" in e]
    graph = networkx.DiGraph((f"s{j}", f"s{i}") for i, needs in uses.items() for j in needs if i != j)
    assert bool(circles) == (not networkx.is_directed_acyclic_graph(graph))
    for circle in circles:
        assert circle[0] == circle[-1]
        assert all(graph.has_edge(one, two) for one, two in itertools.pairwise(circle))
    inside = [step for circle in circles for step in circle[:-1]]
    assert len(inside) == len(set(inside))
    graph.remove_nodes_from(inside)
    assert networkx.is_directed_acyclic_graph(graph)
