"""The engine dask on two processes: what ``threads`` makes, or one clear error before any work."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster
from safetensors.torch import load_file

from lorapipe.build.events import Event, Planned, Progress, StepDone, StepStarted
from lorapipe.build.result import Built
from lorapipe.build.run import Options, build
from lorapipe.errors import BuildError, CheckFailed, LorapipeError
from lorapipe.recipe.parsing import load_recipe

from ...bench import CONV1, PROJ_IN, TE, TO_Q, Bench
from ...formats.model_folders import hf_folder

SWEEP = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: $(strength), b: -0.5}}
    small: {svd-resize: both, rank: $(rank)}
    mixed: {shuffle: small, seed: 7}
    out: {save: mixed, to: out/s$(strength)-r$(rank).safetensors}
"""
MATRIX = "matrix: {strength: [0.5, 1.0], rank: [2, 3]}\n"
LARGER = {TE: (120, 80), TO_Q: (100, 100), PROJ_IN: (100, 100, 1, 1), CONV1: (60, 40, 3, 3)}

Build = Callable[..., Built]


@pytest.fixture
def dask(cluster: LocalCluster) -> Build:
    """Builds a recipe on the cluster; what it tells is asked for by ``listen``."""

    def built(recipe: Path, listen: Callable[[Event], None] = lambda _: None, **options: Any) -> Built:
        asked = Options(engine="dask", scheduler=cluster.scheduler_address, **options)
        return build(load_recipe(recipe), asked, listen=listen)

    return built


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster, set_as_default=False) as found:
        yield found


@pytest.fixture
def sweep(bench: Bench) -> Path:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    return bench.recipe(SWEEP, head=MATRIX)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def by_threads(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], Built]:
    """The outputs as the local engine makes them, with a store of its own; they are taken away again."""
    with monkeypatch.context() as here:
        here.setenv("LORAPIPE_STORE", str(recipe.parent.parent / "store of threads"))
        built = build(load_recipe(recipe), Options(workers=2))
    out = recipe.parent / "out"
    good = digests(out)
    shutil.rmtree(out)
    recipe.with_suffix(".lock").unlink()
    return good, built


def test_a_sweep_is_what_threads_make_of_it_to_the_byte(
    sweep: Path, dask: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, local = by_threads(sweep, monkeypatch)
    lock = sweep.with_suffix(".lock")
    built = dask(sweep)
    assert digests(sweep.parent / "out") == good
    assert {done.step: done.how for done in built.steps} == {done.step: done.how for done in local.steps}
    assert [output.step for output in built.outputs] == [output.step for output in local.outputs]
    assert lock.is_file()


def test_what_workers_wrote_is_ours_to_find_and_to_replace(sweep: Path, dask: Build) -> None:
    dask(sweep)
    sweep.with_suffix(".lock").unlink()
    again = build(load_recipe(sweep), Options())  # threads: there is nothing to do
    assert not any(output.written for output in again.outputs)
    sweep.write_text(sweep.read_text().replace("seed: 7", "seed: 8"))
    assert all(output.written for output in dask(sweep).outputs)


def test_each_step_is_told_once_in_its_place_of_the_schedule(sweep: Path, dask: Build) -> None:
    heard: list[Event] = []
    built = dask(sweep, heard.append)
    begun = [(e.step, e.position, e.count) for e in heard if isinstance(e, StepStarted)]
    places = {position.step: number for number, position in enumerate(built.plan.schedule, start=1)}
    assert sorted(begun) == sorted((step, place, len(places)) for step, place in places.items())
    assert sorted(e.step for e in heard if isinstance(e, StepDone)) == sorted(places)
    assert any(isinstance(e, Progress) and e.step.startswith("out[") for e in heard)


def test_files_of_a_folder_are_made_apart_and_are_one_output(
    bench: Bench, dask: Build, monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    bench.lora("a", rank=8, modules=LARGER)
    hf_folder(bench.folder / "base", load_file(bench.checkpoint(shapes=LARGER)), 2)
    recipe = bench.recipe("""
    a: {load: a.safetensors}
    base: {load: base/}
    model: {merge-into-checkpoint: base, loras: {a: 1.0}}
    m: {save: model, to: out/m/, shard-size: 30kB}
    """)
    good, _ = by_threads(recipe, monkeypatch)
    heard: list[Event] = []
    built = dask(recipe, heard.append)
    assert digests(recipe.parent / "out") == good
    assert len([name for name in good if name.endswith(".safetensors")]) > 2
    forward = [e for e in heard if isinstance(e, Progress) and e.step == "m"]
    assert [e.done for e in forward] == sorted(e.done for e in forward)
    assert (forward[-1].done, forward[-1].unit) == (forward[-1].total, "bytes")
    assert [done.step for done in built.steps].count("m") == 1
    ran = {key.partition("-")[0] for key in client.run_on_scheduler(_keys)}
    assert any(key.startswith("m:") for key in ran)


def _keys(dask_scheduler: Any) -> list[str]:
    """What the scheduler's pages show of the tasks that it had."""
    return [str(prefix) for prefix in dask_scheduler.task_prefixes]


def test_a_step_that_fails_says_where_why_and_on_which_worker(bench: Bench, dask: Build) -> None:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    recipe = bench.recipe("""
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    far: {concat: {a: 1.0e+12, b: 1.0}}
    out: {save: far, to: out/far.safetensors, dtype: fp16}
    """)
    with pytest.raises(LorapipeError) as here:
        build(load_recipe(recipe), Options())
    with pytest.raises(LorapipeError) as there:
        dask(recipe)
    assert (there.value.code, there.value.step, there.value.where) == (
        here.value.code,
        here.value.step,
        here.value.where,
    )
    assert there.value.remedy == here.value.remedy
    assert there.value.details[-1].startswith("on worker tcp://127.0.0.1:")


def test_a_check_that_does_not_hold_keeps_back_what_it_is_about_and_no_more(
    bench: Bench, dask: Build
) -> None:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    recipe = bench.recipe("""
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    small: {svd-resize: a, rank: 1}
    good: {check: small, energy: {of: a, min: 0.9999}}
    kept: {save: small, to: out/kept.safetensors}
    other: {save: b, to: out/other.safetensors}
    """)
    with pytest.raises(CheckFailed):
        dask(recipe)
    assert sorted(digests(recipe.parent / "out")) == ["other.safetensors"]


def test_a_result_that_is_lost_on_the_way_is_made_again(bench: Bench, sweep: Path, dask: Build) -> None:
    dask(sweep)
    shutil.rmtree(sweep.parent / "out")
    plans = 0

    def lose(event: Event) -> None:
        nonlocal plans
        if isinstance(event, Planned):
            plans += 1
            if plans == 1:
                for blob in (bench.folder.parent / "store" / "blobs").glob("*/*"):
                    blob.unlink()

    assert all(output.written for output in dask(sweep, lose).outputs)
    assert plans > 1


def soon(holds: Callable[[], bool], seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return holds()


def test_who_interrupts_a_build_leaves_no_task_and_nothing_half_written(
    sweep: Path, dask: Build, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, _ = by_threads(sweep, monkeypatch)

    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.step.startswith("out["):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dask(sweep, stop)
    assert soon(lambda: not any(client.processing().values()))
    assert soon(lambda: not list((sweep.parent / "out").glob(".lorapipe*")))
    dask(sweep)
    assert digests(sweep.parent / "out") == good


def test_another_version_on_a_worker_is_one_error_before_any_work(
    sweep: Path, dask: Build, client: Client
) -> None:
    address = next(iter(client.scheduler_info()["workers"]))
    client.run(_be_version, "0.0.1", workers=[address])
    try:
        with pytest.raises(BuildError) as caught:
            dask(sweep)
    finally:
        from lorapipe.version import __version__

        client.run(_be_version, __version__, workers=[address])
    assert caught.value.code == "versions-differ"
    assert "lorapipe is 0.0.1 there" in caught.value.message
    assert [address in line for line in caught.value.details] == [True]
    assert not (sweep.parent / "out").exists()


def _be_version(version: str) -> None:
    from lorapipe.build.cluster import meeting

    meeting.__version__ = version  # type: ignore[attr-defined]  # as another installation has it


def test_a_device_that_no_worker_declares_is_refused(sweep: Path, dask: Build) -> None:
    with pytest.raises(LorapipeError) as caught:
        dask(sweep, device="cuda")
    assert caught.value.code == "no-worker-able"
    assert "--resources GPU=1" in (caught.value.remedy or "")
    assert not (sweep.parent / "out").exists()


def test_a_killed_worker_costs_its_own_task_and_no_byte(
    sweep: Path, dask: Build, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, _ = by_threads(sweep, monkeypatch)
    pids = client.run(os.getpid)
    killed = []

    def kill(event: Event) -> None:
        if not killed and isinstance(event, StepStarted) and event.step.startswith("small["):
            killed.append(next(iter(pids.values())))
            os.kill(killed[0], signal.SIGKILL)

    built = dask(sweep, kill)
    assert killed
    assert all(output.written for output in built.outputs)
    assert digests(sweep.parent / "out") == good
    assert not [path for path in (sweep.parent / "out").iterdir() if path.name.startswith(".")]


def test_without_an_address_processes_are_started_and_ended_here(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, _ = by_threads(sweep, monkeypatch)
    build(load_recipe(sweep), Options(engine="dask", workers=1))
    assert digests(sweep.parent / "out") == good
