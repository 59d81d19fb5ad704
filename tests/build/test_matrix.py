"""A recipe with a matrix becomes files: each variant as if it were alone, nothing twice, one by one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from lorapipe.build.events import Event, Hashing, StepDone
from lorapipe.build.proving.verify import State, verify
from lorapipe.build.result import Built
from lorapipe.build.run import Options, build, plan
from lorapipe.errors import CheckFailed, LockError, ManyErrors, UsageError
from lorapipe.plan.plan import Status
from lorapipe.recipe.parsing import load_recipe
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Materialise
from lorapipe.store.lockfile import lock_path, read

from ..bench import SHAPES, Bench

STEPS = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: $(s), b: -0.5}}
    small: {svd-resize: both, rank: $(r)}
    lora: {save: small, to: out/s$(s)-r$(r).safetensors, provenance: minimal}
"""


def head(s: Iterable[float] = (0.5, 1.0), r: Iterable[int] = (1, 2, 3), more: str = "") -> str:
    return f"matrix: {{s: {list(s)}, r: {list(r)}{more}}}\n"


@pytest.fixture
def kitchen(bench: Bench) -> Bench:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    return bench


def run(path: Path, params: dict[str, Any] | None = None, **options: Any) -> Built:
    return build(load_recipe(path, params), Options(workers=1, **options))


def done(path: Path, **options: Any) -> dict[str, str]:
    """How each step of a build came, those that are done within others left out."""
    events: list[Event] = []
    recipe = load_recipe(path)
    build(recipe, Options(**{"workers": 1, **options}), listen=events.append)
    lazy = {s.id for s in recipe.steps.values() if find_kind(s.kind).materialise is Materialise.LAZY}
    return {e.step: e.how for e in events if isinstance(e, StepDone) and e.step not in lazy}


def made(found: dict[str, str]) -> set[str]:
    return {step for step, how in found.items() if how in ("built", "written")}


def variants(s: Iterable[float], r: Iterable[int], *steps: str) -> set[str]:
    return {f"{step}[s={one},r={two}]" for step in steps for one in s for two in r}


def locked_outputs(path: Path) -> set[str]:
    lock = read(lock_path(path))
    assert lock is not None
    return set(lock.outputs)


def test_each_variant_has_the_bytes_that_it_has_alone(kitchen: Bench) -> None:
    run(kitchen.recipe(STEPS, head=head()))
    swept = {path.name: path.read_bytes() for path in (kitchen.folder / "out").iterdir()}
    assert len(swept) == 6
    for s in (0.5, 1.0):
        for r in (1, 2, 3):
            plain = kitchen.recipe(STEPS, "plain.yaml", head=f"params: {{s: {s}, r: {r}}}\n")
            run(plain, output_root=kitchen.folder / "alone", store=kitchen.folder / "another-store")
            name = f"s{s}-r{r}.safetensors"
            assert (kitchen.folder / "alone" / "out" / name).read_bytes() == swept[name]


def test_the_numbers_of_a_variant_are_the_best_of_its_rank(kitchen: Bench) -> None:
    """Against numpy's SVD of the dense sum."""
    run(kitchen.recipe(STEPS, head=head()))
    for s in (0.5, 1.0):
        for r in (1, 3):
            tensors = load_file(kitchen.folder / "out" / f"s{s}-r{r}.safetensors")
            for stem, (out, *_) in SHAPES.items():
                up, down = tensors[f"{stem}.lora_up.weight"], tensors[f"{stem}.lora_down.weight"]
                found = (
                    (tensors[f"{stem}.alpha"] / len(down)) * up.reshape(out, -1) @ down.reshape(len(down), -1)
                )
                u, values, v = np.linalg.svd(
                    s * kitchen.deltas["a"][stem] - 0.5 * kitchen.deltas["b"][stem], full_matrices=False
                )
                np.testing.assert_allclose(found, (u[:, :r] * values[:r]) @ v[:r], atol=2e-5)


def test_what_depends_on_no_axis_is_done_once(kitchen: Bench) -> None:
    steps = """
    a: {load: a.safetensors}
    mixed: {shuffle: a}
    small: {svd-resize: mixed, rank: $(r)}
    lora: {save: small, to: $(r)-$(s).safetensors}
    whole: {save: mixed, to: whole.safetensors}
    """
    found = done(kitchen.recipe(steps, head=head()))
    assert [step for step, how in found.items() if how == "built"] == [
        "mixed",
        "small[r=1]",
        "small[r=2]",
        "small[r=3]",
    ]
    assert sum(how == "written" for how in found.values()) == 7


@pytest.mark.parametrize("workers", [1, 3])
def test_steps_of_one_meaning_are_computed_once_whatever_they_are_called(
    kitchen: Bench, workers: int
) -> None:
    """The axis is in a note only: two steps, one key, and both may be begun at once."""
    steps = """
    a: {load: a.safetensors}
    small: {svd-resize: a, rank: 2, description: for $(who)}
    lora: {save: small, to: $(who).safetensors}
    """
    found = done(kitchen.recipe(steps, head="matrix: {who: [me, you]}\n"), workers=workers)
    assert sorted(found[f"small[who={who}]"] for who in ("me", "you")) == ["built", "store"]
    assert (kitchen.folder / "me.safetensors").read_bytes() == (
        kitchen.folder / "you.safetensors"
    ).read_bytes()


def test_nothing_is_done_when_nothing_changed(kitchen: Bench) -> None:
    path = kitchen.recipe(STEPS, head=head())
    assert len(made(done(path))) == 12
    assert done(path) == {}
    assert not plan(load_recipe(path)).schedule


def test_another_value_rebuilds_its_variants_alone(kitchen: Bench) -> None:
    done(kitchen.recipe(STEPS, head=head()))
    found = made(done(kitchen.recipe(STEPS, head=head(s=(0.5, 0.75)))))
    assert found == variants([0.75], [1, 2, 3], "small", "lora")
    found = made(done(kitchen.recipe(STEPS, head=head(s=(0.5, 0.75), r=(1, 2, 4)))))
    assert found == variants([0.5, 0.75], [4], "small", "lora")


def test_a_further_value_builds_the_new_variants_alone(kitchen: Bench) -> None:
    done(kitchen.recipe(STEPS, head=head()))
    found = made(done(kitchen.recipe(STEPS, head=head(s=(0.25, 0.5, 1.0)))))
    assert found == variants([0.25], [1, 2, 3], "small", "lora")
    include = ", include: [{s: 2.0, r: 4}]"
    found = made(done(kitchen.recipe(STEPS, head=head(s=(0.25, 0.5, 1.0), more=include))))
    assert found == variants([2.0], [4], "small", "lora")


def test_other_words_for_a_value_move_nothing(kitchen: Bench) -> None:
    """``0.50`` is 0.5: the file's name is another, the numbers are not computed again."""
    done(kitchen.recipe(STEPS, head=head()))
    found = done(kitchen.recipe(STEPS, head="matrix: {r: [3, 2, 1], s: [1.0, 0.50]}\n"))
    assert {step for step, how in found.items() if how == "built"} == set()
    assert made(found) == {f"lora[r={r},s=0.50]" for r in (1, 2, 3)}


def test_an_input_that_changed_rebuilds_the_variants_that_have_it(kitchen: Bench) -> None:
    steps = """
    some: {load: $(file).safetensors}
    small: {svd-resize: some, rank: $(r)}
    lora: {save: small, to: out/$(file)-$(r).safetensors}
    """
    path = kitchen.recipe(steps, head="matrix: {file: [a, b], r: [1, 2]}\n")
    done(path)
    kitchen.lora("b", seed=3)
    assert made(done(path)) == {f"{step}[file=b,r={r}]" for step in ("small", "lora") for r in (1, 2)}


KILLED = """
import os, signal, sys
from pathlib import Path
import lorapipe.build.run as run
from lorapipe.build.events import StepDone
from lorapipe.recipe.parsing import load_recipe

left = int(sys.argv[2])
def listen(event):
    global left
    if isinstance(event, StepDone) and event.how == "written":
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

run.build(load_recipe(Path(sys.argv[1])), run.Options(workers=1), listen=listen)
"""


def test_a_killed_sweep_goes_on_with_the_variant_that_it_was_at(kitchen: Bench) -> None:
    path = kitchen.recipe(STEPS, head=head())
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), "3"], cwd=Path(__file__).parents[2], check=False
    )
    assert ended.returncode == -signal.SIGKILL
    finished = sorted(
        file.name for file in (kitchen.folder / "out").iterdir() if file.suffix == ".safetensors"
    )
    # Variants come one by one, in the order of the matrix.
    assert finished == ["s0.5-r1.safetensors", "s0.5-r2.safetensors", "s0.5-r3.safetensors"]
    times = {name: (kitchen.folder / "out" / name).stat().st_mtime_ns for name in finished}

    assert made(done(path)) == variants([1.0], [1, 2, 3], "small", "lora")
    assert {name: (kitchen.folder / "out" / name).stat().st_mtime_ns for name in finished} == times
    assert len(locked_outputs(path)) == 6


def test_a_check_holds_back_its_own_variant_alone(kitchen: Bench) -> None:
    steps = STEPS + "    good: {check: small, rank: {max: 2}}\n"
    with pytest.raises(CheckFailed) as caught:
        run(kitchen.recipe(steps, head=head(s=[0.5])))
    assert caught.value.step == "good[s=0.5,r=3]"
    assert sorted(file.name for file in (kitchen.folder / "out").iterdir()) == [
        "s0.5-r1.safetensors",
        "s0.5-r2.safetensors",
    ]


def test_an_error_of_several_variants_is_one(kitchen: Bench) -> None:
    steps = STEPS.replace("b.safetensors", "c.safetensors").replace("to: out", "to: ../out")
    with pytest.raises(ManyErrors) as caught:
        plan(load_recipe(kitchen.recipe(steps, head=head())))
    assert [error.code for error in caught.value.errors] == ["input-missing"]

    wrong = """
    a: {load: a.safetensors}
    part: {filter: a, keep: {modules: [$(m)]}}
    lora: {save: part, to: out/$(m).safetensors}
    """
    with pytest.raises(ManyErrors) as caught:
        plan(load_recipe(kitchen.recipe(wrong, head="matrix: {m: [nothing-1, nothing-2, nothing-3]}\n")))
    (error,) = caught.value.errors
    assert "(with m: nothing-1)" in error.message
    assert error.hint is not None
    assert error.hint.endswith("and 2 more like it")


def test_names_that_are_one_path_are_found_by_the_plan(kitchen: Bench) -> None:
    steps = "a: {load: a.safetensors}\n    lora: {save: a, to: $(folder)/x.safetensors}\n"
    with pytest.raises(ManyErrors) as caught:
        plan(load_recipe(kitchen.recipe(steps, head="matrix: {folder: [out, ./out]}\n")))
    assert [error.code for error in caught.value.errors] == ["output-collision"]


# --only


def test_only_builds_the_variants_that_are_asked_for(kitchen: Bench) -> None:
    path = kitchen.recipe(STEPS, head=head())
    assert made(done(path, only={"r": [2]})) == variants([0.5, 1.0], [2], "small", "lora")
    assert made(done(path, only={"r": [1, 3], "s": [0.5]})) == variants([0.5], [1, 3], "small", "lora")
    assert made(done(path)) == variants([1.0], [1, 3], "small", "lora")


def test_what_depends_on_no_axis_is_part_of_every_variant(kitchen: Bench) -> None:
    steps = STEPS + "    plain: {save: a, to: plain.safetensors}\n"
    found = made(done(kitchen.recipe(steps, head=head()), only={"r": [2], "s": [1.0]}))
    assert found == {"plain", *variants([1.0], [2], "small", "lora")}


def test_of_what_is_left_out_the_lock_keeps_what_it_has(kitchen: Bench) -> None:
    path = kitchen.recipe(STEPS, head=head())
    run(path, only={"r": [2]})
    assert locked_outputs(path) == variants([0.5, 1.0], [2], "lora")
    run(path, only={"r": [3]})
    assert locked_outputs(path) == variants([0.5, 1.0], [2, 3], "lora")
    run(path, only={"r": [1]})
    bit_by_bit = lock_path(path).read_bytes()
    lock_path(path).unlink()
    run(path)
    assert lock_path(path).read_bytes() == bit_by_bit


def test_of_what_is_left_out_and_would_be_another_the_lock_has_the_step_and_no_output(kitchen: Bench) -> None:
    path = kitchen.recipe(STEPS, head=head())
    run(path)
    old = read(lock_path(path))
    kitchen.lora("b", seed=5)
    run(path, only={"r": [2]})
    lock = read(lock_path(path))
    assert lock is not None
    assert old is not None
    assert set(lock.outputs) == variants([0.5, 1.0], [2], "lora")
    assert set(lock.steps) == set(old.steps)
    assert lock.steps["small[s=0.5,r=1]"].key not in (None, old.steps["small[s=0.5,r=1]"].key)


def test_what_is_left_out_need_not_be_there_nor_right_nor_is_it_hashed(kitchen: Bench) -> None:
    steps = """
    some: {load: $(file).safetensors}
    lora: {save: some, to: out/$(file).safetensors}
    """
    path = kitchen.recipe(steps, head="matrix: {file: [a, b, gone, broken]}\n")
    (kitchen.folder / "broken.safetensors").write_bytes(b"no such thing")
    events: list[Event] = []
    options = Options(only={"file": ["a"]})
    build(load_recipe(path), options, listen=events.append)
    assert {event.path.name for event in events if isinstance(event, Hashing)} <= {"a.safetensors"}
    lock = read(lock_path(path))
    assert lock is not None
    assert (set(lock.inputs), set(lock.outputs)) == ({"some[file=a]"}, {"lora[file=a]"})
    assert set(lock.steps) == {f"{step}[file={file}]" for step in ("some", "lora") for file in ("a", "b")}
    with pytest.raises(ManyErrors, match=r"gone\.safetensors"):
        run(path)


def test_what_the_lock_has_of_an_input_that_is_gone_stays_there(kitchen: Bench) -> None:
    steps = """
    some: {load: $(file).safetensors}
    lora: {save: some, to: out/$(file).safetensors}
    """
    path = kitchen.recipe(steps, head="matrix: {file: [a, b]}\n")
    run(path)
    before = lock_path(path).read_bytes()
    (kitchen.folder / "b.safetensors").unlink()
    run(path, only={"file": ["a"]})
    assert lock_path(path).read_bytes() == before


def test_a_plan_tells_what_is_left_out_apart(kitchen: Bench) -> None:
    path = kitchen.recipe(STEPS, head=head())
    found = plan(load_recipe(path), Options(only={"s": [0.5], "r": [3]}))
    assert [step.step.id for step in found.outputs] == ["lora[s=0.5,r=3]"]
    assert set(found.steps) == {"a", "b", "both[s=0.5]", "small[s=0.5,r=3]", "lora[s=0.5,r=3]"}
    assert len(found.left_out) == len(load_recipe(path).steps) - 5
    assert {step.status for step in found.left_out.values()} == {Status.UNUSED}
    assert {step.reason for step in found.left_out.values()} == {"left out by --only"}


def test_only_what_is_wanted_is_warned_of(kitchen: Bench) -> None:
    steps = """
    a: {load: a.safetensors}
    mixed: {shuffle: a, mode: $(mode)}
    lora: {save: mixed, to: $(mode).safetensors}
    """
    path = kitchen.recipe(steps, head="matrix: {mode: [rotate, permute]}\n")
    assert [warning for warning in plan(load_recipe(path)).warnings if "permute" in warning]
    assert plan(load_recipe(path), Options(only={"mode": ["rotate"]})).warnings == ()


def test_a_check_that_is_left_out_is_not_made_and_holds_nothing_back(kitchen: Bench) -> None:
    steps = STEPS + "    good: {check: small, rank: {max: 2}}\n"
    path = kitchen.recipe(steps, head=head(s=[0.5]))
    assert made(done(path, only={"r": [1, 2]})) == variants([0.5], [1, 2], "small", "lora")


def test_a_locked_run_of_some_variants_is_held_to_the_lock(kitchen: Bench) -> None:
    path = kitchen.recipe(STEPS, head=head())
    run(path)
    before = {file.name: file.read_bytes() for file in (kitchen.folder / "out").iterdir()}
    lock = lock_path(path).read_bytes()
    for file in (kitchen.folder / "out").iterdir():
        file.unlink()

    run(path, only={"r": [2]}, locked=True)
    names = {"s0.5-r2.safetensors", "s1.0-r2.safetensors"}
    assert {file.name: file.read_bytes() for file in (kitchen.folder / "out").iterdir()} == {
        name: before[name] for name in names
    }
    assert lock_path(path).read_bytes() == lock

    kitchen.recipe(STEPS.replace("-0.5", "-0.6"), head=head())
    with pytest.raises(LockError, match="it describes another build"):
        run(path, only={"r": [2]}, locked=True)


def test_a_value_that_the_lock_has_not_is_no_matter_to_the_others(kitchen: Bench) -> None:
    run(kitchen.recipe(STEPS, head=head(r=[1, 2])))
    path = kitchen.recipe(STEPS, head=head())
    run(path, only={"r": [2]}, locked=True)
    with pytest.raises(LockError) as caught:
        run(path, locked=True)
    assert {line.partition(":")[0] for line in caught.value.details} == {
        f"step {name}" for name in variants([0.5, 1.0], [3], "small", "lora")
    }


def test_verify_looks_at_what_is_asked_for(kitchen: Bench) -> None:
    path = kitchen.recipe(STEPS, head=head())
    run(path, only={"r": [2]})
    found = verify(load_recipe(path), Options(only={"r": [2]}))
    assert [(output.step, output.state) for output in found] == [
        ("lora[s=0.5,r=2]", State.OK),
        ("lora[s=1.0,r=2]", State.OK),
    ]
    assert len(verify(load_recipe(path), Options())) == 6


@pytest.mark.parametrize(
    ("only", "code"),
    [
        ({"q": [1]}, "unknown-axis"),
        ({"r": [5]}, "unknown-value"),
        ({"r": [3], "s": [1.0]}, "no-variant"),
    ],
)
def test_what_the_matrix_has_not_is_refused_before_anything_is_done(
    kitchen: Bench, only: Any, code: str
) -> None:
    path = kitchen.recipe(STEPS, head=head(more=", exclude: [{r: 3, s: 1.0}]"))
    with pytest.raises(UsageError) as caught:
        run(path, only=only)
    assert caught.value.code == code
    assert not (kitchen.folder / "out").exists()


# The lock


def test_the_blocks_of_a_lock_are_those_of_variants_and_are_sorted(kitchen: Bench) -> None:
    path = kitchen.recipe(STEPS, head=head())
    run(path)
    lock = read(lock_path(path))
    assert lock is not None
    assert set(lock.outputs) == variants([0.5, 1.0], [1, 2, 3], "lora")
    assert lock.steps["small[s=0.5,r=2]"].inputs == {"svd-resize": (("both[s=0.5]", 1.0),)}
    text = lock_path(path).read_text(encoding="utf-8")
    blocks = [line.strip() for line in text.partition("\noutputs:")[2].splitlines() if line.startswith('  "')]
    assert blocks == sorted(blocks)
    run(path, locked=True)


def test_branches_that_added_different_values_merge_without_a_conflict(kitchen: Bench) -> None:
    """git's own merge, on locks of which one has another strength and the other another input."""
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]

    def at(*words: str) -> None:
        subprocess.run([*git, *words], cwd=kitchen.folder, check=True, capture_output=True)

    steps = STEPS + "    other: {load: b.safetensors}\n    zz: {save: other, to: zz.safetensors}\n"
    path = kitchen.recipe(steps, head="matrix:\n  s: [0.5, 1.0]\n  r: [2]\n")
    run(path)
    at("init", "-q", "-b", "main")
    at("add", "r.yaml", "r.lock")
    at("commit", "-qm", "base")
    at("checkout", "-qb", "one")
    kitchen.recipe(steps, head="matrix:\n  s: [0.25, 0.5, 1.0]\n  r: [2]\n")
    run(path)
    at("commit", "-qam", "one")
    at("checkout", "-q", "main")
    kitchen.recipe(
        steps.replace("zz: {save: other", "zz: {save: b"), head="matrix:\n  s: [0.5, 1.0]\n  r: [2]\n"
    )
    run(path)
    at("commit", "-qam", "two")
    at("merge", "-q", "one")
    run(path, locked=True)


def test_a_value_that_is_gone_leaves_the_lock_and_not_the_disk(kitchen: Bench) -> None:
    run(kitchen.recipe(STEPS, head=head()))
    path = kitchen.recipe(STEPS, head=head(r=[2]))
    run(path)
    assert locked_outputs(path) == variants([0.5, 1.0], [2], "lora")
    assert len(list((kitchen.folder / "out").iterdir())) == 6


def test_a_plan_of_hundreds_of_variants_takes_seconds(kitchen: Bench) -> None:
    path = kitchen.recipe(STEPS, head=head(s=[n / 100 for n in range(1, 26)], r=range(1, 21)))
    recipe = load_recipe(path)
    started = time.process_time()
    assert len(plan(recipe).outputs) == 500
    assert time.process_time() - started < 4
