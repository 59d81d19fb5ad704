"""The graph's order and the schedule of what is made, kept and let go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import Place
from lorapipe.plan.graph import Position, held_back, order, schedule, step_graph
from lorapipe.recipe.model import Recipe, Step, Term

_HERE = Place(file="r.yaml", line=1, column=1)


def _recipe(**steps: str) -> Recipe:
    """``_recipe(a="", b="a", c="a b")``: each step with the ids of its inputs."""
    made = {
        name: Step(
            id=name,
            written=name,
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


def test_every_step_is_on_the_schedule_after_its_inputs() -> None:
    #   a ── b ── one
    #    └─────── two
    graph = step_graph(_recipe(a="", b="a", one="b", two="a"))

    made = schedule(graph, ["one", "two"], ready=[])

    assert made == (
        Position("a", frozenset({"one", "two"})),
        Position("b", frozenset({"one"})),
        Position("one", frozenset({"one"})),
        Position("two", frozenset({"two"})),
    )


def test_only_what_a_wanted_output_needs_is_scheduled() -> None:
    graph = step_graph(_recipe(a="", b="", one="a", two="b"))

    assert [p.step for p in schedule(graph, ["two"], ready=[])] == ["b", "two"]
    assert schedule(graph, [], ready=[]) == ()


def test_what_is_in_the_store_is_read_and_its_inputs_are_left_alone() -> None:
    #   a ── b ── c ── out, with c in the store
    graph = step_graph(_recipe(a="", b="a", c="b", out="c"))

    made = schedule(graph, ["out"], ready=["c"])

    out = frozenset({"out"})
    assert made == (Position("c", out), Position("out", out))


def test_an_input_that_a_stored_step_shares_with_another_is_still_made() -> None:
    #   a ── c ── out,  a ── other, with c in the store
    graph = step_graph(_recipe(a="", c="a", out="c", other="a"))

    steps = [p.step for p in schedule(graph, ["out", "other"], ready=["c"])]

    assert steps == ["a", "c", "out", "other"]


# --- checks -----------------------------------------------------------------------------


def test_what_is_made_of_a_checked_step_waits_for_the_check_and_the_rest_does_not() -> None:
    #   a ── small ── mixed ── late
    #    │       └─ good (a check)
    #    └── other
    graph = step_graph(_recipe(a="", small="a", mixed="small", late="mixed", other="a", good="small"))

    assert order(graph) == ("a", "small", "mixed", "late", "other", "good")
    assert order(graph, {"good": "small"}) == ("a", "small", "other", "good", "mixed", "late")


def test_what_a_check_needs_itself_does_not_wait_for_another_check() -> None:
    #   a ── b ── c, with a check of b, and one of c
    graph = step_graph(_recipe(a="", b="a", c="b", out="c", first="b", second="c"))

    made = order(graph, {"first": "b", "second": "c"})

    assert made == ("a", "b", "c", "first", "second", "out")


def test_a_step_that_a_check_is_only_compared_with_waits_for_nothing() -> None:
    #   both ── small ── good (a check of small, compared with both)
    graph = step_graph(_recipe(both="", out="both", small="both", good="small both", late="small"))

    assert order(graph, {"good": "small"}) == ("both", "out", "small", "good", "late")
    assert held_back(graph, {"good": "small"}, ["out", "late"]) == {"good": ("late",)}


def test_a_check_holds_back_what_is_saved_of_its_step_and_of_all_that_is_made_of_it() -> None:
    #   a ── b ── saves_b      b ── model ── saves_model
    #   a ── saves_a
    steps = {"a": "", "b": "a", "saves_a": "a", "saves_b": "b", "model": "b", "saves_model": "model"}
    graph = step_graph(_recipe(**steps, of_a="a", of_model="model"))

    held = held_back(graph, {"of_a": "a", "of_model": "model"}, ["saves_a", "saves_b", "saves_model"])

    assert held == {"of_a": ("saves_a", "saves_b", "saves_model"), "of_model": ("saves_model",)}


def test_every_position_knows_the_goals_that_it_is_done_for() -> None:
    #   a ── b ── one, good;  a ── two;  b is in the store
    graph = step_graph(_recipe(a="", b="a", one="b", good="b", two="a"))

    made = schedule(graph, ["one", "two", "good"], ready=["b"], checked={"good": "b"})

    assert {p.step: set(p.goals) for p in made} == {
        "a": {"two"},
        "b": {"one", "good"},
        "good": {"good"},
        "one": {"one"},
        "two": {"two"},
    }
    assert [p.step for p in made].index("good") < [p.step for p in made].index("one")


@given(st.data())
def test_no_recipe_has_an_order_in_which_a_save_comes_before_a_check_that_holds_it(
    data: st.DataObject,
) -> None:
    """Whatever the graph: checks and outputs are its ends, all else is used by what comes later."""
    inner = [f"s{i}" for i in range(data.draw(st.integers(1, 6)))]
    steps: dict[str, str] = {}
    for number, name in enumerate(inner):
        steps[name] = " ".join(data.draw(st.sets(st.sampled_from(inner[:number]))) if number else ())
    checked = {f"c{i}": data.draw(st.sampled_from(inner)) for i in range(data.draw(st.integers(0, 4)))}
    outputs = {f"o{i}": data.draw(st.sampled_from(inner)) for i in range(data.draw(st.integers(0, 4)))}
    every = list({**steps, **checked, **outputs}.items())
    graph = step_graph(_recipe(**dict(data.draw(st.permutations(every)))))

    made = order(graph, checked)

    assert sorted(made) == sorted(name for name, _ in every)
    assert all(made.index(above) < made.index(below) for above, below in graph.edges)
    for check, held in held_back(graph, checked, outputs).items():
        assert all(made.index(check) < made.index(output) for output in held)
