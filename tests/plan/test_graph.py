"""The graph's order and the schedule of what is made, kept and let go."""

from __future__ import annotations

from lorapipe.errors import Place
from lorapipe.plan.graph import Position, order, schedule, step_graph
from lorapipe.recipe.model import Recipe, Step, Term

_HERE = Place(file="r.yaml", line=1, column=1)


def _recipe(**steps: str) -> Recipe:
    """``_recipe(a="", b="a", c="a b")``: each step with the ids of its inputs."""
    made = {
        name: Step(
            id=name,
            kind="concat",
            inputs={"concat": tuple(Term(above, 1.0, _HERE) for above in inputs.split())},
            params={},
            place=_HERE,
            places={},
        )
        for name, inputs in steps.items()
    }
    return Recipe(file="r.yaml", name=None, params={}, defaults={}, steps=made)


def test_a_step_comes_after_its_inputs_whatever_the_order_in_the_file() -> None:
    graph = step_graph(_recipe(save="mix", mix="a b", b="", a=""))

    assert order(graph) == ("b", "a", "mix", "save")


def test_steps_that_are_free_to_go_keep_the_order_in_which_they_are_written() -> None:
    #   a ─┐      c ─┐
    #      b         d
    graph = step_graph(_recipe(c="", a="", d="c", b="a"))

    assert order(graph) == ("c", "a", "d", "b")


def test_a_value_is_released_with_the_last_step_that_uses_it() -> None:
    #   a ── b ── one
    #    └─────── two
    graph = step_graph(_recipe(a="", b="a", one="b", two="a"))

    made = schedule(graph, ["one", "two"], ready=[])

    assert made == (
        Position("a", ()),
        Position("b", ()),
        Position("one", ("b", "one")),
        Position("two", ("a", "two")),
    )


def test_only_what_a_wanted_output_needs_is_scheduled() -> None:
    graph = step_graph(_recipe(a="", b="", one="a", two="b"))

    assert [p.step for p in schedule(graph, ["two"], ready=[])] == ["b", "two"]
    assert schedule(graph, [], ready=[]) == ()


def test_what_is_in_the_store_is_read_and_its_inputs_are_left_alone() -> None:
    #   a ── b ── c ── out, with c in the store
    graph = step_graph(_recipe(a="", b="a", c="b", out="c"))

    made = schedule(graph, ["out"], ready=["c"])

    assert made == (Position("c", ()), Position("out", ("c", "out")))


def test_an_input_that_a_stored_step_shares_with_another_is_still_made() -> None:
    #   a ── c ── out,  a ── other, with c in the store
    graph = step_graph(_recipe(a="", c="a", out="c", other="a"))

    steps = [p.step for p in schedule(graph, ["out", "other"], ready=["c"])]

    assert steps == ["a", "c", "out", "other"]
