"""A build with checks: what they hold back is not made, all else is, and nothing is done twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from lorapipe.build.events import Event, Note, StepDone
from lorapipe.build.run import Options, build, plan
from lorapipe.errors import BuildError, CheckFailed, LorapipeError
from lorapipe.plan.plan import Status
from lorapipe.recipe.parsing import load_recipe
from lorapipe.store.lockfile import read

from ..bench import Bench
from ..checked import steps_to_check

GOOD = "good: {check: small, finite: true, energy: {of: both, min: 0.1}}\n"
BAD = "bad: {check: small, energy: {of: both, min: 0.999}}\n"


@pytest.fixture
def steps(bench: Bench) -> str:
    return steps_to_check(bench)


def done(
    path: Path, *, options: Options | None = None, hook: Callable[[str], None] | None = None
) -> dict[str, str]:
    """How each step of a build came; of one that fails as far as it came."""
    events: list[Event] = []
    how: dict[str, str] = {}

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepDone):
            how[event.step] = event.how

    build(load_recipe(path), options or Options(workers=1), listen=listen, hook=hook or (lambda point: None))
    return how


def failed(path: Path, *, options: Options | None = None) -> tuple[list[LorapipeError], dict[str, str]]:
    """The errors of a build that fails, and how each step came."""
    how: dict[str, str] = {}

    def listen(event: Event) -> None:
        if isinstance(event, StepDone):
            how[event.step] = event.how

    with pytest.raises(LorapipeError) as caught:
        build(load_recipe(path), options or Options(workers=1), listen=listen)
    error = caught.value
    assert error.exit_status == 8
    return list(error.parts), how


def there(bench: Bench) -> set[str]:
    return {path.stem for path in bench.folder.glob("*.safetensors")} - {"a", "b", "base"}


def sha256s(bench: Bench) -> dict[str, str]:
    return {
        name: hashlib.sha256((bench.folder / f"{name}.safetensors").read_bytes()).hexdigest()
        for name in there(bench)
    }


# --- what is made -----------------------------------------------------------------------


def test_a_check_that_holds_changes_no_byte(
    bench: Bench, steps: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done(bench.recipe(steps))
    plain = sha256s(bench)
    for name in plain:
        (bench.folder / f"{name}.safetensors").unlink()
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "other"))
    how = done(bench.recipe(steps + GOOD))
    assert how["good"] == "holds"
    assert sha256s(bench) == plain


def test_a_check_that_fails_holds_back_what_is_made_of_its_step_and_nothing_else(
    bench: Bench, steps: str
) -> None:
    (error,), how = failed(bench.recipe(steps + BAD))
    assert there(bench) == {"exact"}
    assert isinstance(error, CheckFailed)
    assert error.message == "'small': 4 of 4 modules have an energy of 'both' below 0.999"
    assert error.hint == "not made: lora, secret"
    assert str(error.where).endswith("r.yaml:11:31")
    assert (how["bad"], how["exact"], how["lora"], how["secret"]) == (
        "does not hold",
        "written",
        "held back",
        "held back",
    )
    assert "mixed" not in how


def test_all_checks_are_made_and_all_that_fail_are_named(bench: Bench, steps: str) -> None:
    text = steps + BAD + "worse: {check: both, norm: {max: 0.1}}\n" + GOOD + "known: {check: a, modules: 9}\n"
    errors, how = failed(bench.recipe(text))
    assert [error.step for error in errors] == ["bad", "worse", "known"]
    assert how["good"] == "holds"
    assert there(bench) == set()
    assert errors[1].hint == "not made: exact, lora, secret"


def test_one_that_headers_show_to_fail_is_not_begun(bench: Bench, steps: str) -> None:
    (error,), how = failed(bench.recipe(steps + "bad: {check: small, rank: {max: 1}}\n"))
    assert set(how) == {"a", "b", "both", "exact"}
    assert there(bench) == {"exact"}
    assert error.hint == "not made: lora, secret"


def test_where_nothing_is_left_to_do_a_check_fails_all_the_same(bench: Bench, steps: str) -> None:
    text = steps + "bad: {check: both, rank: {max: 1}}\n"
    for _ in range(2):
        _, how = failed(bench.recipe(text))
        assert how == {}
    assert there(bench) == set()


def test_a_checkpoint_merge_waits_for_the_checks_above_it(bench: Bench, steps: str) -> None:
    bench.checkpoint()
    merge = """
        base: {load: base.safetensors}
        model: {merge-into-checkpoint: base, loras: small}
        merged: {save: model, to: merged.safetensors}
    """
    _, how = failed(bench.recipe(steps + merge.strip() + "\n" + BAD))
    assert how["merged"] == "held back"
    assert there(bench) == {"exact"}
    how = done(
        bench.recipe(steps + merge.strip() + "\nsame: {check: model, finite: true, differs-from: base}\n")
    )
    assert how["same"] == "holds"
    assert list(how).index("same") < list(how).index("merged")


def test_another_fault_of_the_build_comes_with_the_checks_that_failed_before(
    bench: Bench, steps: str
) -> None:
    (bench.folder / "late").mkdir()
    text = steps + BAD + "late: {save: both, to: late/x.safetensors}\n"

    def hook(point: str) -> None:
        if point.endswith("journal:record"):
            raise BuildError("disk-full", "no space")

    with pytest.raises(LorapipeError) as caught:
        build(load_recipe(bench.recipe(text)), Options(workers=1), hook=hook)
    error = caught.value
    assert error.exit_status == 5


# --- nothing is done twice --------------------------------------------------------------


def test_a_build_that_is_up_to_date_makes_no_check_again(bench: Bench, steps: str) -> None:
    recipe = bench.recipe(steps + GOOD)
    done(recipe)
    assert done(recipe) == {}
    assert plan(load_recipe(recipe)).steps["good"].status is Status.UP_TO_DATE


def test_a_check_that_is_added_runs_alone_and_its_failure_leaves_what_is_there(
    bench: Bench, steps: str
) -> None:
    done(bench.recipe(steps))
    before = sha256s(bench)
    assert set(done(bench.recipe(steps + GOOD))) == {"a", "b", "both", "small", "good"}
    (error,), how = failed(bench.recipe(steps + BAD))
    assert set(how) == {"a", "b", "both", "small", "bad"}
    assert how["small"] == "store"
    assert error.hint == "left as they are: lora, secret"
    assert sha256s(bench) == before
    lock = read(bench.folder / "r.lock")
    assert lock is not None
    assert set(lock.outputs) == {"exact", "lora", "secret"}


def test_one_that_failed_is_made_again_and_what_was_finished_is_not(bench: Bench, steps: str) -> None:
    recipe = bench.recipe(steps + BAD)
    failed(recipe)
    _, how = failed(recipe)
    assert how == {
        "a": "built",
        "b": "built",
        "both": "built",
        "small": "store",
        "bad": "does not hold",
        "lora": "held back",
        "secret": "held back",
    }


def test_another_limit_is_another_check_and_another_name_is_not(bench: Bench, steps: str) -> None:
    done(bench.recipe(steps + GOOD))
    assert done(bench.recipe(steps + GOOD.replace("good", "other"))) == {}
    assert done(bench.recipe(steps + GOOD.replace("0.1", "0.2")))["good"] == "holds"


def test_a_lost_store_makes_the_check_again_and_no_output(bench: Bench, steps: str, tmp_path: Path) -> None:
    recipe = bench.recipe(steps + GOOD)
    done(recipe)
    shutil.rmtree(tmp_path / "store")
    how = done(recipe)
    assert how == {"a": "built", "b": "built", "both": "built", "small": "built", "good": "holds"}


def test_figures_that_are_cut_short_are_measured_again(bench: Bench, steps: str, tmp_path: Path) -> None:
    recipe = bench.recipe(steps + GOOD)
    done(recipe)
    (blob,) = [
        p
        for p in (tmp_path / "store").rglob("*")
        if p.is_file()
        and p.read_bytes()[:1] == b"{"
        and b'"total"' in p.read_bytes()
        and b'"preimage"' not in p.read_bytes()
    ]
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-3])
    assert done(recipe)["good"] == "holds"


def test_where_the_checked_result_comes_out_as_before_its_figures_are_found(bench: Bench, steps: str) -> None:
    """The input is another file with the same numbers: what is made of it is made anew, and is the same."""
    recipe = bench.recipe(steps.replace("both, rank", "a, rank") + "good: {check: small, finite: true}\n")
    done(recipe)
    bench.lora("a", rank=4, seed=1, metadata={"ss_base_model_version": "sd_v1", "ss_v2": "False"})
    os.utime(bench.folder / "a.safetensors")
    path = bench.folder / "a.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    head = data[8 : 8 + size] + b" " * 8
    path.write_bytes(len(head).to_bytes(8, "little") + head + data[8 + size :])
    how = done(recipe)
    assert how["small"] == "built"
    assert how["good"] == "store"


def test_two_names_of_one_check_measure_once(bench: Bench, steps: str) -> None:
    how = done(bench.recipe(steps + GOOD + GOOD.replace("good", "again")))
    assert sorted([how["good"], how["again"]]) == ["holds", "store"]


# --- records ----------------------------------------------------------------------------


def test_the_figures_are_told_and_told_again_when_they_are_found(bench: Bench, steps: str) -> None:
    notes: list[Note] = []
    build(
        load_recipe(bench.recipe(steps + GOOD + GOOD.replace("good", "again"))),
        Options(workers=1),
        listen=lambda event: notes.append(event) if isinstance(event, Note) else None,
    )
    told = {note.step: note.value for note in notes if note.fact == "holds"}
    assert told["good"] == told["again"]
    assert isinstance(told["good"], dict)
    assert 0.1 < told["good"]["energy"]["total"] < 1


def test_the_lock_of_a_build_that_failed_has_what_is_in_place(bench: Bench, steps: str) -> None:
    failed(bench.recipe(steps + BAD))
    lock = read(bench.folder / "r.lock")
    assert lock is not None
    assert set(lock.outputs) == {"exact"}
    assert lock.steps["bad"].inputs == {"check": (("small", 1.0),), "energy.of": (("both", 1.0),)}


def test_what_was_made_under_an_older_recipe_is_still_known_to_be_ours(bench: Bench, steps: str) -> None:
    """Held back, out of date and not replaced; when the check is gone it is, without --force."""
    done(bench.recipe(steps))
    old = sha256s(bench)
    changed = steps.replace("rank: 2", "rank: 3")
    failed(bench.recipe(changed + BAD))
    assert sha256s(bench) == old
    assert done(bench.recipe(changed))["lora"] == "written"


def test_a_locked_build_makes_its_checks(bench: Bench, steps: str, tmp_path: Path) -> None:
    recipe = bench.recipe(steps + GOOD)
    done(recipe)
    assert done(recipe, options=Options(locked=True)) == {}
    shutil.rmtree(tmp_path / "store")
    (bench.folder / "lora.safetensors").unlink()
    how = done(recipe, options=Options(locked=True, workers=1))
    assert (how["good"], how["lora"]) == ("holds", "written")


# --- what may go wrong ------------------------------------------------------------------


def test_a_check_below_a_shuffle_tells_no_file_of_anything(bench: Bench, steps: str) -> None:
    text = steps + "near: {check: mixed, energy: {of: both, min: 0.1}}\n"
    done(bench.recipe(text))
    with safe_open(bench.folder / "secret.safetensors", "np") as file:
        told = json.dumps(dict(file.metadata() or {}))
    assert not [
        word for word in ("check", "energy", "near", "both", "a.safetensors", "provenance") if word in told
    ]
    (error,), _ = failed(bench.recipe(text.replace("0.1", "0.999")))
    assert len(error.details) == 4


def test_a_death_at_any_point_of_a_check_leaves_the_next_build_right(
    bench: Bench, steps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    recipe = bench.recipe(
        "a: {load: a.safetensors}\nlora: {save: a, to: lora.safetensors}\ngood: {check: a, finite: true}\n"
    )
    points: list[str] = []
    done(recipe, hook=points.append)
    whole = sha256s(bench)
    ours = [number for number, point in enumerate(points) if point.startswith(("blob", "manifest"))]
    assert len(ours) > 6
    for number in ours:
        (bench.folder / "lora.safetensors").unlink(missing_ok=True)
        monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / f"store-{number}"))
        passed: list[str] = []

        def die(point: str, passed: list[str] = passed, last: int = number) -> None:
            passed.append(point)
            if len(passed) > last:
                raise Killed

        with pytest.raises(Killed):
            done(recipe, hook=die)
        done(recipe)
        assert sha256s(bench) == whole
        assert done(recipe) == {}


def test_a_store_without_room_keeps_no_figures_and_the_build_goes_on(
    bench: Bench, steps: str, tmp_path: Path
) -> None:
    def full(point: str) -> None:
        if point.startswith("blob"):
            raise BuildError("disk-full", "no space")

    recipe = bench.recipe(
        "a: {load: a.safetensors}\nlora: {save: a, to: lora.safetensors}\ngood: {check: a, finite: true}\n"
    )
    assert done(recipe, hook=full)["lora"] == "written"
    assert done(recipe)["good"] == "holds"
    assert done(recipe) == {}


def test_a_check_within_a_memory_limit_measures_the_same(
    bench: Bench, steps: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench.checkpoint()
    merge = """
        base: {load: base.safetensors}
        model: {merge-into-checkpoint: base, loras: small}
        out: {save: model, to: out.safetensors}
        solid: {check: model, finite: true, energy: {of: base, total: -1e9}}
    """
    text = steps + merge.strip()
    told: list[Any] = []
    for number, memory in enumerate((None, 600 << 20)):
        monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / f"store-{number}"))
        build(
            load_recipe(bench.recipe(text)),
            Options(workers=2, memory=memory),
            listen=lambda event: (
                told.append(event.value) if isinstance(event, Note) and event.fact == "holds" else None
            ),
        )
        (bench.folder / "out.safetensors").unlink()
    assert told[0] == told[1]
