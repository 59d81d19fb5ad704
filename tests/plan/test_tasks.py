"""A plan's tasks: what is done as one, what it waits for, and nothing that need not be done."""

from __future__ import annotations

from lorapipe.build.run import build, plan
from lorapipe.plan.plan import Plan
from lorapipe.plan.tasks import Task, tasks_of
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench
from ..checked import steps_to_check


def planned(bench: Bench, more: str = "") -> Plan:
    """What a run of the steps would do.

    ::

        a ─┬─ both ── small ── mixed ── secret
        b ─┘   │        └─ lora
               └─ exact
    """
    return plan(load_recipe(bench.recipe(steps_to_check(bench) + more)), read=True)


def after(tasks: tuple[Task, ...]) -> dict[str, set[str]]:
    return {task.step: set(task.after) for task in tasks}


def test_a_task_is_what_is_kept_or_written_with_the_lazy_steps_under_it(bench: Bench) -> None:
    tasks = tasks_of(planned(bench))

    assert {task.step: task.steps for task in tasks} == {
        "small": ("a", "b", "both", "small"),
        "mixed": ("small", "mixed"),
        "exact": ("a", "b", "both", "exact"),
        "lora": ("small", "lora"),
        "secret": ("mixed", "secret"),
    }


def test_a_task_waits_for_those_that_make_what_it_takes_and_for_no_other(bench: Bench) -> None:
    tasks = tasks_of(planned(bench))

    assert after(tasks) == {
        "small": set(),
        "mixed": {"small"},
        "exact": set(),
        "lora": {"small"},
        "secret": {"mixed"},
    }


def test_what_is_made_of_a_checked_step_waits_for_the_check(bench: Bench) -> None:
    tasks = tasks_of(planned(bench, "good: {check: small, finite: true}\n"))

    assert after(tasks)["good"] == {"small"}
    assert after(tasks)["mixed"] == {"small", "good"}
    assert after(tasks)["lora"] == {"small", "good"}
    assert after(tasks)["exact"] == set()


def test_a_check_of_a_lazy_step_holds_back_the_tasks_above_it(bench: Bench) -> None:
    tasks = tasks_of(planned(bench, "good: {check: both, finite: true}\n"))

    assert after(tasks) == {
        "good": set(),
        "small": {"good"},
        "mixed": {"small", "good"},
        "exact": {"good"},
        "lora": {"small", "good"},
        "secret": {"mixed", "good"},
    }


def test_a_result_in_the_store_is_taken_by_its_tasks_and_is_none_itself(bench: Bench) -> None:
    planned(bench)
    recipe = load_recipe(bench.folder / "r.yaml")
    build(recipe)
    (bench.folder / "lora.safetensors").unlink()

    (task,) = tasks_of(plan(recipe, read=True))

    assert (task.step, task.steps, task.after) == ("lora", ("small", "lora"), frozenset())


def test_a_plan_with_nothing_to_do_has_no_tasks(bench: Bench) -> None:
    planned(bench)
    recipe = load_recipe(bench.folder / "r.yaml")
    build(recipe)

    assert tasks_of(plan(recipe, read=True)) == ()


def test_each_task_knows_the_outputs_that_it_is_done_for(bench: Bench) -> None:
    goals = {task.step: set(task.goals) for task in tasks_of(planned(bench))}

    assert goals == {
        "small": {"lora", "secret"},
        "mixed": {"secret"},
        "exact": {"exact"},
        "lora": {"lora"},
        "secret": {"secret"},
    }


def test_a_chain_of_lazy_steps_may_be_longer_than_pythons_stack(bench: Bench) -> None:
    bench.lora("a")
    chain = [f"s{n}: {{scale: {f's{n - 1}' if n else 'a'}, by: 1.0}}" for n in range(1100)]
    steps = ["a: {load: a.safetensors}", *chain, "o: {save: s1099, to: o.safetensors}"]

    (task,) = tasks_of(plan(load_recipe(bench.recipe("\n".join(steps))), read=True))

    assert len(task.steps) == 1102
    assert task.steps[:2] == ("a", "s0")


def test_lazy_steps_that_part_and_meet_again_are_walked_once(bench: Bench) -> None:
    """Thirty times: there are a thousand million ways through them."""
    bench.lora("s0")
    steps = ["s0: {load: s0.safetensors}"]
    for n in range(30):
        steps += [
            f"u{n}: {{filter: s{n}, keep: {{components: [unet]}}}}",
            f"t{n}: {{filter: s{n}, drop: {{components: [unet]}}}}",
            f"s{n + 1}: {{concat: [u{n}, t{n}]}}",
        ]
    steps.append("o: {save: s30, to: o.safetensors}")

    (task,) = tasks_of(plan(load_recipe(bench.recipe("\n".join(steps))), read=True))

    assert len(task.steps) == 92
