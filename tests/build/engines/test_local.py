"""The engine of threads: what is ready runs, as memory allows, and all of it ends when one ends badly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

import pytest

from lorapipe.build.engines.engine import Ended
from lorapipe.build.engines.local import Local
from lorapipe.build.engines.threads import Crew
from lorapipe.build.ownership import Ownership
from lorapipe.build.records import Records
from lorapipe.build.run import plan
from lorapipe.build.running.bench import Bench as Worktable
from lorapipe.build.running.bench import local_engine
from lorapipe.build.running.means import Means
from lorapipe.errors import Halted
from lorapipe.plan.make import Locked
from lorapipe.plan.tasks import Task, tasks_of
from lorapipe.recipe.parsing import load_recipe

from ...bench import Bench

LONG_S = 20.0


def task(name: str) -> Task:
    return Task(name, (name,), frozenset(), frozenset({name}))


class Gate:
    """Tasks that tell when they begin, and end when they are let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.most = 0
        self._at_work = 0
        self._lock = threading.Lock()
        self._open: dict[str, threading.Event] = {}

    def let(self, name: str) -> threading.Event:
        return self._open.setdefault(name, threading.Event())

    def perform(self, given: Task) -> Ended:
        with self._lock:
            self.begun.append(given.step)
            self._at_work += 1
            self.most = max(self.most, self._at_work)
            gate = self.let(given.step)
        gate.wait(LONG_S)
        with self._lock:
            self._at_work -= 1
        return Ended(given)


def eventually(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + LONG_S
    while not holds() and time.monotonic() < until:
        time.sleep(0.001)
    return holds()


def engine(gate: Gate, crew: Crew, *, at_once: int = 4, room: int | None = None, **needs: int) -> Local:
    return Local(
        gate.perform,
        crew.halt,
        at_once=at_once,
        number=lambda given: ord(given.step[0]),
        need=lambda given: needs.get(given.step, 0),
        room=room,
    )


def alone(perform: Callable[[Task], Ended], crew: Crew, at_once: int = 1) -> Local:
    return Local(perform, crew.halt, at_once=at_once, number=lambda given: 0, need=lambda given: 0, room=None)


def test_no_more_tasks_run_at_a_time_than_are_allowed() -> None:
    gate = Gate()
    with Crew(1) as crew, engine(gate, crew, at_once=2) as local:
        for name in "abcde":
            gate.let(name).set()
            local.submit(task(name))
        ended = [local.next().task.step for _ in range(5)]

    assert sorted(ended) == list("abcde")
    assert gate.most <= 2


def test_a_task_begins_when_what_it_takes_of_the_memory_is_free() -> None:
    gate = Gate()
    with Crew(1) as crew, engine(gate, crew, room=10, a=6, b=6, c=4, d=6) as local:
        for name in "abc":
            local.submit(task(name))
        assert eventually(lambda: gate.begun == ["a", "c"])  # with b it would be 12 of 10

        gate.let("c").set()
        assert local.next().task.step == "c"
        local.submit(task("d"))
        time.sleep(0.02)
        assert gate.begun == ["a", "c"]

        gate.let("a").set()
        assert local.next().task.step == "a"
        gate.let("b").set()
        assert local.next().task.step == "b"
        assert gate.begun == ["a", "c", "b"]


def test_what_is_made_is_used_before_more_is_made() -> None:
    """Each of ``b``, ``d`` and ``f`` is followed by the next letter, which nothing else waits for."""
    gate = Gate()
    with Crew(1) as crew, engine(gate, crew, at_once=1) as local:
        for name in "abcdefg":
            gate.let(name).set()
        for name in "bdf":
            local.submit(task(name))
        for _ in range(3):
            ended = local.next().task.step
            local.submit(task(chr(ord(ended) + 1)))
            local.next()

    assert gate.begun == list("bcdefg")


def test_a_task_that_takes_more_than_there_is_runs_alone() -> None:
    gate = Gate()
    with Crew(1) as crew, engine(gate, crew, room=10, big=1000, small=1) as local:
        local.submit(task("big"))
        local.submit(task("small"))
        assert eventually(lambda: gate.begun == ["big"])
        gate.let("big").set()
        gate.let("small").set()
        assert {local.next().task.step, local.next().task.step} == {"big", "small"}

    assert gate.most == 1


def test_a_fault_in_a_task_is_raised_when_its_end_is_asked_for() -> None:
    def perform(given: Task) -> Ended:
        raise KeyError(given.step)

    with Crew(1) as crew, alone(perform, crew) as local:
        local.submit(task("a"))
        with pytest.raises(KeyError, match="a"):
            local.next()


def test_who_leaves_stops_what_is_at_work_and_waits_until_it_has_cleaned_up() -> None:
    cleaned: list[str] = []
    begun = threading.Event()
    crew = Crew(1)

    def perform(given: Task) -> Ended:
        try:
            begun.set()
            for _ in crew.each()(lambda item: time.sleep(0.01), range(10_000)):
                pass
        finally:
            cleaned.append(given.step)
        return Ended(given)

    started = time.monotonic()
    with crew, alone(perform, crew) as local:
        local.submit(task("a"))
        local.submit(task("never"))
        assert begun.wait(LONG_S)

    assert cleaned == ["a"]
    assert time.monotonic() - started < 5


def test_who_waits_for_a_long_item_does_not_wait_for_its_end_when_all_stops() -> None:
    halted: list[float] = []
    begun, end = threading.Event(), threading.Event()
    crew = Crew(1)

    def item(number: int) -> None:
        begun.set()
        end.wait(LONG_S)

    def perform(given: Task) -> Ended:
        try:
            list(crew.each()(item, range(3)))
        except Halted:
            halted.append(time.monotonic())
            raise
        return Ended(given)

    try:
        with alone(perform, crew) as local:
            local.submit(task("a"))
            assert begun.wait(LONG_S)
        assert len(halted) == 1
    finally:
        end.set()


def test_tasks_share_the_threads_of_one_crew() -> None:
    at_work: list[int] = []
    most = 0
    lock = threading.Lock()
    crew = Crew(2)

    def item(number: int) -> int:
        nonlocal most
        with lock:
            at_work.append(number)
            most = max(most, len(at_work))
        time.sleep(0.002)
        with lock:
            at_work.remove(number)
        return number

    def perform(given: Task) -> Ended:
        assert list(crew.each()(item, range(20))) == list(range(20))
        return Ended(given)

    with crew, alone(perform, crew, at_once=3) as local:
        for name in "abc":
            local.submit(task(name))
        for _ in "abc":
            local.next()

    assert most == 2


def test_thousands_that_wait_for_memory_are_not_looked_through_each_time() -> None:
    many, asked = 2000, 0

    def need(given: Task) -> int:
        nonlocal asked
        asked += 1
        return 6

    with (
        Crew(1) as crew,
        Local(Ended, crew.halt, at_once=2, number=lambda given: int(given.step), need=need, room=10) as local,
    ):
        for number in range(many):
            local.submit(task(str(number)))
        assert len({local.next().task.step for _ in range(many)}) == many

    assert asked < 300 * many


def test_a_task_of_which_ctrl_c_came_before_anybody_knew_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread is begun, and the signal comes before the pool notes that."""
    begun, cleaned = threading.Event(), threading.Event()
    crew = Crew(1)

    def perform(given: Task) -> Ended:
        begun.set()
        try:
            crew.halt.result(Future())
        finally:
            time.sleep(0.2)
            cleaned.set()
        return Ended(given)

    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        assert begun.wait(LONG_S)
        raise KeyboardInterrupt

    local = alone(perform, crew)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), crew, local:
        local.submit(task("a"))

    assert cleaned.is_set()


@pytest.mark.parametrize(("device", "at_once"), [("cpu", 2), ("cuda", 1), ("cuda:1", 1)])
def test_on_a_device_one_task_runs_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, device: str, at_once: int
) -> None:
    """Its memory is not what is foretold of the host's, and a task fills it with its own streams."""
    gate = Gate()
    monkeypatch.setattr(Worktable, "perform", lambda self, given: gate.perform(given))
    for name in "abc":
        bench.lora(name)
    steps = [f"{n}: {{load: {n}.safetensors}}\no{n}: {{save: {n}, to: o{n}.safetensors}}" for n in "abc"]
    made = replace(plan(load_recipe(bench.recipe("\n".join(steps))), read=True), device=device)
    tasks = tasks_of(made)
    with Records(looking=False) as records:
        ownership = Ownership(records, Locked())
        with local_engine(made, tasks, lambda event: None, ownership=ownership, means=Means(2)) as engine:
            for given in tasks:
                engine.submit(given)
            assert eventually(lambda: len(gate.begun) == at_once)
            for given in tasks:
                gate.let(given.step).set()
            assert [engine.next().task.step for _ in tasks]
    assert gate.most == at_once
