"""Checks in a plan: what is known before any work, and what they hold back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from lorapipe.build.run import build, plan
from lorapipe.errors import BuildError, CheckFailed, ManyErrors
from lorapipe.plan.checks import checked_steps, foretold_failures, held_outputs, is_of_checks
from lorapipe.plan.plan import Plan, Status
from lorapipe.recipe.parsing import load_recipe
from lorapipe.recipe.schemas import schema_file
from lorapipe.views.plan_json import plan_json

from ..bench import Bench
from ..checked import steps_to_check


@pytest.fixture
def steps(bench: Bench) -> str:
    return steps_to_check(bench)


def planned(bench: Bench, steps: str, *, read: bool = True, **params: Any) -> Plan:
    return plan(load_recipe(bench.recipe(steps), params), read=read)


def statuses(made: Plan) -> dict[str, Status]:
    return {name: step.status for name, step in made.steps.items()}


def test_a_check_is_about_its_main_input_alone(bench: Bench, steps: str) -> None:
    text = steps + "good: {check: small, energy: {of: both, min: 0.1}, differs-from: a}\n"
    recipe = load_recipe(bench.recipe(text))
    assert checked_steps(recipe) == {"good": "small"}
    assert held_outputs(recipe) == {"good": ("lora", "secret")}


def test_a_check_comes_before_all_that_is_made_of_its_step(bench: Bench, steps: str) -> None:
    made = planned(bench, steps + "good: {check: small, finite: true}\n")
    assert statuses(made)["good"] is Status.RUN
    order = [position.step for position in made.schedule]
    assert order.index("good") < min(order.index(step) for step in ("mixed", "lora", "secret"))
    assert order.index("exact") < order.index("good")
    assert [step.step.id for step in made.unchecked] == ["good"]


def test_what_headers_show_to_hold_needs_no_work(bench: Bench, steps: str) -> None:
    made = planned(bench, steps + "good: {check: both, rank: {min: 8, max: 8}, modules: 4}\n", read=False)
    good = made.steps["good"]
    assert (good.status, good.reason) == (Status.UP_TO_DATE, "the headers show that it holds")
    assert "good" not in [position.step for position in made.schedule]


def test_what_headers_show_not_to_hold_stops_what_it_holds_back_and_nothing_else(
    bench: Bench, steps: str
) -> None:
    made = planned(bench, steps + "bad: {check: small, rank: {max: 1}}\n", read=False)
    found = statuses(made)
    assert found["bad"] is Status.FAILS
    assert (found["lora"], found["secret"]) == (Status.HELD, Status.HELD)
    assert made.steps["lora"].reason == "check 'bad' does not hold"
    assert [step.step.id for step in made.pending] == ["exact"]
    assert [position.step for position in made.schedule] == ["a", "b", "both", "exact"]
    assert found["small"] is found["mixed"] is Status.UNUSED


def test_errors_stand_at_the_assertion_and_name_what_is_not_made(bench: Bench, steps: str) -> None:
    made = planned(bench, steps + "bad: {check: small, modules: 9, rank: {max: 1}}\n")
    rank, modules = sorted(foretold_failures(made), key=lambda error: error.message)
    assert isinstance(modules, CheckFailed)
    assert (modules.code, modules.step, modules.exit_status) == ("check-failed", "bad", 8)
    assert rank.message == "'small': 4 of 4 modules have a rank above 1"
    assert modules.message == "'small': it has 4 modules, not 9"
    assert rank.hint == modules.hint == "not made: lora, secret"
    assert str(modules.where).endswith("r.yaml:11:32")
    assert str(rank.where).endswith("r.yaml:11:41")


def test_outputs_that_are_there_already_are_left_and_said_to_be(bench: Bench, steps: str) -> None:
    build(load_recipe(bench.recipe(steps)))
    (bench.folder / "secret.safetensors").unlink()
    made = planned(bench, steps + "bad: {check: small, rank: {max: 1}}\n")
    assert (statuses(made)["lora"], statuses(made)["secret"]) == (Status.UP_TO_DATE, Status.HELD)
    (error,) = foretold_failures(made)
    assert error.hint == "not made: secret; left as it is: lora"


def test_a_check_without_saves_is_made_all_the_same(bench: Bench, steps: str) -> None:
    made = planned(bench, "a: {load: a.safetensors}\ngood: {check: a, finite: true}\n")
    assert [position.step for position in made.schedule] == ["a", "good"]
    assert made.held == {"good": ()}
    assert made.warnings == ("no step saves anything: a run makes no file",)


def test_an_input_that_is_not_hashed_leaves_a_check_undecided(bench: Bench, steps: str) -> None:
    made = planned(bench, steps + "good: {check: small, finite: true}\n", read=False)
    assert statuses(made)["good"] is Status.UNDECIDED


def test_all_that_is_wrong_in_checks_is_among_the_errors_of_the_recipe(bench: Bench, steps: str) -> None:
    text = steps + "bad: {check: small, energy: {of: small, min: 1}}\nodd: {load: none.safetensors}\n"
    with pytest.raises(ManyErrors) as caught:
        planned(bench, text)
    assert [error.code for error in caught.value.errors] == ["self-comparison", "input-missing"]


def test_the_plan_as_json_has_checks_by_its_schema(bench: Bench, steps: str) -> None:
    made = planned(
        bench, steps + "bad: {check: small, rank: {max: 1}}\ngood: {check: both, finite: true, modules: 4}\n"
    )
    told = json.loads(json.dumps(plan_json(made, Path(bench.folder))))
    Draft7Validator(json.loads(schema_file("plan.v1.schema.json").read_text())).validate(told)
    found = {step["id"]: step for step in told["steps"]}
    assert found["bad"]["holds-back"] == ["lora", "secret"]
    assert found["bad"]["status"] == "does not hold"
    assert found["lora"]["status"] == "held back"
    assert found["good"]["result"] == {"type": "check", "asserted": ["4 modules", "finite"], "count": 4}


def test_a_run_that_ended_with_another_error_too_did_not_do_all_that_it_could() -> None:
    check, fault = CheckFailed("check-failed", "x"), BuildError("overflow", "y")
    assert is_of_checks(check)
    assert is_of_checks(ManyErrors([check, check]))
    assert not is_of_checks(ManyErrors([check, fault]))
    assert not is_of_checks(fault)
