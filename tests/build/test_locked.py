"""``run --locked``: what the lock describes, or nothing; every difference is named."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorapipe.build.events import Event, Planned, StepStarted
from lorapipe.build.result import Built
from lorapipe.build.run import Options, build
from lorapipe.errors import InputError, LockError, LorapipeError
from lorapipe.plan.lineage import Profile
from lorapipe.recipe.parsing import load_recipe
from lorapipe.steps import find_kind
from lorapipe.store.lockfile import parse, read, render, write

from ..bench import Bench

STEPS = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: 1.0, b: $(by)}}
    small: {svd-resize: both, rank: 3}
    out: {save: small, to: out/o.safetensors}
    whole: {save: both, to: out/w.safetensors}
"""
HEAD = "params: {by: 0.5}\n"


def run(path: Path, params: dict[str, object] | None = None, **options: Any) -> Built:
    return build(load_recipe(path, params or {}), Options(workers=1, **options))


def locked(path: Path, params: dict[str, object] | None = None, **options: Any) -> Built:
    return run(path, params, locked=True, **options)


def refused(path: Path, params: dict[str, object] | None = None, **options: Any) -> LockError:
    """What a locked run says, which did no work."""
    started: list[Event] = []
    with pytest.raises(LockError) as caught:
        build(
            load_recipe(path, params or {}), Options(workers=1, locked=True, **options), listen=started.append
        )
    assert not [event for event in started if isinstance(event, StepStarted)]
    assert caught.value.exit_status == 6
    return caught.value


@pytest.fixture
def recipe(bench: Bench) -> Path:
    """A recipe that was built, with its lock."""
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    path = bench.recipe(STEPS, head=HEAD)
    run(path)
    return path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# --- what passes ---------------------------------------------------------------------------


def test_what_is_right_is_not_built_again_and_the_lock_not_written(recipe: Path) -> None:
    lock = recipe.with_suffix(".lock")
    os.utime(lock, ns=(1, 1))

    built = locked(recipe)

    assert [output.written for output in built.outputs] == [False, False]
    assert lock.stat().st_mtime_ns == 1


def test_what_is_missing_is_built_as_it_was(recipe: Path) -> None:
    before = (recipe.parent / "out" / "o.safetensors").read_bytes()
    shutil.rmtree(recipe.parent / "out")
    lock = recipe.with_suffix(".lock").read_bytes()

    built = locked(recipe)

    assert [output.written for output in built.outputs] == [True, True]
    assert (recipe.parent / "out" / "o.safetensors").read_bytes() == before
    assert recipe.with_suffix(".lock").read_bytes() == lock


def test_another_layout_of_the_recipe_is_the_same_recipe(recipe: Path) -> None:
    recipe.write_text(
        """# a comment
lorapipe: 1
name: other
params: {by: 0.5, unused: 3}
steps:
  whole:
    save: both
    to: "out/w.safetensors"
    description: all of it
  out: {to: out/o.safetensors, save: small}
  small: {rank: 3.0, svd-resize: both}
  both: {concat: {a: 1, b: 0.50}}
  b: {load: b.safetensors}
  a: {load: ./a.safetensors}
"""
    )
    assert [output.written for output in locked(recipe).outputs] == [False, False]


def test_a_moved_folder_is_as_it_was(recipe: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    recipe.parent.rename(moved)
    assert [output.written for output in locked(moved / "r.yaml").outputs] == [False, False]


def test_an_input_in_a_model_folder_is_known_by_what_is_in_it(recipe: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (recipe.parent / "b.safetensors").rename(models / "b.safetensors")
    assert not any(output.written for output in locked(recipe, models=(models,)).outputs)


def test_outputs_under_another_root_are_held_to_the_lock_too(recipe: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"

    assert [o.written for o in locked(recipe, output_root=there).outputs] == [True, True]
    shutil.rmtree(tmp_path / "store")
    assert [o.written for o in locked(recipe, output_root=there).outputs] == [False, False]


def test_an_output_that_was_only_locked_is_built(recipe: Path) -> None:
    lock = recipe.with_suffix(".lock")
    text = read(lock)
    assert text is not None
    write(lock, replace(text, outputs={"whole": text.outputs["whole"]}))
    (recipe.parent / "out" / "o.safetensors").unlink()

    assert [o.step for o in locked(recipe).outputs if o.written] == ["out"]


# --- what is refused -----------------------------------------------------------------------


def test_no_lock_is_refused_with_the_remedy_and_nothing_is_read(recipe: Path) -> None:
    recipe.with_suffix(".lock").unlink()
    (recipe.parent / "a.safetensors").unlink()

    assert str(refused(recipe)) == (
        f"{recipe.parent.resolve() / 'r.lock'}: error: there is no lock - 'lorapipe lock' writes it"
    )


def test_everything_that_is_otherwise_is_said_at_once(
    recipe: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorapipe.steps import concat

    old = read(recipe.with_suffix(".lock"))
    assert old is not None
    bench.lora("a", seed=3)
    edit(recipe, "rank: 3", "rank: 2")
    recipe.write_text(recipe.read_text().replace("whole:", "all:") + "  more: {scale: small, by: 2}\n")
    monkeypatch.setattr(concat, "KIND", replace(find_kind("concat"), version=7))

    error = refused(recipe, {"by": 0.25})

    was = old.inputs["a"].sha256
    assert (error.code, error.message) == ("lock-drift", "it describes another build")
    assert error.hint == "'lorapipe lock' takes over what is now"
    changed, *others = [line for line in error.details if "sha256" in line] + [
        line for line in error.details if "sha256" not in line
    ]
    assert changed.startswith(f"step a: sha256 {was[:12]}... -> ")
    assert sorted(others) == [
        "param by 0.5 -> 0.25",
        "step all: not in the lock",
        "step both: b 0.5 -> 0.25",
        "step both: version of concat 1 -> 7",
        "step more: not in the lock",
        "step small: rank 3 -> 2",
        "step whole: not in the recipe any more",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("to: out/o.", "to: out/p.", "step out: to out/o.safetensors -> out/p.safetensors"),
        ("save: small", "save: both", "step out: save small -> both"),
        ("a: 1.0, b: $(by)", "b: $(by), a: 1.0", "step both: order a, b -> b, a"),
        ("svd-resize: both, rank: 3", "scale: both, by: 3", "step small: kind svd-resize -> scale"),
        ("rank: 3", "rank: 3, conv-rank: 2", "step small: conv-rank unset -> 2"),
        ("lorapipe: 1\n", "lorapipe: 1\ndefaults: {compute: float32}\n", "compute float64 -> float32"),
    ],
)
def test_a_change_of_the_recipe_is_named(recipe: Path, old: str, new: str, line: str) -> None:
    edit(recipe, old, new)
    assert refused(recipe).details == (line,)


def test_an_input_of_the_same_size_and_time_is_refused(recipe: Path, bench: Bench) -> None:
    path = recipe.parent / "a.safetensors"
    before = path.stat()
    bench.lora("a", seed=5)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size

    (line,) = refused(recipe).details
    assert line.startswith("step a: sha256 ")


def test_a_param_that_nothing_uses_is_a_param_all_the_same(recipe: Path) -> None:
    edit(recipe, "by: 0.5", "by: 0.5, idle: 1")
    run(recipe)
    assert refused(recipe, {"idle": 2}).details == ("param idle 1 -> 2",)


def test_another_date_is_refused(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert refused(recipe).details == ("SOURCE_DATE_EPOCH unset -> 2001-09-09T01:46:40Z",)


def test_where_only_keys_differ_lorapipe_itself_is_another(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = recipe.with_suffix(".lock")
    old = read(lock)
    assert old is not None
    small = replace(old.steps["small"], key="ab" * 32)
    write(lock, replace(old, lorapipe="0.0.9", steps={**old.steps, "small": small}))

    (line,) = refused(recipe).details
    assert line.startswith("step small: key abababababab... -> ")
    assert line.endswith("(lorapipe 0.0.9 -> 0.1.0)")


def other_torch(monkeypatch: pytest.MonkeyPatch, version: str = "9.9.9") -> None:
    profile = Profile(torch=version, device="cpu", compute="float64")
    monkeypatch.setattr("lorapipe.plan.make.choose_device", lambda *_, **__: ("cpu", profile))


def test_another_torch_is_refused_unless_any_will_do(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (recipe.parent / "out" / "o.safetensors").stat()
    lock = read(recipe.with_suffix(".lock"))
    assert lock is not None
    other_torch(monkeypatch)

    error = refused(recipe)
    built = locked(recipe, any_profile=True)

    assert error.details == (f"torch {lock.profile['torch']} -> 9.9.9",)
    assert "--any-profile" in (error.hint or "")
    # What is there is what the lock says, and so it stays.
    assert [output.written for output in built.outputs] == [False, False]
    assert (recipe.parent / "out" / "o.safetensors").stat() == before


def test_any_profile_excuses_nothing_else(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other_torch(monkeypatch)
    edit(recipe, "rank: 3", "rank: 2")
    assert refused(recipe, any_profile=True).details == ("step small: rank 3 -> 2",)


def test_what_is_missing_is_built_by_another_torch_if_that_will_do(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(recipe.parent / "out")
    lock = recipe.with_suffix(".lock").read_bytes()
    other_torch(monkeypatch)

    assert [o.written for o in locked(recipe, any_profile=True).outputs] == [True, True]
    assert [o.written for o in locked(recipe, any_profile=True).outputs] == [False, False]
    assert recipe.with_suffix(".lock").read_bytes() == lock


def test_bytes_that_are_not_the_locks_do_not_appear(recipe: Path) -> None:
    """As on a processor that rounds otherwise: the key is the same, the bytes are not."""
    lock, output = recipe.with_suffix(".lock"), recipe.parent / "out" / "o.safetensors"
    was = read(lock)
    assert was is not None
    write(lock, replace(was, outputs={**was.outputs, "out": replace(was.outputs["out"], sha256="0" * 64)}))

    present = refused(recipe)
    output.unlink()
    with pytest.raises(LorapipeError) as caught:
        locked(recipe)

    assert {present.code, caught.value.code} == {"not-as-locked"}
    assert caught.value.exit_status == 6
    assert "came out with sha256" in caught.value.message
    assert not output.exists()
    assert locked(recipe, any_profile=True).outputs


def test_an_output_edited_by_a_byte_is_not_replaced(recipe: Path) -> None:
    path = recipe.parent / "out" / "o.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)

    with pytest.raises(LorapipeError) as caught:
        locked(recipe)

    assert "changed since lorapipe wrote it" in str(caught.value)
    assert path.read_bytes() == raw


# --- a stranger's lock -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('torch: "2', "torch: [1, {x: 2}]\n  also: \"2"),
        ('device: "cpu"', 'device: "warp"'),
        ('device: "cpu"', "device: {cpu: 1}"),
        ("by: 0.5", "by: 1e999"),
        ("by: 0.5", "by: {deep: [1, {er: null}]}"),
        ("rank: 3", "rank: 1e999"),
        ("rank: 3", "rank: {a: {b: {c: 1}}}"),
        ("rank: 3", 'rank: "\\e[31mred"'),
        ('kind: "svd-resize"', 'kind: ""'),
        ("svd-resize: [[", 'other: [["x", 1.0]]\n      svd-resize: [['),
        ('    key: "', '    later: [1]\n    key: "'),
    ],
)  # fmt: skip
def test_values_of_any_type_end_in_words(recipe: Path, old: str, new: str) -> None:
    lock = recipe.with_suffix(".lock")
    edit(lock, old, new)
    try:
        locked(recipe)
    except LockError as error:
        assert error.code == "lock-drift"  # noqa: PT017  # a field that is unknown is passed over


def test_a_lock_without_an_input_or_step_is_refused(recipe: Path) -> None:
    lock = recipe.with_suffix(".lock")
    was = read(lock)
    assert was is not None
    write(lock, replace(was, inputs={}))
    assert refused(recipe).details == tuple(f"step {s}: its input is not in the lock" for s in "ab")
    assert refused(recipe, frozen=True).details == refused(recipe).details
    write(lock, replace(was, steps={}))
    assert len(refused(recipe).details) == 6


# --- frozen ------------------------------------------------------------------------------------


def forget(tmp_path: Path) -> None:
    """A store that knows no file, as on another machine."""
    shutil.rmtree(tmp_path / "store")


def test_frozen_builds_the_same_and_hashes_nothing_before(recipe: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in (recipe.parent / "out").iterdir()}
    shutil.rmtree(recipe.parent / "out")
    forget(tmp_path)
    events: list[Event] = []

    build(load_recipe(recipe), Options(workers=1, frozen=True), listen=events.append)

    assert {path.name: path.read_bytes() for path in (recipe.parent / "out").iterdir()} == before
    assert [type(event) for event in events[:2]] == [Planned, StepStarted]


def test_frozen_refuses_a_changed_recipe_before_any_work(recipe: Path) -> None:
    edit(recipe, "rank: 3", "rank: 2")
    with pytest.raises(LockError):
        run(recipe, frozen=True)


@pytest.mark.parametrize("pinned", [False, True])
def test_frozen_finds_another_input_before_anything_appears(
    recipe: Path, bench: Bench, tmp_path: Path, pinned: bool
) -> None:
    if pinned:
        lock = read(recipe.with_suffix(".lock"))
        assert lock is not None
        edit(recipe, "load: b.safetensors", f"load: b.safetensors, sha256: {lock.inputs['b'].sha256}")
    shutil.rmtree(recipe.parent / "out")
    bench.lora("b", seed=9)
    forget(tmp_path)

    with pytest.raises(InputError) as caught:
        run(recipe, frozen=True)

    assert caught.value.exit_status == 4
    assert caught.value.code == ("sha256-mismatch" if pinned else "input-changed")
    assert caught.value.step == "b"
    assert str(caught.value.where).startswith(f"{recipe}:")
    assert not (recipe.parent / "out").exists()
    assert not list(recipe.parent.rglob("*.tmp"))
    assert not list((tmp_path / "store").glob("manifests/*/*.json"))


def test_frozen_finds_an_input_that_is_exchanged_while_it_is_read(
    recipe: Path, bench: Bench, tmp_path: Path
) -> None:
    """The right file at hashing time, another one at the time of the work, or the reverse."""
    shutil.rmtree(recipe.parent / "out")
    forget(tmp_path)
    path = recipe.parent / "b.safetensors"
    right = path.read_bytes()
    other = bench.lora("other", seed=9).read_bytes()
    path.write_bytes(other)

    def put_right(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "small":
            path.write_bytes(right)

    with pytest.raises(InputError):
        build(load_recipe(recipe), Options(workers=1, frozen=True), listen=put_right)
    assert not (recipe.parent / "out").exists()


def test_frozen_reads_no_input_where_nothing_is_to_be_built(
    recipe: Path, bench: Bench, tmp_path: Path
) -> None:
    run(recipe, frozen=True)
    forget(tmp_path)
    raw = bytearray((recipe.parent / "b.safetensors").read_bytes())
    raw[-1] ^= 1
    (recipe.parent / "b.safetensors").write_bytes(raw)

    assert [o.written for o in run(recipe, frozen=True).outputs] == [False, False]


# --- branches ------------------------------------------------------------------------------------

TWO = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    left: {svd-resize: a, rank: 3}
    right: {svd-resize: b, rank: 3}
    l: {save: left, to: out/l.safetensors}
    r: {save: right, to: out/r.safetensors}
"""


def built_on_a_branch(bench: Bench, change: Callable[[str], str]) -> str:
    """The lock's text after a change of the recipe."""
    path = bench.recipe(TWO)
    path.write_text(change(path.read_text()))
    run(path)
    return path.with_suffix(".lock").read_text()


def test_branches_that_changed_different_steps_merge_to_the_lock_of_both(bench: Bench) -> None:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    changes = {
        "base": lambda text: text,
        "ours": lambda text: text.replace("svd-resize: a, rank: 3", "svd-resize: a, rank: 2"),
        "theirs": lambda text: text.replace("svd-resize: b, rank: 3", "svd-resize: b, rank: 1"),
        "both": lambda text: text.replace("svd-resize: a, rank: 3", "svd-resize: a, rank: 2").replace(
            "svd-resize: b, rank: 3", "svd-resize: b, rank: 1"
        ),
    }
    for name, change in changes.items():
        (bench.folder / name).write_text(built_on_a_branch(bench, change))

    merged = subprocess.run(
        ["git", "merge-file", "-p", "ours", "base", "theirs"],  # noqa: S607  # whichever git there is
        cwd=bench.folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert merged.returncode == 0
    assert merged.stdout == (bench.folder / "both").read_text()
    (bench.folder / "r.lock").write_text(merged.stdout)
    assert locked(bench.folder / "r.yaml").outputs
    assert render(parse(merged.stdout)) == merged.stdout


def test_branches_that_changed_one_step_conflict_and_are_told_so(bench: Bench) -> None:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    for name, rank in {"base": 3, "ours": 2, "theirs": 1}.items():
        text = built_on_a_branch(
            bench,
            lambda text, rank=rank: text.replace("svd-resize: a, rank: 3", f"svd-resize: a, rank: {rank}"),  # type: ignore[misc]
        )
        (bench.folder / name).write_text(text)
    subprocess.run(
        ["git", "merge-file", "ours", "base", "theirs"],  # noqa: S607  # whichever git there is
        cwd=bench.folder,
        check=False,
    )
    shutil.copy(bench.folder / "ours", bench.folder / "r.lock")

    assert refused(bench.folder / "r.yaml").code == "lock-conflict"
