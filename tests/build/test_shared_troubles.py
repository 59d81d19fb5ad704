"""A shared store that fails, lies or is half there costs time, never a build and never a byte."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lorapipe.build.events import Event, Sharing
from lorapipe.errors import BuildError, UsageError
from lorapipe.plan.plan import Status
from lorapipe.steps import find_kind, shuffle
from lorapipe.store import entries
from lorapipe.store.shared.folder import FolderBucket
from lorapipe.views.said import Teller

from ..remote.servers import Bucket, Faults
from .teams import STORED, Machine, machine


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a shared one in it, into which a first machine has put its results."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "server").mkdir()
    first = machine(folder / "first", f"file://{folder}/server")
    first.run()
    keys = {step: planned.key for step, planned in first.plan().steps.items()}
    (folder / "first" / "keys.json").write_text(json.dumps(keys))
    return folder


@pytest.fixture
def server(template: Path, tmp_path: Path) -> Path:
    """A shared folder as the first machine left it."""
    for name in ("server", "first"):
        shutil.copytree(template / name, tmp_path / name)
    return tmp_path / "server"


@pytest.fixture
def expected(server: Path) -> tuple[bytes, bytes]:
    first = Machine(server.parent / "first", None)
    return first.output("one"), first.output("two")


def second(server: Path, name: str = "second") -> Machine:
    return machine(server.parent / name, f"file://{server}")


def key_of(server: Path, step: str) -> str:
    key: str = json.loads((server.parent / "first" / "keys.json").read_text())[step]
    return key


def manifest(server: Path, step: str) -> Path:
    key = key_of(server, step)
    return server / "manifests" / key[:2] / f"{key}.json"


def blob(server: Path, step: str) -> Path:
    sha256 = json.loads(manifest(server, step).read_text())["sha256"]
    return server / "blobs" / sha256[:2] / sha256


def rewrite(path: Path, **changed: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


# --- what is there is not what it should be -----------------------------------------------


def truncate(server: Path) -> None:
    path = blob(server, "small")
    path.write_bytes(path.read_bytes()[:-7])


def flip(server: Path) -> None:
    data = bytearray(blob(server, "small").read_bytes())
    data[len(data) // 2] ^= 1
    blob(server, "small").write_bytes(data)


def empty(server: Path) -> None:
    blob(server, "small").write_bytes(b"")


def no_json(server: Path) -> None:
    manifest(server, "small").write_text("{")


def no_manifest_at_all(server: Path) -> None:
    manifest(server, "small").write_bytes(b"")


def endless_nesting(server: Path) -> None:
    manifest(server, "small").write_text("[" * 100_000)


def of_another_key(server: Path) -> None:
    manifest(server, "small").write_bytes(manifest(server, "mixed").read_bytes())


def another_keys_preimage(server: Path) -> None:
    rewrite(manifest(server, "small"), preimage=json.loads(manifest(server, "mixed").read_text())["preimage"])


def negative(server: Path) -> None:
    rewrite(manifest(server, "small"), size=-1)


def huge(server: Path) -> None:
    rewrite(manifest(server, "small"), size=1 << 60)


def a_path_for_a_digest(server: Path) -> None:
    rewrite(manifest(server, "small"), sha256="../../first/store/index.sqlite")


def another_steps_result(server: Path) -> None:
    """A whole result, with its right sha256: only that it is the result of another step."""
    other = json.loads(manifest(server, "mixed").read_text())
    rewrite(manifest(server, "small"), sha256=other["sha256"], size=other["size"])


def no_result_at_all(server: Path) -> None:
    data = b"not a safetensors file"
    sha256 = hashlib.sha256(data).hexdigest()
    (server / "blobs" / sha256[:2]).mkdir(exist_ok=True)
    (server / "blobs" / sha256[:2] / sha256).write_bytes(data)
    rewrite(manifest(server, "small"), sha256=sha256, size=len(data))


LIES = [
    truncate,
    flip,
    empty,
    no_json,
    no_manifest_at_all,
    endless_nesting,
    of_another_key,
    another_keys_preimage,
    negative,
    a_path_for_a_digest,
    another_steps_result,
    no_result_at_all,
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_what_is_damaged_or_lies_is_a_miss_with_a_warning_and_is_mended(
    server: Path, expected: tuple[bytes, bytes], lie: Callable[[Path], None]
) -> None:
    key = key_of(server, "small")
    lie(server)
    machine = second(server)
    machine.run()

    assert machine.made == {"small"}
    assert (machine.output("one"), machine.output("two")) == expected
    (warning,) = machine.warnings
    assert warning == (
        f"the shared store file://{server} has damaged results, which are built here: {key[:12]}"
    )
    whole = json.loads(manifest(server, "small").read_text())
    assert whole["key"] == hashlib.sha256(whole["preimage"].encode()).hexdigest() == key
    assert whole["sha256"] == hashlib.sha256(blob(server, "small").read_bytes()).hexdigest()


def test_a_size_that_no_disk_has_is_a_miss(server: Path, expected: tuple[bytes, bytes]) -> None:
    huge(server)
    machine = second(server)
    machine.run()
    assert machine.hows["small"] == "built"
    assert machine.output() == expected[0]


@pytest.mark.parametrize("step", ["small", "again", "fine"])
def test_a_manifest_whose_blob_is_gone_is_a_miss_without_a_word(
    server: Path, expected: tuple[bytes, bytes], step: str
) -> None:
    """A bucket's rule of age takes the older of the two first."""
    blob(server, step).unlink()
    machine = second(server)
    machine.run()

    assert machine.made >= {step}
    assert machine.warnings == []
    assert machine.output() == expected[0]
    assert blob(server, step).exists(), "and it is there again for the next"


def test_a_check_counts_as_held_only_where_its_figures_are_whole(server: Path) -> None:
    blob(server, "fine").write_bytes(b"x" * blob(server, "fine").stat().st_size)
    machine = second(server)
    machine.run()

    assert machine.hows["fine"] == "holds"
    assert len(machine.warnings) == 1


def test_many_damaged_results_are_one_warning_and_one_build(
    server: Path, expected: tuple[bytes, bytes]
) -> None:
    for path in (server / "blobs").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))
    machine = second(server)
    machine.run()

    assert machine.made == {*STORED, "fine"}
    assert len(machine.warnings) == 1
    assert machine.warnings[0].endswith(" more")
    assert (machine.output("one"), machine.output("two")) == expected


def test_notes_of_a_stranger_break_no_view(server: Path) -> None:
    for notes in ({"energy": {"a": "b"}}, {"energy": [1], "ranks": {"x": None}, "holds": {"rank": 3}}):
        rewrite(manifest(server, "small"), notes=notes)
        machine = second(server, f"second{len(notes)}")
        machine.run()
        teller = Teller(steps=True)
        lines = [line for event in machine.events for line in teller.lines(event)]
        assert any("energy" in line for line in lines)


# --- the store itself ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ('{"lorapipe-store": 2}', "a newer lorapipe made it"),
        ('{"lorapipe-store": "1"}', "something else is there"),
        ("", "something else is there"),
        ("[" * 100_000, "something else is there"),
    ],
)
def test_a_store_of_another_version_is_neither_asked_nor_given_anything(
    server: Path, expected: tuple[bytes, bytes], marker: str, said: str
) -> None:
    (server / "lorapipe-store.json").write_text(marker)
    before = sorted(server.rglob("*"))
    machine = second(server)
    machine.run()

    assert machine.made == {*STORED, "fine"}
    assert machine.warnings == [f"the shared store file://{server} is not asked: {said}"]
    assert sorted(server.rglob("*")) == before
    assert machine.output() == expected[0]


def test_what_has_no_marker_is_no_store_until_somebody_writes_to_it(server: Path) -> None:
    (server / "lorapipe-store.json").unlink()
    machine = second(server)
    machine.run()

    assert "small" in machine.made
    assert machine.warnings == []
    assert json.loads((server / "lorapipe-store.json").read_text()) == {"lorapipe-store": 1}


def test_a_folder_that_is_not_mounted_is_one_warning(tmp_path: Path) -> None:
    one = machine(tmp_path / "one", f"file://{tmp_path}/gone")
    assert "there is no such folder" in one.plan().warnings[-1]
    one.run()

    assert one.made == {*STORED, "fine"}
    assert one.warnings == [f"the shared store file://{tmp_path}/gone is not asked: there is no such folder"]
    assert not (tmp_path / "gone").exists()


def test_a_bucket_that_is_not_there_is_one_warning(s3: Bucket, tmp_path: Path) -> None:
    one = machine(tmp_path / "one", "s3://no-such-bucket/x")
    one.run()

    assert one.warnings == ["the shared store s3://no-such-bucket/x is not asked: there is no such bucket"]


def test_a_server_that_cannot_be_reached_costs_little_time_and_one_warning(
    s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    one = machine(tmp_path / "one", s3.url("team"))
    monkeypatch.setenv("LORAPIPE_REMOTE_TIMEOUT", "1")
    began = time.monotonic()
    one.run()

    assert time.monotonic() - began < 20
    assert one.made == {*STORED, "fine"}
    (warning,) = one.warnings
    assert f"the shared store {s3.url('team')} is not asked: the server " in warning


def test_a_storm_of_503_is_one_warning_and_the_same_bytes(
    s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAPIPE_REMOTE_TIMEOUT", "1")
    first, one = (machine(tmp_path / name, s3.url("team")) for name in ("first", "one"))
    first.run()
    s3.faults = Faults(status=503)
    one.run()

    assert one.made == {*STORED, "fine"}
    assert one.output() == first.output()
    (warning,) = one.warnings
    assert f"the shared store {s3.url('team')} is not asked: the server " in warning


def test_a_connection_that_drops_while_a_result_comes_is_taken_up_again(s3: Bucket, tmp_path: Path) -> None:
    first, one = (machine(tmp_path / name, s3.url("team")) for name in ("first", "one"))
    first.run()
    s3.faults = Faults(drop_after=1000, times=1, only=lambda method, path: "/blobs/" in path)
    one.run()

    assert one.made == set()
    assert one.warnings == []


def test_who_may_read_and_not_write_reads_and_is_told_once(s3: Bucket, tmp_path: Path) -> None:
    first, one = (machine(tmp_path / name, s3.url("team")) for name in ("first", "one"))
    first.run()
    for key in s3.keys:  # of one result there is something to give
        if "/blobs/" not in key and first.plan().steps["small"].key in key:  # type: ignore[operator]
            s3.client.delete_object(Bucket=s3.name, Key=key)
    s3.faults = Faults(status=403, only=lambda method, path: method in ("PUT", "POST"))
    s3.forget()
    one.run()

    assert one.made == {"small"}
    assert one.output() == first.output()
    assert one.warnings == [
        f"the shared store {s3.url('team')} was not given all results: the server refuses access (403)"
    ]
    assert sum(asked.method in ("PUT", "POST") for asked in s3.asked) == 1


def test_a_server_that_refuses_what_is_not_there_is_still_a_store(s3: Bucket, tmp_path: Path) -> None:
    """S3 answers 403, not 404, to who may not list the bucket."""
    first, one = (machine(tmp_path / name, s3.url("team")) for name in ("first", "one"))
    first.run()
    there = {f"/{s3.name}/{key}" for key in s3.keys}
    steps = (one.folder / "r.yaml").read_text().replace("rank: 1", "rank: 2, conv-rank: 1")
    (one.folder / "r.yaml").write_text(steps)
    s3.faults = Faults(
        status=403, only=lambda method, path: method in ("GET", "HEAD") and path.split("?")[0] not in there
    )
    one.run()

    assert one.made == {"again"}
    assert one.hows["mixed"] == "fetched"
    assert one.warnings == []
    assert len(s3.keys) > len(there)


def test_without_any_right_both_directions_are_told_in_one_line(s3: Bucket, tmp_path: Path) -> None:
    s3.faults = Faults(status=403)
    one = machine(tmp_path / "one", s3.url("team"))
    one.run()

    said = f"the shared store {s3.url('team')} is not asked: the server refuses access (403)"
    assert one.warnings == [said]


def test_a_local_disk_without_room_for_what_is_there_builds_on_without_it(
    server: Path, expected: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = entries.stage

    def full(path: Path, **more: object) -> object:
        if more.get("label") == "fetch":
            raise BuildError("disk-full", "no space left")
        return stage(path, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(entries, "stage", full)
    machine = second(server)
    machine.run()
    assert machine.made == {*STORED, "fine"}
    assert machine.output() == expected[0]


def test_a_missing_extra_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*args: object, **more: object) -> None:
        raise ImportError("install s3fs")

    one = machine(tmp_path / "one", "s3://team/x")
    monkeypatch.setattr("fsspec.filesystem", lacking)
    with pytest.raises(UsageError) as caught:
        one.run()
    assert caught.value.code == "extra-missing"
    assert one.hows == {}


def test_plan_counts_nothing_of_a_store_that_is_not_asked(tmp_path: Path) -> None:
    found = machine(tmp_path / "one", f"file://{tmp_path}/gone").plan()
    assert found.steps["again"].status is Status.RUN
    assert os.fspath(tmp_path) in found.warnings[-1]


# --- a build that ends before its end -----------------------------------------------------


def test_what_was_made_before_an_error_is_given_and_that_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    first, one = (machine(tmp_path / name, f"file://{tmp_path}/server") for name in ("first", "one"))
    kind = find_kind("shuffle")

    def fail(*args: object) -> None:
        raise BuildError("not-finite", "NaN")

    with monkeypatch.context() as broken:
        broken.setattr(shuffle, "KIND", replace(kind, work=fail))
        with pytest.raises(BuildError):
            first.run()
    assert first.shared_bytes > 0

    one.run()
    assert one.made == {"mixed", "again"}


def test_who_stops_while_results_go_waits_for_none_and_has_outputs_and_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    one, over = machine(tmp_path / "one", f"file://{tmp_path}/server"), threading.Event()
    monkeypatch.setattr(FolderBucket, "send", lambda *args: over.wait(60))

    def stop(event: Event) -> None:
        if isinstance(event, Sharing):
            raise KeyboardInterrupt

    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            one.run(stop)
        assert time.monotonic() - began < 30
    finally:
        over.set()
    assert one.output()
    assert (one.folder / "r.lock").exists()
