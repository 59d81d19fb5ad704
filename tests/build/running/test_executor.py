"""The executor gives an engine what is ready, and takes from what it says how it ended what is ready next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lorapipe.build.engines.engine import Ended
from lorapipe.build.events import Event, Listener, StepDone
from lorapipe.build.result import BuiltOutput
from lorapipe.build.run import plan
from lorapipe.build.running.executor import Begin, execute
from lorapipe.errors import BuildError, CheckFailed, LorapipeError, Place
from lorapipe.plan.plan import Plan
from lorapipe.plan.tasks import Task
from lorapipe.recipe.parsing import load_recipe

from ...bench import Bench

STEPS = """
    a: {load: a.safetensors}
    small: {svd-resize: a, rank: 2}
    good: {check: small, finite: true}
    mixed: {shuffle: small}
    exact: {save: a, to: exact.safetensors}
    lora: {save: small, to: lora.safetensors}
    secret: {save: mixed, to: secret.safetensors}
"""


@pytest.fixture
def planned(bench: Bench) -> Plan:
    bench.lora("a", rank=4)
    return plan(load_recipe(bench.recipe(STEPS)), read=True)


class Fake:
    """An engine that does nothing, and ends its tasks in the order that ``choose`` says."""

    def __init__(
        self, choose: Callable[[list[Task]], int] = lambda tasks: 0, **errors: LorapipeError
    ) -> None:
        self.submitted: list[str] = []
        self.ended: list[str] = []
        self.left = False
        self._waiting: list[Task] = []
        self._choose = choose
        self._errors = errors

    def submit(self, task: Task) -> None:
        assert task.after <= set(self.ended), "not ready yet"
        self.submitted.append(task.step)
        self._waiting.append(task)

    def next(self) -> Ended:
        task = self._waiting.pop(self._choose(self._waiting))
        self.ended.append(task.step)
        if task.step in self._errors:
            return Ended(task, error=self._errors[task.step], at=task.step)
        return Ended(task, output=BuiltOutput(task.step, Path(task.step), "0" * 64, 1, written=True))

    @property
    def begin(self) -> Begin:
        @contextmanager
        def begun(plan: Plan, tasks: tuple[Task, ...], listen: Listener) -> Iterator[Fake]:
            self.listen = listen
            try:
                yield self
            finally:
                self.left = True

        return begun


def unheard(event: Event) -> None:
    pass


def test_all_tasks_are_done_each_when_what_it_waits_for_has_ended(planned: Plan) -> None:
    engine = Fake()

    execute(planned, engine.begin, unheard)

    assert engine.submitted == ["small", "exact", "good", "mixed", "lora", "secret"]
    assert engine.left


@pytest.mark.parametrize("choose", [lambda tasks: 0, lambda tasks: -1])
def test_outputs_come_in_the_order_of_the_plan_whichever_ended_first(
    planned: Plan, choose: Callable[[list[Task]], int]
) -> None:
    engine = Fake(choose)

    done = execute(planned, engine.begin, unheard)

    assert [output.step for output in done.written if output.step in ("exact", "lora", "secret")] == [
        "exact",
        "lora",
        "secret",
    ]


def test_what_a_failed_check_holds_back_is_never_begun_and_is_told(planned: Plan) -> None:
    engine, heard = Fake(good=CheckFailed("check-failed", "too small")), list[Event]()

    done = execute(planned, engine.begin, heard.append)

    assert engine.submitted == ["small", "exact", "good"]
    assert [(event.step, event.how) for event in heard if isinstance(event, StepDone)] == [
        ("lora", "held back"),
        ("secret", "held back"),
    ]
    (error,) = done.failed
    assert isinstance(error, CheckFailed)
    assert (error.hint, isinstance(error.where, Place)) == ("not made: lora, secret", True)


def test_another_error_ends_the_build_with_its_place(planned: Plan) -> None:
    engine = Fake(small=BuildError("not-finite", "it has NaN"))

    with pytest.raises(BuildError) as caught:
        execute(planned, engine.begin, unheard)

    assert engine.submitted == ["small", "exact"]
    assert engine.left
    assert caught.value.step == "small"
    assert isinstance(caught.value.where, Place)


def test_an_error_of_a_lazy_step_under_a_task_is_told_of_that_step(planned: Plan) -> None:
    class AtLoad(Fake):
        def next(self) -> Ended:
            ended = super().next()
            return Ended(ended.task, error=BuildError("broken", "it is cut short"), at="a")

    with pytest.raises(BuildError) as caught:
        execute(planned, AtLoad().begin, unheard)

    assert caught.value.step == "a"


def test_steps_are_told_once_with_how_they_came(planned: Plan) -> None:
    class Telling(Fake):
        def next(self) -> Ended:
            ended = super().next()
            for step in ended.task.steps:  # as engines do that open a lazy step anew for each task
                self.listen(StepDone(step, "built", 0.0))
            return ended

    done = execute(planned, Telling().begin, unheard)

    assert sorted(step.step for step in done.steps) == sorted(planned.steps)
