"""A worker's side: a job planned again, and what of it is another thing there."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from distributed.protocol.pickle import dumps, loads

from lorapipe.build.cluster.job import Job, job_of
from lorapipe.build.cluster.messages import Left, Order
from lorapipe.build.cluster.planned import Planned
from lorapipe.build.cluster.station import Station, do, found_or_brought, means_on
from lorapipe.build.events import Event
from lorapipe.build.ownership import Ownership
from lorapipe.build.planning import Options, plan_free
from lorapipe.build.records import Records
from lorapipe.build.run import build
from lorapipe.build.running.means import Means
from lorapipe.errors import BuildError, InputError, LorapipeError, gathered
from lorapipe.plan.make import Locked
from lorapipe.plan.tasks import Task, tasks_of
from lorapipe.recipe.parsing import load_recipe

from ...bench import Bench

STEPS = """
    a: {load: a.safetensors}
    other: {load: b.safetensors}
    small: {svd-resize: a, rank: 1}
    out: {save: small, to: out/small.safetensors}
    rest: {save: other, to: out/rest.safetensors}
"""


@pytest.fixture
def recipe(bench: Bench) -> Path:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    return bench.recipe(STEPS)


def travelled(job: Job) -> Job:
    """A job as a worker gets it."""
    there = loads(dumps(job))
    assert isinstance(there, Job)
    return there


def job_and_tasks(recipe: Path, wanted: str = "", **options: object) -> tuple[Job, dict[str, Task]]:
    asked = Options(**options)  # type: ignore[arg-type]
    with Records(looking=False, root=asked.places) as records:
        made, ownership = plan_free(load_recipe(recipe), asked, records)
        tasks = [task for task in tasks_of(made) if wanted in task.goals or not wanted]
        job = job_of(made, tasks, ownership, asked)
    return travelled(job), {task.step: task for task in tasks}


@pytest.fixture
def job(recipe: Path) -> Job:
    return job_and_tasks(recipe)[0]


def refused(job: Job) -> LorapipeError:
    with pytest.raises(LorapipeError) as caught:
        Planned(job).close()
    return gathered(caught.value.parts)


def test_a_job_has_what_its_tasks_need_and_no_more(recipe: Path) -> None:
    job, tasks = job_and_tasks(recipe, "out")
    assert sorted(tasks) == ["out", "small"]
    assert list(job.recipe.steps) == ["a", "small", "out"]
    assert [path.name for path in job.files if isinstance(path, Path)] == ["a.safetensors"]
    assert all(path.is_absolute() for path in job.files if isinstance(path, Path))


def test_a_job_is_small(job: Job) -> None:
    assert len(dumps(job)) < 20_000


def test_a_worker_plans_what_the_client_planned_and_reads_no_input(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def hash_file(*_: object) -> None:
        raise AssertionError("the client has hashed it")

    monkeypatch.setattr("lorapipe.store.memo.hash_file", hash_file)
    there = replace(job, places=replace(job.places, root=tmp_path / "a store that knows nothing"))
    planned = Planned(there)
    assert {name: step.key for name, step in planned.plan.steps.items() if step.key} == job.keys
    planned.close()


def test_a_worker_is_in_another_folder_and_of_another_environment(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    monkeypatch.setenv("LORAPIPE_MODELS", str(tmp_path))
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "its own"))
    Planned(job).close()


def test_the_date_of_the_client_counts(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    job, _ = job_and_tasks(recipe)
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    Planned(job).close()
    assert refused(replace(job, environment={})).code == "keys-differ"


def test_an_input_of_another_size_is_named_with_both(job: Job, bench: Bench) -> None:
    path = bench.folder / "a.safetensors"
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"more")
    error = refused(job)
    assert (error.code, error.exit_status) == ("input-differs", 4)
    assert f"{size + 4:,} bytes here, {size:,} where the build was started" in error.message
    assert error.step == "a"


def test_an_input_of_another_time_is_read_and_is_the_same(job: Job, bench: Bench) -> None:
    os.utime(bench.folder / "a.safetensors", ns=(1, 1))  # a copy that this machine has
    Planned(job).close()


def test_an_input_of_another_time_is_read_and_is_another(job: Job, bench: Bench) -> None:
    path = bench.folder / "a.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    error = refused(job)
    assert isinstance(error, InputError)
    assert error.code == "input-differs"
    assert job.inputs["a"].sha256[:12] in error.message


def test_an_input_that_is_not_there_is_missing(job: Job, bench: Bench) -> None:
    (bench.folder / "a.safetensors").unlink()
    assert refused(job).code == "input-missing"


def test_a_worker_of_another_torch_has_other_keys(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorapipe.plan.device.torch_version", lambda: "9.9.9")
    error = refused(job)
    assert error.code == "keys-differ"
    assert error.details == ("3 of 3 steps have other keys",)


def test_the_store_of_one_machine_is_not_used_from_another(job: Job, tmp_path: Path) -> None:
    error = refused(replace(job, machine="another"))
    assert (error.code, error.exit_status) == ("store-not-shared", 5)
    assert "LORAPIPE_STORE=file:///" in (error.remedy or "")
    shared = replace(job.places, shared=f"file://{tmp_path}")
    planned = Planned(replace(job, machine="another", places=shared))
    assert planned.records.root != shared.shared
    planned.close()


@pytest.fixture
def station() -> Iterator[Station]:
    made = Station()
    yield made
    made.close()


def test_a_station_plans_a_job_once_and_lets_the_oldest_go(station: Station, job: Job) -> None:
    first = station.accept(job)
    assert station.accept(job) is first
    for number in range(4):
        station.accept(replace(job, name=str(number)))
    assert station.find(job.name) is None
    assert station.accept(job) is not first


def test_a_job_is_forgotten_and_then_unknown(station: Station, job: Job) -> None:
    station.accept(job)
    station.forget(job.name)
    station.forget(job.name)
    assert station.find(job.name) is None


def test_a_job_that_a_worker_does_not_know_is_asked_for_once_and_waited_for(
    station: Station, job: Job
) -> None:
    asked = []

    def bring() -> None:
        asked.append(job.name)
        threading.Timer(0.2, station.accept, [job]).start()

    planned = found_or_brought(station, job.name, bring, lambda: True)
    assert planned is not None
    assert found_or_brought(station, job.name, bring, lambda: True) is planned
    assert asked == [job.name]


def test_a_job_that_nobody_brings_is_not_waited_for_long(station: Station) -> None:
    def nothing() -> None:
        pass

    assert found_or_brought(station, "job", nothing, lambda: False) is None
    assert found_or_brought(station, "job", nothing, lambda: True, patience_s=0.1) is None


def order(job: Job, task: Task) -> tuple[Planned, Order]:
    return Planned(job), Order("job", task)


def test_what_a_task_needs_and_the_store_lacks_is_told_not_made(recipe: Path) -> None:
    job, tasks = job_and_tasks(recipe)
    planned, asked = order(job, tasks["out"])
    outcome = do(planned, asked, Means(1), tell=lambda _: None, wanted=lambda: True, address="here")
    assert outcome.vanished == "small"
    planned.close()


def test_a_task_gives_back_digests_and_tells_when_it_has_left(recipe: Path) -> None:
    job, tasks = job_and_tasks(recipe)
    told: list[Event | Left] = []
    planned = Planned(job)
    for step in ("small", "out"):
        outcome = do(
            planned,
            Order("job", tasks[step]),
            Means(1),
            tell=told.append,
            wanted=lambda: True,
            address="here",
        )
    planned.close()
    assert outcome.output is not None
    assert len(outcome.content) == 64
    assert told.count(Left()) == 2
    again = build(load_recipe(recipe), Options())
    assert [o.written for o in again.outputs] == [False, True]


def test_a_task_that_is_taken_back_stops(recipe: Path) -> None:
    job, tasks = job_and_tasks(recipe)
    planned, asked = order(job, tasks["small"])

    def tell(what: Event | Left) -> None:
        if not isinstance(what, Left):
            planned.records.halt.ask()  # as the watch does a moment later

    outcome = do(planned, asked, Means(1), tell=tell, wanted=lambda: False, address="here")
    assert outcome.undone
    assert do(planned, asked, Means(1), tell=lambda _: None, wanted=lambda: True, address="x").error is None
    planned.close()


def test_a_foreign_file_that_came_meanwhile_is_not_replaced(recipe: Path) -> None:
    job, tasks = job_and_tasks(recipe, "rest")
    target = recipe.parent / "out" / "rest.safetensors"
    target.parent.mkdir()
    target.write_bytes(b"somebody's")
    planned, asked = order(job, tasks["rest"])
    outcome = do(planned, asked, Means(1), tell=lambda _: None, wanted=lambda: True, address="here")
    planned.close()
    assert outcome.error is not None
    assert outcome.error.code == "foreign-file"
    assert target.read_bytes() == b"somebody's"


def test_what_was_ours_on_the_client_may_be_replaced_by_a_worker(recipe: Path, tmp_path: Path) -> None:
    build(load_recipe(recipe), Options())
    recipe.write_text(recipe.read_text().replace("rank: 1", "rank: 2"))
    job, tasks = job_and_tasks(recipe, "out")
    assert list(job.ours) == [recipe.parent / "out" / "small.safetensors"]
    there = replace(job, places=replace(job.places, root=tmp_path / "its own"))
    planned = Planned(there)
    for step in ("small", "out"):
        asked = Order("job", tasks[step])
        outcome = do(planned, asked, Means(1), tell=lambda _: None, wanted=lambda: True, address="here")
    planned.close()
    assert outcome.error is None
    assert outcome.output is not None


@pytest.mark.parametrize(
    ("threads", "at_work", "limit", "workers", "memory", "means"),
    [
        (1, 1, None, None, None, Means(1)),
        (8, 1, None, None, None, Means(8)),
        (8, 3, None, None, None, Means(2)),
        (8, 9, None, None, None, Means(1)),
        (8, 8, None, 4, None, Means(4)),
        (1, 1, 8 << 30, None, None, Means(1, 6 << 30)),
        (1, 1, 8 << 30, None, 2 << 30, Means(1, 2 << 30)),
        (4, 1, 8 << 30, None, 7 << 30, Means(4, 3 << 29)),
    ],
)
def test_a_task_uses_what_its_worker_was_given(
    job: Job,
    threads: int,
    at_work: int,
    limit: int | None,
    workers: int | None,
    memory: int | None,
    means: Means,
) -> None:
    asked = replace(job, workers=workers, memory=memory)
    assert means_on(asked, threads, at_work, limit) == means


def test_what_nobody_may_replace_is_not_among_what_is_ours(recipe: Path) -> None:
    target = recipe.parent / "out" / "small.safetensors"
    target.parent.mkdir()
    target.write_bytes(b"somebody's")
    with Records(looking=False) as records:
        assert Ownership(records, Locked()).ours(target) is None
        assert Ownership(records, Locked(), force=True).ours(target) is None


def test_a_refusal_is_a_value_that_travels(job: Job) -> None:
    import pickle

    error = pickle.loads(pickle.dumps(refused(replace(job, machine="another"))))
    assert isinstance(error, BuildError)
    assert error.remedy
