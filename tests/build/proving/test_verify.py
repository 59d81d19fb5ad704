"""Outputs are held against the lock byte by byte, and built again from nothing but the inputs."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorapipe.build.events import Event, StepDone
from lorapipe.build.proving import rebuild as rebuilding
from lorapipe.build.proving.rebuild import Again, Rebuilt, rebuild, require_rebuilt
from lorapipe.build.proving.verify import State, Verified, require, verify
from lorapipe.build.run import Options, build
from lorapipe.errors import CheckFailed, InputError, LockError, ManyErrors
from lorapipe.plan.lineage import Profile
from lorapipe.recipe.parsing import load_recipe
from lorapipe.store.lockfile import LockFile, read, write
from lorapipe.store.temporaries import create_folder

from ...bench import TO_Q, Bench

STEPS = """
    a: {load: a.safetensors}
    small: {svd-resize: a, rank: 3}
    out: {save: small, to: out/o.safetensors, dtype: fp16}
    whole: {save: a, to: out/w.ckpt}
"""


@pytest.fixture
def recipe(bench: Bench) -> Path:
    """A recipe that was built."""
    bench.lora("a", seed=1)
    path = bench.recipe(STEPS)
    build(load_recipe(path), Options(workers=1))
    return path


def checked(path: Path, **options: Any) -> dict[str, Verified]:
    return {output.step: output for output in verify(load_recipe(path), Options(**options))}


def states(path: Path, **options: Any) -> dict[str, str]:
    return {step: output.state.value for step, output in checked(path, **options).items()}


def again(path: Path, **options: Any) -> Rebuilt:
    loaded, given = load_recipe(path), Options(workers=1, **options)
    return rebuild(loaded, given, verify(loaded, given))


def lock_of(path: Path) -> LockFile:
    lock = read(path.with_suffix(".lock"))
    assert lock is not None
    return lock


def flip(path: Path) -> None:
    """Change the last byte, and put the times back as they were."""
    before, raw = path.stat(), bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# --- against the lock -------------------------------------------------------------------------


def test_what_was_built_is_ok(recipe: Path) -> None:
    found = checked(recipe)
    assert {output.state for output in found.values()} == {State.OK}
    assert found["out"].sha256 == hashlib.sha256(found["out"].path.read_bytes()).hexdigest()
    require(found.values())


def test_no_input_and_no_store_is_needed(recipe: Path, tmp_path: Path) -> None:
    (recipe.parent / "a.safetensors").unlink()
    shutil.rmtree(tmp_path / "store")
    assert states(recipe) == {"out": "ok", "whole": "ok"}
    assert not (tmp_path / "store").exists()


def test_each_way_to_be_wrong_is_named(recipe: Path) -> None:
    flip(recipe.parent / "out" / "o.safetensors")
    (recipe.parent / "out" / "w.ckpt").unlink()
    with recipe.open("a") as file:
        file.write(
            "  more: {save: a, to: out/more.safetensors}\n  less: {save: a, to: out/less.safetensors}\n"
        )
    shutil.copy(recipe.parent / "a.safetensors", recipe.parent / "out" / "more.safetensors")

    found = states(recipe)

    assert found == {"out": "changed", "whole": "missing", "more": "not locked", "less": "missing"}
    with pytest.raises(CheckFailed) as caught:
        require(checked(recipe).values())
    assert (caught.value.code, caught.value.exit_status) == ("not-as-locked", 8)
    assert caught.value.message == "4 of 4 outputs are not what the lock says"
    assert caught.value.details == (
        "out: changed",
        "whole: missing",
        "more: not locked",
        "less: missing",
    )


def test_what_is_only_not_locked_is_entered_by_a_run(recipe: Path) -> None:
    lock = recipe.with_suffix(".lock")
    found = read(lock)
    assert found is not None
    write(lock, replace(found, outputs={}))
    with pytest.raises(CheckFailed) as caught:
        require(checked(recipe).values())
    assert caught.value.hint == "'lorapipe run' enters them into the lock"


def test_a_byte_that_the_disk_lost_is_found_although_the_memo_knows_the_file(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same state, other bytes: as a bit that rotted."""
    path = recipe.parent / "out" / "o.safetensors"
    raw = bytearray(path.read_bytes())
    state = path.stat()
    raw[-1] ^= 1
    path.write_bytes(raw)
    from lorapipe.store import memo

    monkeypatch.setattr(memo.Memo, "lookup", lambda *_: lock_of(recipe).outputs["out"].sha256)
    assert path.stat().st_size == state.st_size
    assert states(recipe)["out"] == "changed"


def test_outputs_under_another_root_are_found_there(recipe: Path, tmp_path: Path) -> None:
    shutil.copytree(recipe.parent / "out", tmp_path / "there" / "out")
    shutil.rmtree(recipe.parent / "out")
    assert states(recipe) == {"out": "missing", "whole": "missing"}
    assert states(recipe, output_root=tmp_path / "there") == {"out": "ok", "whole": "ok"}


def test_without_a_lock_there_is_nothing_to_hold_against(recipe: Path) -> None:
    recipe.with_suffix(".lock").unlink()
    with pytest.raises(LockError, match="there is no lock"):
        verify(load_recipe(recipe), Options())


def test_an_output_that_would_escape_is_not_read(bench: Bench) -> None:
    path = bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: ../../o.safetensors}")
    write(path.with_suffix(".lock"), LockFile(lorapipe="0"))
    with pytest.raises(ManyErrors, match="outside"):
        verify(load_recipe(path), Options())


@pytest.fixture
def folder(bench: Bench) -> Path:
    """A recipe that wrote a folder of shards."""
    bench.checkpoint()
    path = bench.recipe("c: {load: base.safetensors}\nout: {save: c, to: out/m/, shard-size: 2kB}")
    build(load_recipe(path), Options(workers=1))
    return path


def test_of_a_folder_every_file_counts(folder: Path) -> None:
    model = folder.parent / "out" / "m"
    assert len(list(model.glob("*.safetensors"))) > 1
    assert states(folder) == {"out": "ok"}
    (model / "extra.txt").write_text("")
    assert states(folder) == {"out": "changed"}
    (model / "extra.txt").unlink()
    flip(min(model.glob("*.safetensors")))
    assert states(folder) == {"out": "changed"}


# --- built again --------------------------------------------------------------------------------


def test_what_is_built_again_has_the_same_bytes_and_leaves_no_trace(recipe: Path, tmp_path: Path) -> None:
    before = {path: path.stat() for path in recipe.parent.rglob("*") if path.is_file()}
    journal = (tmp_path / "store" / "index.sqlite").read_bytes()

    found = again(recipe)

    assert [output.again for output in found.outputs] == [Again.SAME, Again.SAME]
    assert found.machine == ()
    require_rebuilt(found)
    assert {path: path.stat() for path in recipe.parent.rglob("*") if path.is_file()} == before
    assert (tmp_path / "store" / "index.sqlite").read_bytes() == journal
    assert not list(recipe.parent.glob(".lorapipe-*"))


def test_what_is_only_kept_to_be_read_is_built_again_elsewhere(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "temporary"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    monkeypatch.setattr(rebuilding, "create_folder", recording := Recording())
    monkeypatch.setattr(os, "access", lambda path, mode: path != recipe.parent)

    assert {remade.again for remade in again(recipe).outputs} == {Again.SAME}
    assert recording.folders == [elsewhere]
    assert not list(elsewhere.iterdir())


class Recording:
    """Where folders are made."""

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def __call__(self, folder: Path) -> tuple[Path, int]:
        self.folders.append(folder)
        return create_folder(folder)


def test_nothing_that_was_kept_is_used(recipe: Path) -> None:
    loaded, options, events = load_recipe(recipe), Options(workers=1), list[Event]()

    rebuild(loaded, options, verify(loaded, options), listen=events.append)

    done = {event.step: event.how for event in events if isinstance(event, StepDone)}
    assert done == {"a": "built", "small": "built", "out": "written", "whole": "written"}


def test_a_missing_output_is_no_fault_where_it_comes_out_again(recipe: Path) -> None:
    shutil.rmtree(recipe.parent / "out")
    found = again(recipe)
    assert [output.again for output in found.outputs] == [Again.SAME, Again.SAME]
    require_rebuilt(found)
    assert not (recipe.parent / "out").exists()


def test_a_folder_of_shards_comes_out_again(folder: Path) -> None:
    found = again(folder)
    assert [output.again for output in found.outputs] == [Again.SAME]


def test_an_output_in_place_that_was_changed_is_a_fault(recipe: Path) -> None:
    flip(recipe.parent / "out" / "o.safetensors")
    found = again(recipe)
    assert [output.again for output in found.outputs] == [Again.SAME, Again.SAME]
    with pytest.raises(CheckFailed) as caught:
        require_rebuilt(found)
    assert caught.value.details == ("out: the file in place was changed",)


def test_a_changed_recipe_or_input_is_refused_as_a_locked_build_refuses_it(
    recipe: Path, bench: Bench
) -> None:
    text = recipe.read_text()
    recipe.write_text(text.replace("rank: 3", "rank: 2"))
    with pytest.raises(LockError) as caught:
        again(recipe)
    assert caught.value.details == ("step small: rank 3 -> 2",)
    recipe.write_text(text)
    bench.lora("a", seed=2)
    with pytest.raises(InputError, match="the lock has"):
        again(recipe)
    assert not list(recipe.parent.glob(".lorapipe-*"))


def relocked(recipe: Path, path: Path) -> None:
    """Let the lock say that the file at ``path`` is what step ``out`` made."""
    lock = lock_of(recipe)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    out = replace(lock.outputs["out"], sha256=sha256, size=path.stat().st_size)
    write(recipe.with_suffix(".lock"), replace(lock, outputs={**lock.outputs, "out": out}))


def test_what_comes_out_otherwise_is_measured_tensor_by_tensor(recipe: Path) -> None:
    """The file in place as another processor might have made it: a value is a last place off."""
    path = recipe.parent / "out" / "o.safetensors"
    tensors = load_file(path)
    name = f"{TO_Q}.lora_up.weight"
    value = tensors[name][0, 0].clone()
    tensors[name].view(torch.int16)[0, 0] += 1
    save_file(tensors, path)
    relocked(recipe, path)

    found = again(recipe)

    remade = next(output for output in found.outputs if output.before.step == "out")
    assert (remade.again, remade.before.state) == (Again.OTHER, State.OK)
    assert remade.comparison is not None
    (difference,) = remade.comparison.differing
    assert (difference.name, difference.closeness.differing) == (name, 1)
    assert difference.closeness.max_ulps == 1
    assert difference.closeness.max_abs == abs(float(tensors[name][0, 0]) - float(value))
    with pytest.raises(CheckFailed) as caught:
        require_rebuilt(found)
    assert (caught.value.exit_status, caught.value.details) == (8, ("out: other bytes",))


def test_by_another_torch_the_same_numbers_will_do(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header names torch, so that the bytes cannot be the same."""
    profile = Profile(torch="9.9.9", device="cpu", compute="float64")
    monkeypatch.setattr("lorapipe.plan.make.choose_device", lambda *_, **__: ("cpu", profile))

    found = again(recipe)

    assert {output.before.step: output.again for output in found.outputs} == {
        "out": Again.SAME_NUMBERS,
        "whole": Again.SAME,  # a pickle has no header
    }
    assert found.machine == (f"torch {lock_of(recipe).profile['torch']} -> 9.9.9",)
    require_rebuilt(found)
    with pytest.raises(CheckFailed):
        require_rebuilt(replace(found, machine=()))


def test_where_the_old_file_is_not_at_hand_it_is_other_bytes(recipe: Path) -> None:
    path = recipe.parent / "out" / "o.safetensors"
    flip(path)
    relocked(recipe, path)
    path.unlink()
    found = again(recipe)
    assert (found.outputs[0].again, found.outputs[0].comparison) == (Again.OTHER, None)
