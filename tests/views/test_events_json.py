"""Events for programs: every line of every run is what the schema says."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lorapipe.build import events
from lorapipe.build.events import Event, Hashing, Note, Progress, StepDone, StepStarted
from lorapipe.build.run import Options, build
from lorapipe.build.sweep import Sweep, SweepTable, Variant
from lorapipe.errors import BuildError, CheckFailed, LorapipeError, UsageError
from lorapipe.plan.plan import Status
from lorapipe.recipe.parsing import load_recipe
from lorapipe.recipe.schemas import find_schemas
from lorapipe.views.events_json import Stream, json_view

from ..bench import Bench
from .screens import HOSTILE

STEPS = """
    base: {load: base.safetensors}
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: 0.7, b: -0.4}}
    mixed: {shuffle: both}
    small: {svd-resize: mixed, rank: 4, dynamic: {sv-fro: 0.9}}
    good: {check: small, norm: {min: 0.0001}}
    model: {merge-into-checkpoint: base, loras: {small: 0.5}}
    merged: {save: model, to: out/model.safetensors}
    folder: {save: model, to: out/parts/}
    lora: {save: small, to: out/small.safetensors, dtype: fp16}
"""


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft7Validator:
    loaded: dict[str, Any] = json.loads(Path(find_schemas(), "events.v1.schema.json").read_text("utf-8"))
    jsonschema.Draft7Validator.check_schema(loaded)
    return jsonschema.Draft7Validator(loaded)


@pytest.fixture
def kitchen(bench: Bench) -> Bench:
    bench.checkpoint()
    bench.lora("a", rank=8)
    bench.lora("b", rank=12, seed=1)
    return bench


def told(recipe: Path, schema: jsonschema.Draft7Validator, *, fails: bool = False) -> list[Any]:
    """What a run says, each line held against the schema."""
    path = recipe.with_suffix(".events")
    ends = pytest.raises(LorapipeError) if fails else nullcontext()
    with path.open("wb") as file, ends, json_view(file.fileno()) as listen:
        build(load_recipe(recipe), Options(workers=1), listen=listen)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    for line in lines:
        schema.validate(line)
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    assert (lines[0]["event"], lines[0]["version"]) == ("begin", 1)
    assert lines[-1]["event"] == ("failed" if fails else "finished")
    return lines


def of(lines: Sequence[Any], event: str) -> Iterator[Any]:
    return (line for line in lines if line["event"] == event)


def test_every_event_of_a_build_is_what_the_schema_says(
    kitchen: Bench, schema: jsonschema.Draft7Validator
) -> None:
    lines = told(kitchen.recipe(STEPS), schema)

    assert {line["event"] for line in lines} == {
        "begin", "hashing", "planned", "step-started", "progress", "note", "step-done", "output", "finished",
    }  # fmt: skip
    (planned,) = of(lines, "planned")
    started = [line["step"] for line in of(lines, "step-started")]
    done = [line["step"] for line in of(lines, "step-done")]
    assert sorted(started) == sorted(done) == sorted(planned["schedule"])
    assert {Path(line["path"]).name for line in of(lines, "hashing")} == {
        "a.safetensors", "b.safetensors", "base.safetensors",
    }  # fmt: skip
    assert {line["unit"] for line in of(lines, "progress")} == {"bytes", "modules", "items", "stored"}
    for output in of(lines, "output"):
        path = Path(output["path"])
        assert output["written"]
        if path.is_file():
            assert output["size"] == path.stat().st_size
    whole = {line["step"] for line in of(lines, "progress") if line["share"] == 1.0}
    assert whole >= {"mixed", "small", "merged", "lora"}


def test_a_second_run_tells_that_all_is_there(kitchen: Bench, schema: jsonschema.Draft7Validator) -> None:
    recipe = kitchen.recipe(STEPS)
    build(load_recipe(recipe))
    lines = told(recipe, schema)

    assert [line["event"] for line in lines] == ["begin", "planned", *["output"] * 3, "finished"]
    assert not any(line["written"] for line in of(lines, "output"))


def test_what_is_in_the_store_is_told_as_from_there(
    kitchen: Bench, schema: jsonschema.Draft7Validator
) -> None:
    recipe = kitchen.recipe(STEPS)
    build(load_recipe(recipe))
    (kitchen.folder / "out" / "small.safetensors").unlink()

    hows = {line["step"]: line["how"] for line in of(told(recipe, schema), "step-done")}
    assert hows == {"small": "store", "lora": "written"}


def test_a_check_that_fails_is_told_with_what_it_holds_back(
    kitchen: Bench, schema: jsonschema.Draft7Validator
) -> None:
    lines = told(kitchen.recipe(STEPS.replace("min: 0.0001", "max: 0.001")), schema, fails=True)

    (failed,) = of(lines, "failed")
    assert failed["status"] == 8
    assert failed["errors"][0]["code"] == "check-failed"
    assert failed["errors"][0]["where"]["line"] > 1
    assert "does not hold" in [line["how"] for line in of(lines, "step-done")]


def test_a_recipe_that_is_wrong_is_told_with_all_its_errors(
    kitchen: Bench, schema: jsonschema.Draft7Validator
) -> None:
    lines = told(kitchen.recipe(STEPS.replace("0.9", "9").replace("dtype:", "dtyp:")), schema, fails=True)
    assert [line["event"] for line in lines] == ["begin", "failed"]
    assert lines[1]["status"] == 3
    assert len(lines[1]["errors"]) == 2
    assert all(error["hint"] for error in lines[1]["errors"] if "hint" in error)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("x\x1b[31m"), 1, "internal"),
        (BuildError("nan", "NaN", step="s", module="m", details=["one"]), 5, "nan"),
        (CheckFailed("c", "m", where="a file"), 8, "c"),
    ],
)
def test_however_it_ends_the_last_line_says_so(
    schema: jsonschema.Draft7Validator, error: BaseException, status: int, code: str
) -> None:
    lines: list[bytes] = []
    Stream(lines.append).failed(error)
    (line,) = map(json.loads, lines)
    schema.validate(line)
    assert (line["status"], line["errors"][0]["code"]) == (status, code)


ONE = Variant(step="o[rank=4]", values={"rank": 4}, state="written", path=Path("o"), size=1, sha256="ab" * 32)
EVERY: tuple[Event, ...] = (
    Hashing(Path("a"), 1, 2),
    StepStarted("s", "svd-resize", 1, 1),
    Progress("s", 1, 2),
    Note("s", "energy", {"a": math.nan, "b": math.inf, "c": (1, 2.5, None, True), "d": Path("x")}),
    StepDone("s", "built", 1.0),
    events.OutputReady("s", Path("o"), "ab" * 32, 1, written=True),
    events.Sharing(1, 2),
    events.Warned("the shared store s3://team/x is not asked: the server refuses access (403)"),
    events.Swept(Sweep({"rank": (4,)}, (SweepTable("o", {"rank": (4,)}, (), (ONE,)),))),
)


def test_every_sort_of_event_is_told(schema: jsonschema.Draft7Validator) -> None:
    heard: list[bytes] = []
    stream = Stream(heard.append)
    for event in EVERY:
        stream.tell(event)
    lines = [json.loads(line) for line in heard]

    for line in lines:
        schema.validate(line)
    assert {type(event) for event in EVERY} == set(events.Event.__args__) - {events.Planned}  # type: ignore[attr-defined]
    assert len(lines) == len(EVERY)
    (note,) = of(lines, "note")
    assert note["value"] == {"a": None, "b": None, "c": [1, 2.5, None, True], "d": "x"}


def test_the_schema_has_every_status_of_a_plan(schema: jsonschema.Draft7Validator) -> None:
    planned: Any = schema.schema["definitions"]["planned"]  # type: ignore[index]
    statuses = planned["properties"]["steps"]["items"]["properties"]["status"]["enum"]
    assert set(statuses) == {status.value for status in Status}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_one_line_of_ascii(schema: jsonschema.Draft7Validator, name: str) -> None:
    lines: list[bytes] = []
    stream = Stream(lines.append)
    stream.tell(Hashing(Path(name.replace("\x00", "")), 1, 2))
    stream.tell(Note("s", name, {name: name}))
    stream.tell(Hashing(Path(os.fsdecode(b"\xff")), 1, 2))

    for line in lines:
        assert line.isascii()
        assert line.count(b"\n") == 1
        schema.validate(json.loads(line))
    assert json.loads(lines[1])["value"] == {name: name}


def test_steps_forward_are_told_ten_times_a_second_and_when_whole() -> None:
    now, lines = 0.0, list[bytes]()
    stream = Stream(lines.append, lambda: now)
    for number in range(1, 1001):
        now = number / 500
        stream.tell(Progress("s", number, 1000))

    shown = [json.loads(line)["done"] for line in lines]
    assert len(shown) == pytest.approx(20, abs=2)
    assert (shown[0], shown[-1]) == (1, 1000)


def test_steps_at_work_side_by_side_are_told_as_often_as_one_alone() -> None:
    now, lines = 0.0, list[bytes]()
    stream = Stream(lines.append, lambda: now)
    for step in ("one", "two", "three"):
        stream.tell(StepStarted(step, "save", 1, 3))
    for number in range(1, 1001):
        now = number / 500
        for step, fast in (("one", 1), ("two", 2), ("three", 3)):
            stream.tell(Progress(step, number * fast, 5000, "bytes"))

    told = [line for line in map(json.loads, lines) if line["event"] == "progress"]
    for step, fast in (("one", 1), ("two", 2), ("three", 3)):
        mine = [line for line in told if line["step"] == step]
        assert len(mine) == pytest.approx(20, abs=2)
        assert mine[-1]["bytes_per_second"] == pytest.approx(500 * fast, rel=0.02)
        assert mine[-1]["phase_left"] == pytest.approx((5000 - 1000 * fast) / (500 * fast), abs=0.2)


def test_time_left_and_speed_are_told_as_they_become_known() -> None:
    now, lines = 0.0, list[bytes]()
    stream = Stream(lines.append, lambda: now)
    stream.tell(StepStarted("o", "save", 1, 1))
    for second in range(1, 6):
        now = float(second)
        stream.tell(Progress("o", second * 100, 1000, "bytes"))
    last = json.loads(lines[-1])
    assert (last["bytes_per_second"], last["phase_left"]) == (100, 5.0)


def test_a_reader_that_goes_away_does_not_end_the_build(kitchen: Bench) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with json_view(writer) as listen:
            built = build(load_recipe(kitchen.recipe(STEPS)), Options(workers=1), listen=listen)
    finally:
        os.close(writer)
    assert all(output.written for output in built.outputs)


def test_a_standard_error_that_is_closed_is_not_taken_for_the_file_that_has_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with pytest.raises(UsageError, match="file descriptor 2 cannot be written"), json_view(2):
        pytest.fail("it began")


def test_a_descriptor_that_is_only_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as file, pytest.raises(UsageError), json_view(file.fileno()):
        pytest.fail("it began")


def test_a_descriptor_that_is_not_open_is_said_before_any_work() -> None:
    with pytest.raises(UsageError, match="file descriptor 987 cannot be written"), json_view(987):
        pytest.fail("it began")
