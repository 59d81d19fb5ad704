"""``lorapipe lock``: what a build is made of, without one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lorapipe.build.locks.drift import Drift
from lorapipe.build.proving.relock import Relocked, relock
from lorapipe.build.run import Options, build
from lorapipe.errors import LockError, ManyErrors
from lorapipe.recipe.parsing import load_recipe
from lorapipe.store.lockfile import LockFile, read

from ...bench import Bench

STEPS = """
    a: {load: a.safetensors}
    half: {scale: a, by: $(by)}
    small: {svd-resize: half, rank: 2}
    out: {save: small, to: out/o.safetensors}
    whole: {save: a, to: out/w.safetensors}
"""
HEAD = "params: {by: 0.5}\n"


@pytest.fixture
def recipe(bench: Bench) -> Path:
    bench.lora("a", seed=1)
    return bench.recipe(STEPS, head=HEAD)


def lock(path: Path, **params: object) -> Relocked:
    return relock(load_recipe(path, params), Options())


def run(path: Path, **params: object) -> LockFile:
    build(load_recipe(path, params), Options(workers=1))
    found = read(path.with_suffix(".lock"))
    assert found is not None
    return found


def test_a_lock_before_the_build_is_that_after_it_but_for_the_outputs(recipe: Path) -> None:
    done = lock(recipe)

    assert (done.path, done.written, done.drift) == (recipe.with_suffix(".lock"), True, None)
    assert done.unbuilt == ("out", "whole")
    assert done.lock.outputs == {}
    assert read(done.path) == done.lock
    assert not (recipe.parent / "out").exists()
    after = run(recipe)
    assert (after.inputs, after.steps, after.profile) == (
        done.lock.inputs,
        done.lock.steps,
        done.lock.profile,
    )


def test_a_locked_build_follows_a_lock_without_outputs(recipe: Path) -> None:
    lock(recipe)
    text = recipe.with_suffix(".lock").read_bytes()
    built = build(load_recipe(recipe), Options(locked=True))
    assert all(output.written for output in built.outputs)
    assert recipe.with_suffix(".lock").read_bytes() == text


def test_after_a_build_it_says_the_same_and_is_not_written(recipe: Path) -> None:
    before = run(recipe)
    done = lock(recipe)
    assert (done.written, done.lock, done.drift, done.unbuilt) == (False, before, Drift(), ())


def test_it_is_what_the_run_writes_where_the_file_was_lost(recipe: Path) -> None:
    before = run(recipe)
    recipe.with_suffix(".lock").unlink()
    assert lock(recipe).lock == before


def test_an_output_that_is_still_right_stays_and_one_that_is_not_goes(recipe: Path) -> None:
    before = run(recipe)
    done = lock(recipe, by=0.25)
    assert done.lock.outputs == {"whole": before.outputs["whole"]}
    assert done.unbuilt == ("out",)
    assert done.drift is not None
    assert done.drift.lines == ("param by 0.5 -> 0.25", "step half: by 0.5 -> 0.25")


def test_an_output_that_is_not_there_or_edited_stays_as_the_lock_has_it(recipe: Path) -> None:
    before = run(recipe)
    (recipe.parent / "out" / "w.safetensors").unlink()
    (recipe.parent / "out" / "o.safetensors").write_bytes(b"edited")
    done = lock(recipe)
    assert (done.written, done.lock) == (False, before)


def test_an_input_that_changed_is_taken_over(recipe: Path, bench: Bench) -> None:
    run(recipe)
    bench.lora("a", seed=2)
    done = lock(recipe)
    assert done.drift is not None
    (line,) = done.drift.lines
    assert line.startswith("step a: sha256 ")
    assert done.unbuilt == ("out", "whole")
    assert run(recipe).inputs == done.lock.inputs


@pytest.mark.parametrize("text", ["<<<<<<< HEAD\nversion: 2\n", "version: [\n", "", "version: two\n"])
def test_a_lock_that_nobody_understands_is_written_anew(recipe: Path, text: str) -> None:
    before = run(recipe)
    recipe.with_suffix(".lock").write_text(text)
    done = lock(recipe)
    assert (done.written, done.drift, done.lock) == (True, None, before)


def test_a_newer_lock_is_left_alone(recipe: Path) -> None:
    path = recipe.with_suffix(".lock")
    path.write_text("version: 99\n")
    with pytest.raises(LockError, match="made by a newer lorapipe"):
        lock(recipe)
    assert path.read_text() == "version: 99\n"


def test_what_a_plan_refuses_is_not_locked(recipe: Path) -> None:
    (recipe.parent / "a.safetensors").unlink()
    with pytest.raises(ManyErrors, match=r"no file 'a\.safetensors'"):
        lock(recipe)
    assert not recipe.with_suffix(".lock").exists()


def test_a_journal_that_is_lost_loses_only_what_no_lock_has(recipe: Path, tmp_path: Path) -> None:
    before = run(recipe)
    shutil.rmtree(tmp_path / "store")
    assert lock(recipe).lock == before
    recipe.with_suffix(".lock").unlink()
    shutil.rmtree(tmp_path / "store")
    assert lock(recipe).lock.outputs == {}
