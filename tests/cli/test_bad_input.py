"""Bad input, end to end: a clear error with place and remedy, the right status, nothing written."""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

import lorapipe.build.run
from lorapipe.cli import main
from lorapipe.store.store import open_store

from ..bench import SHAPES, TE, TO_Q, Bench
from .bad_inputs import CASES, FAILED, MERGE, SAVE, Case, edited, spoilt

COMMANDS = ("validate", "plan", "run")


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A folder with two LoRAs and a checkpoint; the tests stand in it."""
    bench.lora("a")
    bench.lora("b", rank=6, seed=1)
    bench.checkpoint()
    monkeypatch.chdir(bench.folder)
    return bench


def contents(folder: Path) -> dict[str, object]:
    """Each name under a folder, with what tells whether anything about it changed."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        small = path.is_file() and state.st_size < 10**6
        found[str(path.relative_to(folder))] = (
            (state.st_mode, state.st_ino, state.st_size, state.st_mtime_ns),
            path.read_bytes() if small else None,
        )
    return found


def remembered(bench: Bench, *names: str) -> list[object]:
    """What the store knows of outputs, and the results that it holds."""
    with open_store(looking=True) as store:
        records = [record for name in names for record in store.journal.last(bench.folder / name)]
        return [*records, *(path for path in (store.paths.root / "blobs").rglob("*") if path.is_file())]


def errors(text: str) -> str:
    """What was said without the lines of progress and the excerpts."""
    lines = [line for line in text.splitlines() if not re.match(r"\[\d+/\d+\] |\s+(\d+ )?\|", line)]
    return "\n".join(lines)


def marked(text: str) -> list[str]:
    """What the caret lines underline."""
    lines = text.splitlines()
    return [
        source[caret.index("^") : caret.rindex("^") + 1]
        for source, caret in pairwise(lines)
        if re.fullmatch(r" +\| +\^+", caret)
    ]


def pattern(says: str, folder: Path) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, says.replace("{folder}", str(folder)).split("…"))))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_input(case: Case, kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    case.prepare(kitchen)
    kitchen.recipe(case.steps, head=case.head)
    before = contents(kitchen.folder)
    first = COMMANDS.index(case.found_by)

    for number, command in enumerate(COMMANDS):
        status = main([command, "r.yaml"])
        said = capsys.readouterr()

        if number < first:
            assert (status, said.err) == (0, ""), f"{command} finds what only {case.found_by} can"
            continue
        assert status == case.status
        assert pattern(case.says, kitchen.folder).fullmatch(errors(said.err)), said.err
        assert marked(said.err) == [case.marks]
        assert "Traceback" not in said.err
        assert said.out == ""
        assert contents(kitchen.folder) == before
        assert remembered(kitchen, "o.safetensors", "p.safetensors") == []


def test_the_table_has_each_case_once() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))


def test_every_error_tells_a_reason_and_most_a_remedy() -> None:
    without = [case.name for case in CASES if " - " not in case.says and "…" not in case.says]
    assert without == ["step that uses itself"]


def test_all_that_is_wrong_with_the_inputs_comes_in_one_run_in_the_order_of_the_recipe(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    (kitchen.folder / "b.safetensors").write_bytes(b"abc")
    kitchen.recipe("""
        out: {save: half, to: ../o.safetensors}
        half: {scale: base, by: 0.5}
        base: {load: base.safetensors}
        a: {load: nothing.safetensors}
        lost: {save: a, to: x.safetensors}
        b: {load: b.safetensors}
        c: {load: a.safetensors}
        mixed: {shuffle: c}
        same: {save: mixed, to: a.safetensors}
        outside: {save: mixed, to: ../o.safetensors}
    """)

    status = main(["run", "r.yaml"])

    found = [re.sub(r" - .*", "", line) for line in errors(capsys.readouterr().err).splitlines()]
    assert found == [
        "r.yaml:4:17: error: 'scale' takes a LoRA, its input is a checkpoint",
        "r.yaml:6:13: error: no file 'nothing.safetensors'",
        "r.yaml:8:13: error: b.safetensors: has 3 bytes: too short for a safetensors file",
        "r.yaml:11:27: error: 'same' would overwrite the file that 'c' loads",
        f"r.yaml:12:30: error: '../o.safetensors' is outside {kitchen.folder}",
    ]
    # Mistakes of the recipe and of the files: the earlier phase decides.
    assert status == 3


def test_all_that_is_wrong_with_a_recipe_comes_in_one_run(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.recipe("""
        a: {load: nothing.safetensors}
        s: {svd-resize: b, rnak: 4}
        t: {shufle: s}
        u: {scale: v, by: loud}
        out: {save: u, to: o.safetensors}
    """)

    status = main(["run", "r.yaml"])

    found = [line.split(": error: ")[0] for line in errors(capsys.readouterr().err).splitlines()]
    assert status == 3
    assert found == ["r.yaml:4:19", "r.yaml:4:22", "r.yaml:5:7", "r.yaml:6:14", "r.yaml:6:21"]


def test_several_foreign_files_are_named_at_once(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("o", "p"):
        (kitchen.folder / f"{name}.safetensors").write_bytes(b"precious")
    kitchen.recipe(SAVE + "\nmore: {save: a, to: p.safetensors}")

    assert main(["run", "r.yaml"]) == 5

    said = errors(capsys.readouterr().err).splitlines()
    assert [line.split(" is there")[0] for line in said] == [
        "r.yaml:4:22: error: 'o.safetensors'",
        "r.yaml:5:23: error: 'p.safetensors'",
    ]


def test_all_that_is_wrong_with_the_numbers_of_a_file_comes_in_one_run(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("alpha nan", "nan in a factor"):
        next(case for case in CASES if case.name == name).prepare(kitchen)
    edited(spoilt(f"{TE}.lora_up.weight", float("inf")))(kitchen)
    kitchen.recipe(SAVE)

    assert main(["run", "r.yaml"]) == 4

    place = "r.yaml:3:13: error: a.safetensors: "
    assert errors(capsys.readouterr().err).splitlines() == [
        f"{place}2 tensors with NaN or Inf: {TE}.lora_up.weight, {TO_Q}.lora_up.weight - {FAILED}",
        f"{place}1 alpha of 0, NaN or Inf: {TO_Q}.alpha (nan) - {FAILED}",
    ]


# --- a pickle ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [case for case in CASES if "pickle" in case.name], ids=lambda case: case.name
)
@pytest.mark.parametrize("command", ["plan", "run", "inspect"])
def test_code_in_a_pickle_is_not_run(case: Case, command: str, kitchen: Bench) -> None:
    case.prepare(kitchen)
    kitchen.recipe(case.steps)

    assert main([command, "a.ckpt" if command == "inspect" else "r.yaml"]) == 4

    assert not (kitchen.folder / "pwned").exists()


def test_the_pickle_of_these_tests_would_run_its_code(kitchen: Bench) -> None:
    import torch

    next(case for case in CASES if case.name == "a pickle that wants to run code").prepare(kitchen)
    torch.load("a.ckpt", weights_only=False)
    assert (kitchen.folder / "pwned").exists()


# --- a full disk ------------------------------------------------------------------------


def with_hook(monkeypatch: pytest.MonkeyPatch, hook: object) -> None:
    """Let the builds of ``lorapipe run`` call a hook at each point where a crash would matter."""
    monkeypatch.setattr(lorapipe.build.run, "build", functools.partial(lorapipe.build.run.build, hook=hook))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("steps", [SAVE, MERGE], ids=["lora", "merge"])
def test_a_disk_that_fills_up_while_an_output_is_written(
    kitchen: Bench,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    steps: str,
    number: int,
) -> None:
    kitchen.recipe(steps.replace("o.safetensors", "out/o.safetensors"))
    before = contents(kitchen.folder)

    def full(point: str) -> None:
        if point == "output:write":
            raise OSError(number, os.strerror(number))

    with_hook(monkeypatch, full)
    status = main(["run", "r.yaml"])

    said = errors(capsys.readouterr().err)
    assert status == 5
    place = r"r\.yaml:\d:\d+: error: "
    assert re.fullmatch(
        rf"{place}no space left for {kitchen.folder}/out/o.safetensors: [0-9,]+ bytes needed"
        r" - free some space and run again",
        said,
    )
    assert contents(kitchen.folder) == before
    assert remembered(kitchen, "out/o.safetensors") == []


def test_a_disk_too_small_is_found_before_the_work(
    kitchen: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen.recipe(SAVE)
    before = contents(kitchen.folder)
    free = shutil.disk_usage(kitchen.folder)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)

    assert main(["run", "r.yaml"]) == 5

    said = errors(capsys.readouterr().err)
    assert f"no space left in {kitchen.folder}: " in said
    assert said.endswith("1,000 free - free some space and run again")
    assert contents(kitchen.folder) == before


def test_an_old_output_survives_a_full_disk(
    kitchen: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = "a: {load: a.safetensors}\ns: {scale: a, by: $(by)}\nout: {save: s, to: o.safetensors}"
    kitchen.recipe(steps, head="params: {by: 0.5}\n")
    assert main(["run", "r.yaml"]) == 0
    before = contents(kitchen.folder)

    def full(point: str) -> None:
        if point == "output:seal":
            raise OSError(errno.ENOSPC, "No space left on device")

    with_hook(monkeypatch, full)
    with pytest.MonkeyPatch.context():
        status = main(["run", "r.yaml", "--set", "by=0.6"])

    assert status != 0
    assert contents(kitchen.folder) == before


# --- Ctrl-C -----------------------------------------------------------------------------

CHILD = r"""
import functools, os, signal, sys, time
import lorapipe.build.run as run
from lorapipe.cli import main

point, action = sys.argv[2:]
reached = []

def hook(now):
    if now != point or (reached and action == "signal"):
        return
    reached.append(now)
    if action in ("signal", "signals"):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)  # the main thread hears it, this may be another
    else:
        print("here", flush=True)
        time.sleep(0.3)

def slow(delta, *rest, **more):
    os.write(1, b"here\n")
    time.sleep(0.3)
    return work(delta, *rest, **more)

if point == "work":
    import lorapipe.weights.algebra.shuffle as shuffle
    name = action
    work = getattr(shuffle, name)
    setattr(shuffle, name, slow)
run.build = functools.partial(run.build, hook=hook)
sys.exit(main(["run", sys.argv[1], "--workers", "2"]))
"""


def child(bench: Bench, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(lorapipe.__file__).parent.parent),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, "r.yaml", *arguments],
        cwd=bench.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "point", ["output:created", "output:write", "output:sealed", "journal:record", "output:publish"]
)
def test_ctrl_c_at_any_point_leaves_nothing(kitchen: Bench, point: str) -> None:
    kitchen.recipe(SAVE.replace("o.safetensors", "out/o.safetensors"))
    before = contents(kitchen.folder)

    process = child(kitchen, point, "signal")
    out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (130, "")
    assert errors(err).strip() == "error: interrupted - run again to go on"
    assert contents(kitchen.folder) == before


def test_ctrl_c_pressed_again_while_cleaning_up_leaves_nothing_either(kitchen: Bench) -> None:
    kitchen.recipe(SAVE)
    before = contents(kitchen.folder)

    process = child(kitchen, "output:write", "signals")
    process.communicate(timeout=60)

    assert process.returncode == 130
    assert contents(kitchen.folder) == before


def test_ctrl_c_after_the_rename_leaves_an_output_that_the_next_run_knows(kitchen: Bench) -> None:
    kitchen.recipe(SAVE)

    process = child(kitchen, "output:published", "signal")
    process.communicate(timeout=60)

    assert process.returncode == 130
    written = (kitchen.folder / "o.safetensors").stat()
    assert main(["run", "r.yaml", "--quiet"]) == 0
    again = (kitchen.folder / "o.safetensors").stat()
    assert (written.st_ino, written.st_mtime_ns) == (again.st_ino, again.st_mtime_ns)


@pytest.mark.parametrize("at", [("output:write", "sleep"), ("work", "rotated")])
def test_ctrl_c_ends_a_slow_build_within_two_seconds(kitchen: Bench, at: tuple[str, str]) -> None:
    many = {TE.replace("layers_0", f"layers_{layer}"): SHAPES[TE] for layer in range(12)}
    kitchen.lora(
        "a", modules={**many, **{name.replace("q_proj", "k_proj"): shape for name, shape in many.items()}}
    )
    kitchen.recipe("a: {load: a.safetensors}\ns: {shuffle: a}\nout: {save: s, to: o.safetensors}")
    before = contents(kitchen.folder)

    process = child(kitchen, at[0], at[1])
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n", process.communicate()
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert time.monotonic() - started < 2
    assert process.returncode == 130
    assert err.endswith("error: interrupted - run again to go on\n")
    assert "Traceback" not in err
    assert contents(kitchen.folder) == before
