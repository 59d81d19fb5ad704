"""Where a recipe stands: told from headers, the memo and the lock, with nothing written."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from lorapipe.build.proving.status import Row, Standing, status
from lorapipe.build.run import Options, build
from lorapipe.errors import LockError
from lorapipe.recipe.parsing import load_recipe

from ...bench import Bench

STEPS = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: 1.0, b: $(by)}}
    small: {svd-resize: both, rank: 3}
    out: {save: small, to: out/o.safetensors}
    whole: {save: a, to: out/w.safetensors}
"""
HEAD = "params: {by: 0.5}\n"


@pytest.fixture
def unbuilt(bench: Bench) -> Path:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    return bench.recipe(STEPS, head=HEAD)


@pytest.fixture
def recipe(unbuilt: Path) -> Path:
    """A recipe that was built, with files old enough to be remembered."""
    for path in unbuilt.parent.glob("*.safetensors"):
        os.utime(path, ns=(1, 1))
    build(load_recipe(unbuilt), Options(workers=1))
    status_of(unbuilt)
    return unbuilt


def status_of(path: Path, params: dict[str, object] | None = None, **options: Any) -> Standing:
    return status(load_recipe(path, params or {}), Options(**options))


def rows(path: Path, params: dict[str, object] | None = None, **options: Any) -> dict[str, Row]:
    return {row.step: row for row in status_of(path, params, **options).rows}


def states(path: Path, params: dict[str, object] | None = None, **options: Any) -> dict[str, str | None]:
    found = rows(path, params, **options).items()
    return {step: None if row.state is None else row.state.value for step, row in found}


def known(path: Path) -> None:
    """Let the memo know a recipe's inputs and outputs as they are."""
    from lorapipe.build.run import plan

    plan(load_recipe(path), read=True)


def test_before_a_build_nothing_is_hashed_and_nothing_built(unbuilt: Path) -> None:
    found = status_of(unbuilt)
    assert states(unbuilt) == {
        "a": "not hashed yet",
        "b": "not hashed yet",
        "both": None,
        "small": "not hashed yet",
        "out": "not built",
        "whole": "not built",
    }
    assert (found.locked, found.drift, found.errors) == (False, None, ())


def test_after_a_build_everything_is_as_the_lock_has_it(recipe: Path) -> None:
    known(recipe)
    found, by_step = status_of(recipe), rows(recipe)
    assert states(recipe) == {
        "a": "ok",
        "b": "ok",
        "both": None,
        "small": "in the store",
        "out": "up to date",
        "whole": "up to date",
    }
    assert found.locked
    assert found.drift is not None
    assert found.drift.lines == ()
    built = {o.step: o for o in build(load_recipe(recipe)).outputs}
    assert (by_step["out"].locked, by_step["out"].size) == (built["out"].sha256, built["out"].size)
    assert by_step["a"].size == (recipe.parent / "a.safetensors").stat().st_size


def test_nothing_is_written(recipe: Path, tmp_path: Path) -> None:
    def everything() -> dict[Path, tuple[int, int]]:
        found = [path for path in tmp_path.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in found}

    before = everything()
    status_of(recipe)
    shutil.rmtree(tmp_path / "store")
    status_of(recipe)
    assert everything() == {path: state for path, state in before.items() if path.exists()}
    assert not (tmp_path / "store").exists()


def test_what_changed_since_the_lock_is_said_where_it_changed(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("rank: 3", "rank: 2"))
    known(recipe)
    found, by_step = status_of(recipe, {"by": 0.25}), rows(recipe, {"by": 0.25})
    assert by_step["both"].since == ("b 0.5 -> 0.25",)
    assert by_step["small"].since == ("rank 3 -> 2",)
    assert by_step["out"].since == ()
    assert states(recipe, {"by": 0.25})["out"] == "will run"
    assert states(recipe, {"by": 0.25})["small"] == "will run"
    assert states(recipe, {"by": 0.25})["whole"] == "up to date"
    assert found.drift is not None
    assert found.drift.settings == ("param by 0.5 -> 0.25",)


def test_an_input_of_another_size_is_changed_before_it_is_hashed(recipe: Path, bench: Bench) -> None:
    bench.lora("b", rank=5, seed=2)
    assert states(recipe)["b"] == "changed"


def test_an_input_of_the_same_size_is_changed_once_it_is_hashed(recipe: Path, bench: Bench) -> None:
    bench.lora("b", seed=3)
    assert states(recipe)["b"] == "not hashed yet"
    os.utime(recipe.parent / "b.safetensors", ns=(1, 1))

    time.sleep(0.06)  # the memo keeps no digest of a file that could still change unseen
    known(recipe)
    assert states(recipe)["b"] == "changed"
    (line,) = rows(recipe)["b"].since
    assert line.startswith("sha256 ")


def test_a_missing_input_is_a_row_and_an_error(recipe: Path) -> None:
    known(recipe)
    (recipe.parent / "b.safetensors").unlink()
    found = status_of(recipe)
    assert states(recipe) == {
        "a": "ok",
        "b": "missing",
        "both": None,
        "small": "cannot be told",
        "out": "cannot be told",
        "whole": "cannot be told",
    }
    assert [error.code for error in found.errors] == ["input-missing"]
    assert rows(recipe)["b"].locked is not None


def test_an_input_that_is_not_the_pinned_one_is_changed(recipe: Path) -> None:
    known(recipe)
    recipe.write_text(recipe.read_text().replace("load: b.s", f"sha256: {'ab' * 32}, load: b.s"))
    assert states(recipe)["b"] == "changed"
    assert [error.code for error in status_of(recipe).errors] == ["sha256-mismatch"]


@pytest.mark.parametrize("longer", [True, False])
def test_an_edited_output_is_called_that(recipe: Path, longer: bool) -> None:
    path = recipe.parent / "out" / "o.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw + b"x" * longer)
    assert states(recipe)["out"] == ("changed since built" if longer else "not hashed yet")
    os.utime(path, ns=(1, 1))

    time.sleep(0.06)
    known(recipe)
    assert states(recipe)["out"] == "changed since built"


def test_a_file_that_lorapipe_never_wrote_is_not_its_own(unbuilt: Path) -> None:
    (unbuilt.parent / "out").mkdir()
    (unbuilt.parent / "out" / "o.safetensors").write_bytes(b"precious")
    assert states(unbuilt)["out"] == "not lorapipe's"


def test_outputs_under_another_root_are_looked_for_there(recipe: Path, tmp_path: Path) -> None:
    assert states(recipe, output_root=tmp_path / "there")["out"] == "not built"


def test_a_step_that_went_is_in_the_drift(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("  whole: {save: a, to: out/w.safetensors}\n", ""))
    found = status_of(recipe)
    assert found.drift is not None
    assert found.drift.lines == ("step whole: not in the recipe any more",)


def test_a_lock_in_conflict_is_an_error(recipe: Path) -> None:
    recipe.with_suffix(".lock").write_text("<<<<<<< HEAD\n")
    with pytest.raises(LockError, match="conflict markers"):
        status_of(recipe)
