"""What several workers tell, as one build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest

from lorapipe.build.cluster.hearing import Hearing
from lorapipe.build.cluster.messages import Left, Told, message_of, told_of
from lorapipe.build.cluster.station import now_and_then
from lorapipe.build.events import Event, Hashing, Note, OutputReady, Progress, StepDone, StepStarted
from lorapipe.build.run import plan
from lorapipe.recipe.parsing import load_recipe
from lorapipe.remote.url import parse_url

from ...bench import Bench

Tell = Callable[..., None]


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def hearing(bench: Bench, heard: list[Event]) -> Hearing:
    bench.lora("a")
    recipe = bench.recipe("""
    a: {load: a.safetensors}
    one: {svd-resize: a, rank: 1}
    two: {svd-resize: a, rank: 2}
    out: {save: two, to: out.safetensors}
    other: {save: one, to: other.safetensors}
    """)
    made = plan(load_recipe(recipe), read=True)
    times = iter(range(100))
    return Hearing(made, ["one", "two", "out", "other"], heard.append, clock=lambda: float(next(times)))


def of(task: str, what: Event | Left, part: str | None = None) -> Told:
    return Told("job", task, part, what)


def test_a_lazy_step_is_told_by_the_first_task_that_has_it(hearing: Hearing, heard: list[Event]) -> None:
    hearing.hear(of("one", StepStarted("a", "load", 1, 9)))
    hearing.hear(of("two", StepStarted("a", "load", 1, 9)))
    hearing.hear(of("two", StepDone("a", "built", 0.5)))
    hearing.hear(of("one", StepDone("a", "built", 0.25)))
    assert heard == [StepStarted("a", "load", 1, 5), StepDone("a", "built", 0.25)]


def test_a_result_is_told_by_its_own_task_and_not_by_those_that_read_it(
    hearing: Hearing, heard: list[Event]
) -> None:
    hearing.hear(of("out", StepDone("two", "store", 0.1)))
    hearing.hear(of("two", StepDone("two", "built", 3.0)))
    assert heard == [StepDone("two", "built", 3.0)]


def test_a_step_begun_again_after_its_worker_died_is_begun_once(hearing: Hearing, heard: list[Event]) -> None:
    for _ in range(2):
        hearing.hear(of("two", StepStarted("two", "svd-resize", 7, 9)))
    assert len(heard) == 1


def test_files_of_a_folder_go_forward_as_one(hearing: Hearing, heard: list[Event]) -> None:
    whole = hearing._plan.steps["out"].spec.nbytes  # type: ignore[union-attr]
    hearing.hear(of("out", Progress("out", 10, 50, "bytes"), "x"))
    hearing.hear(of("out", Progress("out", 20, 90, "bytes"), "y"))
    hearing.hear(of("out", Progress("out", 15, 50, "bytes"), "x"))
    hearing.hear(of("out", StepStarted("out", "save", 1, 2)))
    hearing.hear(of("out", Progress("out", 30, whole, "bytes")))
    hearing.hear(of("out", Progress("out", whole, whole, "bytes")))
    hearing.hear(of("out", StepDone("out", "written", 0.001)))
    begun, *forward, done = heard
    assert isinstance(begun, StepStarted)
    assert [e.done for e in forward if isinstance(e, Progress)] == [10, 30, 35, whole]
    assert isinstance(done, StepDone)
    assert done.seconds > 0.001, "it took as long as its files did"


def test_who_is_at_work_is_known_until_he_says_that_he_is_not(hearing: Hearing, heard: list[Event]) -> None:
    hearing.hear(of("one", Note("one", "energy", 0.5)))
    hearing.hear(of("out", Progress("out", 1, 5, "bytes"), "x"))
    assert hearing.begun == {("one", None), ("out", "x")}
    hearing.hear(of("one", Left()))
    assert hearing.begun == {("out", "x")}


def test_of_many_steps_forward_a_few_are_told_and_the_last() -> None:
    told: list[object] = []
    now = 0.0
    listen = now_and_then(told.append, clock=lambda: now)
    for done in range(101):
        listen(Progress("a", done, 100))
        listen(Hashing(Path("b"), done, 100))
        now += 0.01
    steps = [e.done for e in told if isinstance(e, Progress)]
    assert (steps[0], steps[-1]) == (0, 100)
    assert len(steps) <= 7
    assert len(told) == 2 * len(steps)


def test_all_else_is_told_at_once() -> None:
    told: list[object] = []
    listen = now_and_then(told.append, clock=lambda: 0.0)
    events = [StepStarted("a", "load", 1, 1), Note("a", "energy", 1), StepDone("a", "built", 0.0)]
    for event in events:
        listen(event)
    assert told == events


@pytest.mark.parametrize(
    "stranger",
    [
        None,
        7,
        "text",
        b"bytes",
        {"op": "x"},
        [],
        ["job", "out", None, "Path", {}],
        ["job", "out", None, "StepDone", {}],
        ["job", "out", None, "StepDone", {"step": "out", "how": "built", "seconds": 1.0, "more": 1}],
        ["job", "out", 5, "Left", {}],
        ["job", "out", None, "Left", []],
    ],
)
def test_what_others_write_under_the_topic_is_not_ours(stranger: object) -> None:
    assert told_of(stranger) is None


@pytest.mark.parametrize(
    "event",
    [
        StepStarted("a", "load", 1, 2),
        Progress("a", 1, 5, "bytes", 0.25),
        Note("a", "energy", {"least": [0.5, "module"]}),
        StepDone("a", "built", 0.125),
        Hashing(Path("/a/b c"), 1, 2),
        OutputReady("a", Path("/out/é.safetensors"), "00", 7, written=True),
        OutputReady("a", parse_url("s3://team/out/a.safetensors"), "00", 7, written=True),
        Left(),
    ],
)
def test_what_is_told_comes_through_the_scheduler_as_it_was(event: Event | Left) -> None:
    told = of("out", event, "x")
    there = msgpack.unpackb(msgpack.packb(message_of(told)))
    assert told_of(there) == told
    assert told_of(tuple(there)) == told, "as dask gives lists back"
