"""Outputs under a URL: the bytes are those of a file here, and so is what may become of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import lorapipe
from lorapipe.build.events import Event, OutputReady, Progress, StepStarted
from lorapipe.build.looking.reporting import report_recipe
from lorapipe.build.proving.attestation import attest_recipe
from lorapipe.build.proving.explaining import explain_recipe
from lorapipe.build.proving.rebuild import rebuild
from lorapipe.build.proving.relock import relock
from lorapipe.build.proving.status import State as Stands
from lorapipe.build.proving.status import status
from lorapipe.build.proving.verify import State, verify
from lorapipe.build.result import Built
from lorapipe.build.run import Options, build, plan
from lorapipe.errors import CheckFailed, LorapipeError, ManyErrors, RecipeError
from lorapipe.plan.plan import Status
from lorapipe.recipe.parsing import load_recipe
from lorapipe.remote.url import Url, parse_url
from lorapipe.store.lockfile import read

from ..bench import Bench
from ..remote.sending import impatient, unfinished
from ..remote.servers import Bucket, Faults

SAVED = "a: {load: a.safetensors}\nout: {save: a, to: out/x.safetensors, dtype: fp16}"
MID = {"lora_unet_mid_block_attentions_0_proj_in": (1280, 1280)}
MERGED = """
    a: {load: a.safetensors}
    base: {load: base.safetensors}
    all: {merge-into-checkpoint: base, loras: {a: 0.8}}
    out: {save: all, to: model/, shard-size: 1kB}
"""


by_hand = pytest.mark.skipif("LORAPIPE_LONG_TESTS" not in os.environ, reason="LORAPIPE_LONG_TESTS=1")
"""The suite has no time for all of them."""


@pytest.fixture
def kitchen(bench: Bench, s3: Bucket, small_parts: int, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A LoRA, a checkpoint, and the recipe that saves the LoRA."""
    monkeypatch.setenv("LORAPIPE_REMOTE_TIMEOUT", "30")
    bench.lora("a")
    bench.checkpoint()
    bench.recipe(SAVED)
    return bench


def under(s3: Bucket, **more: Any) -> Options:
    return Options(output_root=parse_url(s3.url("team")), workers=1, **more)


def run(kitchen: Bench, options: Options, **more: Any) -> Built:
    return build(load_recipe(kitchen.folder / "r.yaml", {}), options, **more)


def another_machine(monkeypatch: pytest.MonkeyPatch, kitchen: Bench) -> None:
    """A store that knows nothing; recipe, inputs and lock are those of the first."""
    monkeypatch.setenv("LORAPIPE_STORE", str(kitchen.folder.parent / "another-store"))


def objects(s3: Bucket) -> dict[str, bytes]:
    return {key.removeprefix("team/"): s3.get(key) for key in s3.keys}


def asked(s3: Bucket) -> list[tuple[str, str]]:
    """The requests of the last run, by method and object."""
    return [(each.method, each.path.partition("?")[0].split("/", 2)[-1]) for each in s3.asked]


def local_bytes(kitchen: Bench) -> dict[str, bytes]:
    """What the same recipe writes here."""
    folder = kitchen.folder.parent / "here"
    folder.mkdir()
    options = Options(output_root=folder, workers=1, lock=kitchen.folder.parent / "here.lock")
    build(load_recipe(kitchen.folder / "r.yaml", {}), options)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def fault(action: Callable[[], object]) -> LorapipeError:
    with pytest.raises(LorapipeError) as caught:
        action()
    error = caught.value
    return error.errors[0] if isinstance(error, ManyErrors) and len(error.errors) == 1 else error


# --- the same bytes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [SAVED, SAVED.replace(".safetensors, dtype", ".pt, dtype"), MERGED],
    ids=["file", "pickle", "folder"],
)
def test_what_is_written_to_a_url_has_the_bytes_of_what_is_written_here(
    kitchen: Bench, s3: Bucket, steps: str
) -> None:
    kitchen.recipe(steps)
    built = run(kitchen, under(s3))
    assert objects(s3) == local_bytes(kitchen)
    (output,) = built.outputs
    assert output.written
    assert str(output.path).startswith(s3.url("team/"))
    assert output.size == sum(map(len, objects(s3).values()))
    assert unfinished(s3) == []


def test_a_large_file_goes_up_in_parts_and_has_the_same_bytes(
    kitchen: Bench, s3: Bucket, small_parts: int
) -> None:
    kitchen.lora("a", rank=64, modules=MID)
    run(kitchen, under(s3))
    sent = [each for each in s3.asked if "partNumber" in each.path]
    assert len(sent) == -(-len(s3.get("team/out/x.safetensors")) // small_parts) > 1
    assert objects(s3) == local_bytes(kitchen)


@by_hand
def test_the_url_itself_may_be_written_where_the_root_allows_it(kitchen: Bench, s3: Bucket) -> None:
    kitchen.recipe(SAVED.replace("out/x.safetensors", s3.url("team/out/x.safetensors")))
    run(kitchen, under(s3))
    assert list(objects(s3)) == ["out/x.safetensors"]
    assert fault(lambda: run(kitchen, Options())).code == "output-escapes"


def test_the_lock_has_url_and_etag_and_nothing_has_the_credentials(kitchen: Bench, s3: Bucket) -> None:
    run(kitchen, under(s3))
    lock = read(kitchen.folder / "r.lock")
    assert lock is not None
    output = lock.outputs["out"]
    head = s3.client.head_object(Bucket=s3.name, Key="team/out/x.safetensors")
    assert (output.path, output.etag) == (s3.url("team/out/x.safetensors"), head["ETag"])
    assert output.sha256 == hashlib.sha256(s3.get("team/out/x.safetensors")).hexdigest()
    files = [path for path in kitchen.folder.parent.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not any(
        b"secret-of-a-test" in path.read_bytes() or b"key-of-a-test" in path.read_bytes() for path in files
    )


# --- up to date, by one request -----------------------------------------------------------


def test_an_output_that_is_up_to_date_costs_one_request(kitchen: Bench, s3: Bucket) -> None:
    run(kitchen, under(s3))
    s3.forget()
    (output,) = run(kitchen, under(s3)).outputs
    assert not output.written
    assert asked(s3) == [("HEAD", "team/out/x.safetensors")]


def test_a_folder_that_is_up_to_date_costs_one_listing(kitchen: Bench, s3: Bucket) -> None:
    kitchen.recipe(MERGED)
    run(kitchen, under(s3))
    s3.forget()
    (output,) = run(kitchen, under(s3)).outputs
    assert not output.written
    assert [(each.method, each.path.partition("&")[0]) for each in s3.asked] == [
        ("GET", f"/{s3.name}?list-type=2")
    ]


@pytest.mark.parametrize("steps", [pytest.param(SAVED, marks=by_hand), MERGED], ids=["file", "folder"])
def test_another_machine_knows_it_by_the_etag_in_the_lock(
    kitchen: Bench, s3: Bucket, monkeypatch: pytest.MonkeyPatch, steps: str
) -> None:
    kitchen.recipe(steps)
    run(kitchen, under(s3))
    another_machine(monkeypatch, kitchen)
    s3.forget()
    (output,) = run(kitchen, under(s3)).outputs
    assert not output.written
    assert len(s3.asked) == 1
    assert verify(load_recipe(kitchen.folder / "r.yaml", {}), under(s3))[0].sha256 == output.sha256


def test_without_lock_and_store_it_is_made_again_compared_and_adopted(
    kitchen: Bench, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen.recipe(MERGED)
    run(kitchen, under(s3))
    (kitchen.folder / "r.lock").unlink()
    another_machine(monkeypatch, kitchen)
    before = {
        each["Key"]: each["LastModified"] for each in s3.client.list_objects_v2(Bucket=s3.name)["Contents"]
    }
    run(kitchen, under(s3))
    after = {
        each["Key"]: each["LastModified"] for each in s3.client.list_objects_v2(Bucket=s3.name)["Contents"]
    }
    assert after == before
    assert plan(load_recipe(kitchen.folder / "r.yaml", {}), under(s3)).current


@by_hand
def test_another_recipe_replaces_what_is_ours(kitchen: Bench, s3: Bucket) -> None:
    run(kitchen, under(s3))
    kitchen.recipe(SAVED.replace("fp16", "bf16"))
    run(kitchen, under(s3))
    assert objects(s3) == local_bytes(kitchen)


@by_hand
def test_what_was_removed_is_put_back(kitchen: Bench, s3: Bucket) -> None:
    run(kitchen, under(s3))
    whole = objects(s3)
    s3.client.delete_object(Bucket=s3.name, Key="team/out/x.safetensors")
    assert run(kitchen, under(s3)).outputs[0].written
    assert objects(s3) == whole


# --- whose it is --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "key"),
    [(SAVED, "team/out/x.safetensors"), pytest.param(MERGED, "team/model/notes.txt", marks=by_hand)],
    ids=["file", "folder"],
)
def test_what_lorapipe_did_not_write_stays_and_is_named_before_any_work(
    kitchen: Bench, s3: Bucket, steps: str, key: str
) -> None:
    kitchen.recipe(steps)
    s3.put(key, b"somebody's")
    events: list[Event] = []
    error = fault(lambda: run(kitchen, under(s3), listen=events.append))
    assert (error.code, error.exit_status) == ("foreign-file", 5)
    assert not any(isinstance(event, StepStarted) for event in events)
    assert s3.get(key) == b"somebody's"
    assert not any(each.method in ("PUT", "POST", "DELETE") for each in s3.asked)
    run(kitchen, under(s3, force=True))
    assert objects(s3) == local_bytes(kitchen)


@by_hand
def test_what_was_changed_since_is_not_replaced(kitchen: Bench, s3: Bucket) -> None:
    run(kitchen, under(s3))
    s3.put("team/out/x.safetensors", b"edited")
    error = fault(lambda: run(kitchen, under(s3)))
    assert "was changed since lorapipe wrote it" in error.message


def test_what_came_while_the_build_was_at_work_stays(kitchen: Bench, s3: Bucket) -> None:
    def come(point: str) -> None:
        if point == "upload:publish":
            s3.put("team/out/x.safetensors", b"somebody's")

    error = fault(lambda: run(kitchen, under(s3), hook=come))
    assert (error.code, error.exit_status, error.step) == ("output-raced", 5, "out")
    assert objects(s3) == {"out/x.safetensors": b"somebody's"}


@by_hand
def test_two_builders_of_the_same_put_it_there_once(kitchen: Bench, s3: Bucket) -> None:
    run(kitchen, under(s3))
    same = s3.get("team/out/x.safetensors")
    s3.client.delete_object(Bucket=s3.name, Key="team/out/x.safetensors")

    def come(point: str) -> None:
        if point == "upload:created":
            s3.put("team/out/x.safetensors", same)

    s3.forget()
    run(kitchen, under(s3), hook=come)
    assert ("PUT", "team/out/x.safetensors") not in asked(s3)


@by_hand
def test_an_output_that_is_an_input_is_refused(kitchen: Bench, s3: Bucket) -> None:
    url = s3.put("team/a.safetensors", (kitchen.folder / "a.safetensors").read_bytes())
    kitchen.recipe(f"a: {{load: '{url}'}}\nout: {{save: a, to: a.safetensors}}")
    error = fault(lambda: run(kitchen, under(s3)))
    assert isinstance(error, RecipeError)
    assert error.code == "output-is-input"


@by_hand
def test_two_steps_do_not_write_one_object(kitchen: Bench, s3: Bucket) -> None:
    kitchen.recipe(f"{SAVED}\nagain: {{save: a, to: ./out/x.safetensors}}")
    assert fault(lambda: run(kitchen, under(s3))).code == "output-collision"


# --- what goes wrong ----------------------------------------------------------------------


def test_a_bucket_that_is_not_there_is_known_before_any_work(kitchen: Bench, s3: Bucket) -> None:
    events: list[Event] = []
    options = Options(output_root=parse_url("s3://no-such-bucket/team"))
    error = fault(lambda: run(kitchen, options, listen=events.append))
    assert (error.code, error.exit_status, error.step) == ("remote-missing", 5, "out")
    assert not any(isinstance(event, StepStarted) for event in events)


def test_a_bucket_that_may_only_be_read_is_known_before_any_work(kitchen: Bench, s3: Bucket) -> None:
    s3.faults = Faults(status=403, only=lambda method, path: method not in ("GET", "HEAD"))
    events: list[Event] = []
    error = fault(lambda: run(kitchen, under(s3), listen=events.append))
    assert (error.code, error.exit_status) == ("remote-forbidden", 5)
    assert not any(isinstance(event, StepStarted) for event in events)


def test_a_server_that_fails_for_good_ends_the_build_with_one_error_and_nothing_is_to_be_seen(
    kitchen: Bench, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    s3.faults = Faults(status=503, only=lambda method, path: method == "PUT")
    error = fault(lambda: run(kitchen, under(s3)))
    assert (error.code, error.exit_status, error.step) == ("remote-failing", 5, "out")
    assert error.hint
    assert (objects(s3), unfinished(s3)) == ({}, [])
    s3.faults = Faults()
    run(kitchen, under(s3))
    assert objects(s3) == local_bytes(kitchen)


@by_hand
def test_no_disk_is_asked_for_room_for_what_goes_elsewhere(
    kitchen: Bench, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen.recipe(MERGED)
    full = shutil.disk_usage(kitchen.folder)._replace(free=1)
    monkeypatch.setattr("lorapipe.plan.room.shutil.disk_usage", lambda path: full)
    assert not any(
        "bytes free" in text for text in plan(load_recipe(kitchen.folder / "r.yaml", {}), under(s3)).warnings
    )
    run(kitchen, under(s3))
    assert "model/model.safetensors.index.json" in objects(s3)


class Stop(KeyboardInterrupt):
    pass


@pytest.mark.parametrize(
    ("steps", "point"),
    [
        (SAVED, "upload:seal"),
        (SAVED, "upload:publish"),
        (MERGED, "upload:created"),
        (MERGED, "upload:sealed"),
    ],
)
def test_who_stops_a_build_before_its_output_appears_leaves_nothing(
    kitchen: Bench, s3: Bucket, small_parts: int, monkeypatch: pytest.MonkeyPatch, steps: str, point: str
) -> None:
    monkeypatch.setattr("lorapipe.remote.uploading.PART", 1 << 10)
    kitchen.recipe(steps)

    def stop(reached: str) -> None:
        if reached == point:
            raise Stop

    with pytest.raises(Stop):
        run(kitchen, under(s3), hook=stop)
    assert (objects(s3), unfinished(s3)) == ({}, [])
    run(kitchen, under(s3))
    assert objects(s3) == local_bytes(kitchen)


class Killed(BaseException):
    """What ends a build as a kill does: nothing is cleaned up."""


@pytest.mark.parametrize(
    ("point", "old"),
    [
        ("upload:removed", True),
        ("upload:completed", True),
        ("upload:completed", False),
        ("upload:published", True),
    ],
)
def test_a_build_that_dies_while_a_folder_appears_is_mended_by_the_next(
    kitchen: Bench, s3: Bucket, monkeypatch: pytest.MonkeyPatch, point: str, old: bool
) -> None:
    kitchen.recipe(MERGED)
    if old:
        run(kitchen, under(s3))
        kitchen.lora("a", seed=7)

    def die(reached: str) -> None:
        if reached == point:
            raise Killed

    with monkeypatch.context() as dead:
        dead.setattr("lorapipe.store.uploads.abort", lambda uploads: None)
        with pytest.raises(Killed):
            run(kitchen, under(s3), hook=die)
    there = objects(s3)
    assert ("model/model.safetensors.index.json" in there) == (point == "upload:published")
    run(kitchen, under(s3))
    assert objects(s3) == local_bytes(kitchen)


@by_hand
def test_a_folder_in_which_somebody_put_something_is_not_taken_for_one_that_was_begun(
    kitchen: Bench, s3: Bucket
) -> None:
    kitchen.recipe(MERGED)
    run(kitchen, under(s3))
    s3.put("team/model/notes.txt", b"mine")
    assert fault(lambda: run(kitchen, under(s3))).code == "foreign-file"
    assert objects(s3)["model/notes.txt"] == b"mine"


_KILLED = """
import os, signal, sys
from pathlib import Path
from lorapipe.build.run import Options, build
from lorapipe.recipe.parsing import load_recipe
from lorapipe.remote import uploading
from lorapipe.remote.url import parse_url
uploading.PART = 1 << 18
def kill(point):
    if point == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
build(load_recipe(Path(sys.argv[1]), {}), Options(output_root=parse_url(sys.argv[2])), hook=kill)
"""


def test_a_build_that_is_killed_while_it_uploads_shows_nothing(kitchen: Bench, s3: Bucket) -> None:
    kitchen.lora("a", rank=64, modules=MID)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(kitchen.folder / "r.yaml"), s3.url("team"), "upload:sealed"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert objects(s3) == {}
    assert unfinished(s3, 0) == ["team/out/x.safetensors"]  # which a rule of the bucket clears away
    run(kitchen, under(s3))
    assert (
        hashlib.sha256(s3.get("team/out/x.safetensors")).hexdigest()
        == run(kitchen, under(s3)).outputs[0].sha256
    )


# --- what is told of it -------------------------------------------------------------------


def test_progress_counts_what_has_come_to_the_store(
    kitchen: Bench, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorapipe.remote.uploading.PART", 1 << 10)
    events: list[Event] = []
    run(kitchen, under(s3), listen=events.append)
    steps = [event for event in events if isinstance(event, Progress) and event.step == "out"]
    assert len(steps) > 2
    assert [event.done for event in steps] == sorted(event.done for event in steps)
    assert (steps[-1].done, steps[-1].unit) == (steps[-1].total, "bytes")
    (ready,) = [event for event in events if isinstance(event, OutputReady)]
    assert str(ready.path) == s3.url("team/out/x.safetensors")


def test_status_says_how_an_output_elsewhere_stands(kitchen: Bench, s3: Bucket) -> None:
    recipe = load_recipe(kitchen.folder / "r.yaml", {})

    def stands() -> Stands | None:
        return next(row.state for row in status(recipe, under(s3)).rows if row.step == "out")

    assert stands() is Stands.NOT_BUILT
    run(kitchen, under(s3))
    assert stands() is Stands.UP_TO_DATE
    s3.put("team/out/x.safetensors", b"edited")
    assert stands() is Stands.EDITED


def test_verify_reads_the_whole_object(kitchen: Bench, s3: Bucket) -> None:
    recipe = load_recipe(kitchen.folder / "r.yaml", {})
    run(kitchen, under(s3))
    s3.forget()
    assert verify(recipe, under(s3))[0].state is State.OK
    assert s3.sent >= len(s3.get("team/out/x.safetensors"))
    s3.put("team/out/x.safetensors", b"edited")
    assert verify(recipe, under(s3))[0].state is State.CHANGED
    s3.client.delete_object(Bucket=s3.name, Key="team/out/x.safetensors")
    assert verify(recipe, under(s3))[0].state is State.MISSING


@by_hand
@pytest.mark.parametrize("steps", [MERGED], ids=["folder"])
def test_a_rebuild_here_is_compared_with_what_is_elsewhere(kitchen: Bench, s3: Bucket, steps: str) -> None:
    kitchen.recipe(steps)
    recipe = load_recipe(kitchen.folder / "r.yaml", {})
    run(kitchen, under(s3))
    again = rebuild(recipe, under(s3), verify(recipe, under(s3)))
    assert [output.sha256 for output in again.outputs] == [output.before.sha256 for output in again.outputs]


@by_hand
def test_explain_says_why_it_would_be_written(kitchen: Bench, s3: Bucket) -> None:
    recipe = load_recipe(kitchen.folder / "r.yaml", {})

    def because() -> str:
        return explain_recipe(recipe, under(s3), "out")[0].because

    run(kitchen, under(s3))
    assert because() == "the file is as it was built, of the same inputs, options and versions"
    s3.put("team/out/x.safetensors", b"edited")
    assert "the file is not hashed yet" in because()
    s3.client.delete_object(Bucket=s3.name, Key="team/out/x.safetensors")
    assert because() == "the file is not there; nothing else changed since it was built"


@pytest.mark.parametrize("steps", [pytest.param(SAVED, marks=by_hand), MERGED], ids=["file", "folder"])
def test_an_attestation_names_files_from_the_root_and_reads_nothing(
    kitchen: Bench, s3: Bucket, steps: str
) -> None:
    kitchen.recipe(steps)
    recipe = load_recipe(kitchen.folder / "r.yaml", {})
    run(kitchen, under(s3))
    s3.forget()
    told = attest_recipe(recipe, under(s3))
    assert s3.sent < 5_000
    found = {subject["name"]: subject["digest"]["sha256"] for subject in told["subject"]}
    assert found == {name: hashlib.sha256(data).hexdigest() for name, data in objects(s3).items()}
    s3.put(f"team/{next(iter(found))}", b"edited")
    with pytest.raises(CheckFailed):
        attest_recipe(recipe, under(s3))


@by_hand
def test_a_report_is_of_the_file_where_it_is(kitchen: Bench, s3: Bucket) -> None:
    run(kitchen, under(s3))
    told = report_recipe(load_recipe(kitchen.folder / "r.yaml", {}), under(s3))
    (file,) = [file for file in told.files if file.output]
    assert (str(file.path), file.size) == (
        s3.url("team/out/x.safetensors"),
        len(s3.get("team/out/x.safetensors")),
    )
    assert [portrait.step for portrait in told.portraits if portrait.output] == ["out"]


@by_hand
def test_a_lock_is_made_anew_of_what_is_there(kitchen: Bench, s3: Bucket) -> None:
    run(kitchen, under(s3))
    before = (kitchen.folder / "r.lock").read_bytes()
    (kitchen.folder / "r.lock").unlink()
    relock(load_recipe(kitchen.folder / "r.yaml", {}), under(s3))
    assert (kitchen.folder / "r.lock").read_bytes() == before


@by_hand
def test_a_build_that_is_held_to_its_lock_finds_and_makes_the_same_elsewhere(
    kitchen: Bench, s3: Bucket
) -> None:
    run(kitchen, under(s3))
    lock = (kitchen.folder / "r.lock").read_bytes()
    assert not run(kitchen, under(s3, frozen=True)).outputs[0].written
    s3.client.delete_object(Bucket=s3.name, Key="team/out/x.safetensors")
    assert run(kitchen, under(s3, locked=True)).outputs[0].written
    elsewhere = Options(output_root=parse_url(s3.url("copy")), locked=True)
    run(kitchen, elsewhere)
    assert s3.get("copy/out/x.safetensors") == s3.get("team/out/x.safetensors")
    assert (kitchen.folder / "r.lock").read_bytes() == lock


@by_hand
def test_what_a_check_holds_back_is_not_sent(kitchen: Bench, s3: Bucket) -> None:
    kitchen.recipe(f"{SAVED}\nsmall: {{check: a, ranks: {{at-most: 1}}}}")
    with pytest.raises(LorapipeError):
        run(kitchen, under(s3))
    assert objects(s3) == {}


@by_hand
def test_a_plan_says_where_it_goes(kitchen: Bench, s3: Bucket) -> None:
    made = plan(load_recipe(kitchen.folder / "r.yaml", {}), under(s3), read=True)
    (step,) = made.pending
    assert step.output == Url("s3", s3.name, "team/out/x.safetensors")
    assert (step.status, step.reason) == (Status.RUN, "the file is not there yet")


@pytest.mark.parametrize("name", ["out/x.safetensors", "model/"])
def test_a_call_saves_to_a_url_what_it_saves_here(kitchen: Bench, s3: Bucket, name: str) -> None:
    weights = lorapipe.load(kitchen.folder / ("base.safetensors" if name.endswith("/") else "a.safetensors"))
    assert lorapipe.save(weights, s3.url(name)) == parse_url(s3.url(name))
    lorapipe.save(weights, f"{kitchen.folder}/here/{name}")
    here = kitchen.folder / "here"
    files = [path for path in here.rglob("*") if path.is_file()]
    assert {key: s3.get(key) for key in s3.keys} == {
        path.relative_to(here).as_posix(): path.read_bytes() for path in files
    }
    with pytest.raises(RecipeError) as caught:
        lorapipe.save(weights, "https://host/x.safetensors")
    assert caught.value.code == "remote-read-only"


def test_the_outputs_of_a_sweep_are_looked_at_together_and_each_once(kitchen: Bench, s3: Bucket) -> None:
    kitchen.recipe(
        "a: {load: a.safetensors}\nless: {scale: a, by: $(by)}\nout: {save: less, to: x-$(by).safetensors}",
        head="matrix:\n  by: [0.1, 0.2, 0.3, 0.4, 0.5]\n",
    )
    run(kitchen, under(s3))
    assert len(s3.keys) == 5
    s3.faults = Faults(latency=0.1)
    s3.forget()
    assert not any(output.written for output in run(kitchen, under(s3)).outputs)
    assert sorted(asked(s3)) == [("HEAD", key) for key in s3.keys]
    assert s3.proxy.most_at_once > 1
