"""Folders in and out of a build: the numbers, the other files, and whose folder it is."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lorapipe
from lorapipe.build.events import Event, OutputReady
from lorapipe.build.result import Built
from lorapipe.build.run import Options, build, plan
from lorapipe.errors import BuildError, InputError, LorapipeError, ManyErrors, RecipeError
from lorapipe.plan.plan import Status
from lorapipe.plan.provenance import KEY
from lorapipe.recipe.parsing import load_recipe
from lorapipe.store.contents import whole_digest
from lorapipe.store.digest import sha256_file

from ..bench import KEYS, SHAPES, Bench
from ..formats.model_folders import diffusers_folder, hf_folder, hf_tensors
from ..formats.sources import seeded

COPY = "base: {load: base/}\nout: {save: base, to: out/, shard-size: 200B}"
COMPONENTS = (
    "a checkpoint of several components is written as a folder - end 'to' in a slash; "
    "as one file it would need other names, which its programs do not read"
)
PARTS = {
    "unet": {"odd.one.weight": seeded(4, 3, seed=1), "odd.two.weight": seeded(5, 3, seed=2)},
    "text_encoder": {"odd.weight": seeded(6, 2, seed=3, dtype=torch.float16)},
}


def run(path: Path, workers: int = 2, force: bool = False) -> Built:
    return build(load_recipe(path, {}), Options(workers=workers, force=force))


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder by the names of their component and their own, read by the library."""
    found = {}
    for path in sorted(folder.rglob("*.safetensors")):
        above = "" if path.parent == folder else f"{path.parent.name}/"
        found |= {above + name: tensor for name, tensor in load_file(path).items()}
    return found


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def copying(bench: Bench, steps: str = COPY) -> Path:
    """A recipe that writes a language model of two shards in shards of another size."""
    hf_folder(bench.folder / "base")
    return bench.recipe(steps)


def only(caught: pytest.ExceptionInfo[LorapipeError]) -> LorapipeError:
    (error,) = caught.value.parts
    return error


# --- what comes out ---------------------------------------------------------------------


def test_shards_go_in_and_merged_shards_come_out(bench: Bench) -> None:
    checkpoint = load_file(bench.checkpoint(dtype="float32"))
    hf_folder(bench.folder / "model", checkpoint, 3)
    bench.lora("a", rank=8, alpha=4.0)

    built = run(
        bench.recipe("""
            base: {load: model/}
            a: {load: a.safetensors}
            merged: {merge-into-checkpoint: base, loras: {a: 0.5}}
            out: {save: merged, to: out/merged/, shard-size: 4kB}
        """)
    )

    out = built.outputs[0].path
    found = tensors_of(out)
    assert found.keys() == checkpoint.keys()
    for key, before in checkpoint.items():
        exact = before.double().numpy()
        stem = next((stem for stem, known in KEYS.items() if known == key), None)
        if stem is not None:
            exact = exact + 0.5 * bench.deltas["a"][stem].reshape(SHAPES[stem])
        np.testing.assert_allclose(found[key].double().numpy(), exact, rtol=1e-6, atol=1e-6)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    files = {path.name for path in out.glob("*.safetensors")}
    assert len(files) > 2
    assert set(index["weight_map"].values()) == files
    assert all(key in load_file(out / file) for key, file in index["weight_map"].items())
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in found.values())
    for name in ("config.json", "tokenizer.json"):
        assert (out / name).read_bytes() == (bench.folder / "model" / name).read_bytes()


def test_a_pipeline_comes_out_with_its_components_and_their_other_files(bench: Bench) -> None:
    base = diffusers_folder(bench.folder / "pipe", PARTS)

    built = run(bench.recipe("base: {load: pipe/}\nout: {save: base, to: out/, dtype: bf16}"))

    out = built.outputs[0].path
    assert contents(out).keys() == contents(base).keys()
    weights = {name for name in contents(out) if name.endswith(".safetensors")}
    assert {n: d for n, d in contents(out).items() if n not in weights} == {
        n: d for n, d in contents(base).items() if n not in weights
    }
    before, after = tensors_of(base), tensors_of(out)
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        torch.testing.assert_close(tensor, before[name].to(torch.bfloat16), rtol=0, atol=0)


def test_one_file_to_shards_to_one_file_is_the_same_file(bench: Bench) -> None:
    tensors = hf_tensors(7, torch.float16)
    save_file(tensors, bench.folder / "one.safetensors", {"format": "pt"})  # the library sorts no keys

    built = run(
        bench.recipe("""
            one: {load: one.safetensors}
            shards: {save: one, to: shards/, shard-size: 100B, provenance: none}
        """)
    )
    count = len(list(built.outputs[0].path.glob("*.safetensors")))
    again = bench.recipe(
        "shards: {load: shards}\nback: {save: shards, to: back.safetensors, provenance: none}", "s.yaml"
    )
    back = run(again).outputs[0].path

    assert count > 3
    assert back.read_bytes() == (bench.folder / "one.safetensors").read_bytes()


def test_shards_become_one_file_in_a_folder(bench: Bench) -> None:
    built = run(copying(bench, "base: {load: base/}\nout: {save: base, to: out/}"))
    out = built.outputs[0].path
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert {name: tensor.tolist() for name, tensor in tensors_of(out).items()} == {
        name: tensor.tolist() for name, tensor in hf_tensors().items()
    }


def test_the_first_file_tells_how_the_folder_was_made(bench: Bench) -> None:
    out = run(copying(bench)).outputs[0].path
    told = []
    for path in sorted(out.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            told.append(set(file.metadata()))
    assert len(told) > 1
    assert told == [{"format", KEY}, *({"format"} for _ in told[1:])]


def test_a_variant_comes_out_under_the_plain_names(bench: Bench) -> None:
    base = diffusers_folder(bench.folder / "pipe", PARTS)
    half = {name: tensor.half() for name, tensor in PARTS["unet"].items()}
    save_file(half, base / "unet" / "diffusion_pytorch_model.fp16.safetensors", {"format": "pt"})

    built = run(bench.recipe("base: {load: pipe/, variant: fp16}\nout: {save: base, to: out/}"))

    found = tensors_of(built.outputs[0].path)
    assert "unet/diffusion_pytorch_model.safetensors" in contents(built.outputs[0].path)
    for name, tensor in half.items():
        torch.testing.assert_close(found[f"unet/{name}"], tensor, rtol=0, atol=0)


def test_after_a_shuffle_a_readme_stays_behind(bench: Bench) -> None:
    hf_folder(bench.folder / "model", load_file(bench.checkpoint()), 2)
    (bench.folder / "model" / "README.md").write_text("# whose model this is\n")
    bench.lora("a")

    built = run(
        bench.recipe("""
            base: {load: model/}
            a: {load: a.safetensors}
            mixed: {shuffle: a}
            merged: {merge-into-checkpoint: base, loras: mixed}
            out: {save: merged, to: out/}
        """)
    )

    assert set(contents(built.outputs[0].path)) == {"model.safetensors", "config.json", "tokenizer.json"}


def test_workers_do_not_change_a_byte_and_the_digest_told_is_that_of_the_disk(bench: Bench) -> None:
    recipe = copying(bench)
    one = run(recipe, workers=1).outputs[0]
    assert one.sha256 == whole_digest(one.path, sha256_file)
    assert one.size == sum(path.stat().st_size for path in one.path.iterdir())
    before = contents(one.path)
    shutil.rmtree(one.path)
    assert run(recipe, workers=3).outputs[0].sha256 == one.sha256
    assert contents(one.path) == before


def test_a_call_writes_the_bytes_of_the_recipe(bench: Bench) -> None:
    out = run(copying(bench)).outputs[0]
    model = lorapipe.load(bench.folder / "base")
    made = lorapipe.save(model, f"{bench.folder}/called/", shard_size=200)
    assert made == bench.folder / "called"
    assert contents(made) == contents(out.path)


def test_what_was_written_can_be_pinned_by_the_digest_that_was_told(bench: Bench) -> None:
    out = run(copying(bench)).outputs[0]
    second = bench.recipe(
        f"base: {{load: out/, sha256: {out.sha256}}}\nagain: {{save: base, to: again.safetensors}}", "s.yaml"
    )
    assert run(second).outputs[0].written
    (bench.folder / "out" / "config.json").write_text("{}")
    with pytest.raises(ManyErrors, match="the recipe pins"):
        run(second)


# --- nothing is done twice --------------------------------------------------------------


def test_a_second_run_does_nothing(bench: Bench) -> None:
    recipe = copying(bench)
    first = run(recipe).outputs[0]
    second = run(recipe).outputs[0]
    assert (first.written, second.written) == (True, False)
    assert (first.sha256, first.size) == (second.sha256, second.size)


def test_a_plan_knows_a_folder_that_is_up_to_date_without_reading_it(bench: Bench) -> None:
    recipe = copying(bench)
    run(recipe)
    made = plan(load_recipe(recipe, {}))
    assert [step.status for step in made.outputs] == [Status.UP_TO_DATE]
    source = made.steps["base"].source
    assert source is not None
    assert source.size == sum(path.stat().st_size for path in (bench.folder / "base").iterdir())


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda base: (base / "config.json").write_text('{"other": 1}'), True),
        (lambda base: (base / "new.txt").write_text("x"), True),
        (lambda base: (base / "tokenizer.json").unlink(), True),
        (
            lambda base: shutil.copy(base / "model-00001-of-00002.safetensors", base / "pytorch_model.bin"),
            False,
        ),
        (lambda base: (base / ".DS_Store").write_text("x"), False),
        (lambda base: (base / "model.fp16.safetensors").write_bytes(b"not even weights"), False),
    ],
    ids=["config", "new file", "gone", "a twin", "hidden", "a variant"],
)
def test_what_counts_of_a_folder_makes_its_outputs_stale(
    bench: Bench, change: Callable[[Path], object], again: bool
) -> None:
    recipe = copying(bench)
    run(recipe)
    change(bench.folder / "base")
    assert run(recipe).outputs[0].written is again


def test_an_input_that_changes_while_it_is_read_stops_the_build(bench: Bench) -> None:
    recipe = copying(bench)

    def hook(point: str) -> None:
        if point == "folder:seal":
            raise AssertionError("it was held to be what it was")
        if point == "folder:created":
            (bench.folder / "base" / "config.json").write_text('{"changed": true}')

    with pytest.raises(InputError) as caught:
        build(load_recipe(recipe, {}), Options(workers=1), hook=hook)
    assert caught.value.code == "input-changed"
    assert not (bench.folder / "out").exists()


# --- whose folder it is -----------------------------------------------------------------


def test_a_changed_recipe_replaces_our_folder_and_leaves_nothing_of_it(bench: Bench) -> None:
    before = contents(run(copying(bench)).outputs[0].path)
    built = run(copying(bench, COPY.replace("200B", "1GB")))
    assert built.outputs[0].written
    assert set(contents(built.outputs[0].path)) == {"model.safetensors", "config.json", "tokenizer.json"}
    assert len(before) > 3


@pytest.mark.parametrize(
    "edit",
    [
        lambda out: (out / "config.json").write_text("{}"),
        lambda out: (out / "notes.txt").write_text("mine"),
        lambda out: (out / ".hidden").write_text("mine"),
        lambda out: (out / "photos").mkdir(),
        lambda out: (out / "link").symlink_to("config.json"),
        lambda out: (out / "tokenizer.json").unlink(),
    ],
    ids=["changed", "added", "hidden", "a folder", "a link", "removed"],
)
def test_a_folder_in_which_anything_was_changed_is_left_alone(
    bench: Bench, edit: Callable[[Path], object]
) -> None:
    recipe = copying(bench)
    out = run(recipe).outputs[0].path
    edit(out)
    before = contents(out)

    with pytest.raises(ManyErrors) as caught:
        run(recipe)

    error = only(caught)
    assert (error.code, error.exit_status) == ("foreign-file", 5)
    assert "'out' is there and was changed since lorapipe wrote it" in str(error)
    assert contents(out) == before
    assert run(recipe, force=True).outputs[0].written
    assert not (out / "notes.txt").exists()


def test_a_strangers_folder_is_left_alone_and_not_even_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = copying(bench)
    (bench.folder / "out" / "deep").mkdir(parents=True)
    (bench.folder / "out" / "deep" / "photo.jpg").write_bytes(b"precious")
    read: list[str] = []
    from lorapipe.store import memo

    real = memo.hash_file

    def spy(path: Path, progress: object) -> object:
        read.append(path.name)
        return real(path, progress)  # type: ignore[arg-type]

    monkeypatch.setattr(memo, "hash_file", spy)
    with pytest.raises(ManyErrors, match="was not written by lorapipe"):
        run(recipe)
    assert (bench.folder / "out" / "deep" / "photo.jpg").read_bytes() == b"precious"
    assert "photo.jpg" not in read


def test_a_folder_is_known_by_the_lock_where_the_journal_is_another(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = copying(bench)
    run(recipe)
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "another-machine"))
    assert [output.written for output in run(recipe).outputs] == [False]


def test_a_folder_is_adopted_where_journal_and_lock_are_both_lost(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = copying(bench)
    out = run(recipe).outputs[0].path
    inode = out.stat().st_ino
    (bench.folder / "r.lock").unlink()
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "another-machine"))

    run(recipe)

    assert out.stat().st_ino == inode
    assert run(recipe).outputs[0].written is False


def test_a_folder_of_the_same_files_that_is_another_is_refused_after_the_comparison(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = copying(bench)
    out = run(recipe).outputs[0].path
    config = out / "config.json"
    config.write_text(config.read_text().replace("tiny", "huge"))
    before = contents(out)
    (bench.folder / "r.lock").unlink()
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "another-machine"))

    with pytest.raises(BuildError, match="was not written by lorapipe"):
        run(recipe)

    assert contents(out) == before
    assert not list(bench.folder.glob(".lorapipe-*"))


def test_a_folder_that_comes_while_the_build_is_at_work_is_left_alone(bench: Bench) -> None:
    recipe = copying(bench)

    def hook(point: str) -> None:
        if point == "folder:created":
            (bench.folder / "out").mkdir()
            (bench.folder / "out" / "theirs").write_text("x")

    with pytest.raises(BuildError, match="'out' is there"):
        build(load_recipe(recipe, {}), Options(workers=1), hook=hook)
    assert contents(bench.folder / "out").keys() == {"theirs"}


# --- what a recipe may not say ----------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (
            "base: {load: base/}\nout: {save: base, to: out.safetensors, shard-size: 1GB}",
            "'shard-size' is for folders, 'to' is a file - end 'to' in a slash to write a folder",
        ),
        (
            "base: {load: base/}\nout: {save: base, to: base/merged/}",
            "'out' would write into the folder that 'base' loads - write to another folder",
        ),
        (
            "base: {load: base/}\nout: {save: base, to: base/merged.safetensors}",
            "'out' would write into the folder that 'base' loads - write to another folder",
        ),
        (
            "base: {load: base/}\nout: {save: base, to: base/}",
            "'out' would overwrite the folder that 'base' loads - write to another name",
        ),
        (
            "base: {load: base/model.safetensors.index.json}\nout: {save: base, to: base/}",
            "'out' would overwrite the folder that 'base' loads - write to another name",
        ),
        (
            "base: {load: deep/base/}\nout: {save: base, to: deep/}",
            "'out' would replace the folder around the folder that 'base' loads - write to another name",
        ),
        (
            "base: {load: base/model-00001-of-00002.safetensors}\nout: {save: base, to: base/}",
            "'out' would replace the folder around the file that 'base' loads - write to another name",
        ),
        (
            "base: {load: base/}\na: {save: base, to: out/}\nb: {save: base, to: out/b.safetensors}",
            "'b' would write into the file that 'a' writes - give each its own 'to'",
        ),
        (
            "base: {load: pipe/}\nout: {save: base, to: out.safetensors}",
            COMPONENTS,
        ),
    ],
)
def test_a_folder_that_cannot_be_is_an_error_of_the_plan(bench: Bench, steps: str, says: str) -> None:
    hf_folder(bench.folder / "base")
    hf_folder(bench.folder / "deep" / "base")
    diffusers_folder(bench.folder / "pipe", PARTS)
    with pytest.raises(ManyErrors) as caught:
        plan(load_recipe(bench.recipe(steps), {}))
    error = only(caught)
    assert isinstance(error, RecipeError)
    assert str(error).partition(": error: ")[2] == says


def test_what_stays_behind_is_a_warning_of_the_plan(bench: Bench) -> None:
    recipe = copying(bench)
    (bench.folder / "base" / "original").mkdir()
    (bench.folder / "base" / "original" / "consolidated.00.pth").write_bytes(b"x")
    made = plan(load_recipe(recipe, {}))
    assert made.warnings == ("step 'out': not copied from 'base': original/",)


def test_a_shard_that_is_damaged_is_named_at_the_step_that_loads_it(bench: Bench) -> None:
    recipe = copying(bench)
    (bench.folder / "base" / "model-00002-of-00002.safetensors").write_bytes(b"x")
    with pytest.raises(ManyErrors) as caught:
        plan(load_recipe(recipe, {}))
    assert "base/: model-00002-of-00002.safetensors: has 1 bytes" in str(only(caught))


def test_bytes_written_are_told_up_to_the_size_that_was_planned(bench: Bench) -> None:
    from lorapipe.build.events import Progress

    events: list[Event] = []
    build(load_recipe(copying(bench), {}), Options(workers=1), listen=events.append)
    steps = [event for event in events if isinstance(event, Progress) and event.step == "out"]
    assert steps[-1].done == steps[-1].total
    (ready,) = [event for event in events if isinstance(event, OutputReady)]
    assert ready.size == sum(path.stat().st_size for path in (bench.folder / "out").iterdir())
