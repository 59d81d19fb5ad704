"""Values of steps: made once, whoever asks, and let go after the last who needs them."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from lorapipe.build.running.values import Values
from lorapipe.plan.tasks import Task


class Value:
    """Something that can be seen to go."""


def task(name: str, *under: str) -> Task:
    return Task(name, (*under, name), frozenset(), frozenset({name}))


def test_a_value_is_made_when_it_is_asked_for_and_once() -> None:
    made: list[str] = []
    values = Values(lambda step: made.append(step) or step.upper(), [task("out", "a")])  # type: ignore[func-returns-value]  # a lambda that notes

    assert made == []
    assert (values["a"], values["a"]) == ("A", "A")
    assert made == ["a"]


def test_of_several_threads_that_want_a_value_one_makes_it() -> None:
    made: list[str] = []
    together = threading.Barrier(4)

    def make(step: str) -> Value:
        made.append(step)
        time.sleep(0.02)
        return Value()

    values = Values(make, [task("out", "a")])

    def ask(_: int) -> object:
        together.wait()
        return values["a"]

    with ThreadPoolExecutor(4) as pool:
        found = set(map(id, pool.map(ask, range(4))))

    assert (made, len(found)) == (["a"], 1)


def test_making_a_value_may_ask_for_others() -> None:
    values = Values(lambda step: 1 if step == "a" else 1 + int(values["a"]), [task("out", "a", "b")])

    assert values["b"] == 2


def test_a_value_whose_making_failed_is_made_anew_by_who_asks_next() -> None:
    tries = iter([ValueError("once")])

    def make(step: str) -> str:
        for error in tries:
            raise error
        return step

    values = Values(make, [task("out", "a")])
    with pytest.raises(ValueError, match="once"):
        values["a"]

    assert values["a"] == "a"


def test_a_value_goes_with_the_last_task_that_uses_it() -> None:
    one, two = task("one", "a", "b"), task("two", "a")
    values = Values(lambda step: Value(), [one, two])
    a, b = weakref.ref(values["a"]), weakref.ref(values["b"])

    values.release(one)
    gc.collect()
    assert a() is not None
    assert b() is None

    values.release(two)
    gc.collect()
    assert a() is None


def test_what_a_task_made_stays_for_those_that_take_it() -> None:
    makes, takes = task("small"), task("lora", "small")
    values = Values(lambda step: pytest.fail("it is a task's"), [makes, takes])

    values.put("small", Value())
    values.release(makes)
    assert isinstance(values["small"], Value)

    kept = weakref.ref(values["small"])
    values.release(takes)
    gc.collect()
    assert kept() is None
