"""A scheduler that is not there, or is something else; workers that are not as they should be."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorapipe.build.choice import machine_of
from lorapipe.build.cluster import joining
from lorapipe.build.cluster.asking import Watch, Workers, check_able
from lorapipe.build.cluster.joining import joined
from lorapipe.build.cluster.meeting import Trouble, introduce, refuse, versions, wrong_versions
from lorapipe.build.planning import Options
from lorapipe.errors import BuildError, LorapipeError, UsageError
from lorapipe.plan.device import HERE
from lorapipe.recipe.parsing import parse


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "_ANSWER_S", 0.3)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def refused(scheduler: str) -> LorapipeError:
    began = time.monotonic()
    with pytest.raises(LorapipeError) as caught, joined(scheduler):
        pass
    assert time.monotonic() - began < 15
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    "address", ["nonsense", "", "tcp://127.0.0.1", "http://127.0.0.1:80", "tls://127.0.0.1:1", "ucx://a:1"]
)
def test_what_is_no_address_of_a_scheduler_is_a_wrong_command_line(address: str) -> None:
    error = refused(address)
    assert (error.code, error.exit_status) == ("bad-scheduler", 2)


def test_nobody_at_an_address_is_said_of_the_address(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    error = refused(f"tcp://127.0.0.1:{port}")
    assert (error.code, error.exit_status) == ("no-scheduler", 5)
    assert f"127.0.0.1:{port}" in error.message


def test_who_listens_and_never_answers_is_not_waited_for(listener: socket.socket) -> None:
    assert refused(f"tcp://127.0.0.1:{listener.getsockname()[1]}").code == "no-scheduler"


def test_who_answers_in_another_language_is_no_scheduler(listener: socket.socket) -> None:
    def answer() -> None:
        with listener.accept()[0] as found:
            found.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            found.recv(4096)

    threading.Thread(target=answer, daemon=True).start()
    assert refused(f"tcp://127.0.0.1:{listener.getsockname()[1]}").code == "no-scheduler"


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"address": 7}', '{"type": "Scheduler"}'])
def test_a_file_that_is_no_schedulers_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "scheduler.json"
    if text is not None:
        path.write_text(text)
    error = refused(str(path))
    assert error.code == "bad-scheduler"


def test_a_schedulers_file_leads_to_it(tmp_path: Path, listener: socket.socket) -> None:
    path = tmp_path / "scheduler.json"
    address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    path.write_text(json.dumps({"address": address, "type": "Scheduler"}))
    assert refused(str(path)).code == "no-scheduler", "it was asked, and does not answer"


def test_without_dask_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    error = refused("tcp://127.0.0.1:1")
    assert (error.code, error.exit_status) == ("no-dask", 2)
    assert "lorapipe[dask]" in (error.remedy or "")


def test_dask_is_imported_only_when_it_is_asked_for() -> None:
    code = (
        "import sys, lorapipe, lorapipe.build.run, lorapipe.build.choice, lorapipe.cli.run;"
        "assert not {'dask', 'distributed', 'tornado', 'cloudpickle'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_scheduler_is_dasks() -> None:
    recipe = parse("lorapipe: 1\nsteps: {a: {load: a.safetensors}}")
    with pytest.raises(UsageError, match="has no scheduler") as caught:
        machine_of(Options(scheduler="tcp://127.0.0.1:1"), recipe)
    assert "--engine dask" in (caught.value.remedy or "")
    with pytest.raises(UsageError, match="no engine 'ray'"):
        machine_of(Options(engine="ray"), recipe)
    assert machine_of(Options(engine="dask"), recipe) is HERE


class Schedulers:
    """A client of a scheduler that has workers, loses them, or dies."""

    def __init__(self) -> None:
        self.status, self.cluster = "running", None
        self.workers: dict[str, dict[str, object]] = {"tcp://a:1": {"nthreads": 2, "resources": {"GPU": 1}}}

    def scheduler_info(self, n_workers: int) -> dict[str, object]:
        assert n_workers == -1, "dask tells of five unless asked for all"
        return {"workers": self.workers}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    times = [1000.0]
    monkeypatch.setattr("lorapipe.build.cluster.asking.time.monotonic", lambda: times[0])
    return times


def test_workers_that_go_are_waited_for_a_minute(now: list[float]) -> None:
    client = Schedulers()
    watch = Watch(client)  # type: ignore[arg-type]  # as much of one as is asked
    assert watch.look() == Workers({"tcp://a:1": 2}, {"tcp://a:1": {"GPU": 1}})
    client.workers.clear()
    for _ in range(59):
        now[0] += 1
        assert watch.look().slots == 0
    client.workers["tcp://b:1"] = {"nthreads": 1}
    now[0] += 1
    assert watch.look().slots == 1
    client.workers.clear()
    now[0] += 1
    watch.look()
    now[0] += 61
    with pytest.raises(BuildError) as caught:
        watch.look()
    assert caught.value.code == "workers-lost"


def test_a_scheduler_that_is_gone_is_given_up_after_seconds(now: list[float]) -> None:
    client = Schedulers()
    watch = Watch(client)  # type: ignore[arg-type]  # as above
    watch.look()
    client.status = "connecting"
    for _ in range(9):
        now[0] += 1
        watch.look()
    now[0] += 2
    with pytest.raises(BuildError) as caught:
        watch.look()
    assert caught.value.code == "scheduler-lost"


def test_a_worker_of_the_same_versions_is_welcome() -> None:
    assert not list(wrong_versions("a", introduce(), versions()))


@pytest.mark.parametrize("name", sorted(versions()))
def test_a_worker_of_another_version_is_told_with_both(name: str) -> None:
    (trouble,) = wrong_versions("a", {**introduce(), name: "0.1"}, versions())
    assert trouble.error.message == f"{name} is 0.1 there, {versions()[name]} here"


def test_workers_that_say_the_same_are_one_error() -> None:
    def trouble(address: str, what: str) -> Trouble:
        return Trouble(address, BuildError("code", what, hint="mend it"))

    found = [trouble("tcp://a:1", "this"), trouble("tcp://b:1", "this"), trouble("tcp://b:1", "that")]
    with pytest.raises(LorapipeError) as caught:
        refuse(found, {"tcp://a:1": "node1"})
    one, two = caught.value.parts
    assert (one.message, one.details) == ("this", ("on tcp://a:1 (node1)", "on tcp://b:1"))
    assert (two.message, two.details) == ("that", ("on tcp://b:1",))
    refuse([], {})


def test_a_step_is_asked_of_workers_that_declare_what_it_takes() -> None:
    workers = Workers({"a": 1, "b": 2}, {"a": {"GPU": 1}, "b": {"MEMORY": 8e9}})
    assert workers.slots == 3
    check_able(workers, "s", {})
    check_able(workers, "s", {"GPU": 1})
    check_able(workers, "s", {"MEMORY": 8e9})
    for needs in ({"GPU": 2}, {"MEMORY": 9e9}, {"GPU": 1, "MEMORY": 1}):
        with pytest.raises(BuildError) as caught:
            check_able(workers, "s", needs)
        assert caught.value.code == "no-worker-able"
        assert "--resources" in (caught.value.remedy or "")
