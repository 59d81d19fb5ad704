"""The recipe that a file tells, run where the inputs are, makes the file again, byte for byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lorapipe
from lorapipe.build.proving.recovery import recover, write_recipe
from lorapipe.build.run import Options
from lorapipe.errors import BuildError, InputError, LorapipeError
from lorapipe.plan.provenance import KEY

from ...bench import Bench
from ...formats.model_folders import diffusers_folder, hf_folder
from ...formats.sources import seeded

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))

Again = Callable[[Path], Path]


@pytest.fixture
def again(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Again:
    """Recovers an output, and builds what was recovered with a new store, in a folder of its own."""

    def rebuild(output: Path, *inputs: Path) -> Path:
        monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "another store"))
        folder = tmp_path / "again"
        folder.mkdir(exist_ok=True)
        found = recover(output, inputs or [bench.folder], beside=folder)
        assert found.missing == ()
        write_recipe(folder / "recovered.yaml", found.recipe.text, force=True)
        built = lorapipe.run(folder / "recovered.yaml")
        return built.outputs[0].path

    return rebuild


def files(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def run(recipe: Path) -> Path:
    return lorapipe.run(recipe).outputs[0].path


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_that_comes_with_lorapipe_is_recovered(
    recipe: Path, again: Again, tmp_path: Path
) -> None:
    options = Options(output_root=tmp_path / "out", lock=tmp_path / "r.lock", device="cpu")
    outputs = [output.path for output in lorapipe.run(recipe, options=options).outputs]
    for output in outputs:
        if "shuffle:" in recipe.read_text():
            with pytest.raises(InputError, match="does not tell"):
                recover(output)
        else:
            assert files(again(output, ROOT / "recipes" / "data")) == files(output)


_CASES = {
    "a copy": "a: {load: a.safetensors}\nout: {save: a, to: out/o.safetensors}",
    "dtype and metadata": (
        "a: {load: a.safetensors}\n"
        "out: {save: a, to: o.safetensors, dtype: bf16, metadata: {modelspec.title: 'A: $$(b)', x: '1'}}"
    ),
    "the same file twice": (
        "a: {load: a.safetensors}\nb: {load: a.safetensors}\nboth: {concat: {a: 1.0, b: -0.25}}\n"
        "out: {save: both, to: o.safetensors}"
    ),
    "the same step by two ways": (
        "a: {load: a.safetensors}\nb: {scale: a, by: 0.5}\nc: {scale: a, by: 0.5}\n"
        "both: {concat: [b, c, a]}\nout: {save: both, to: o.safetensors, layout: kohya}"
    ),
    "a merge of merges": (
        "base: {load: base.safetensors}\na: {load: a.safetensors}\nb: {load: b.safetensors}\n"
        "one: {merge-into-checkpoint: base, loras: {a: 0.8}}\ntwo: {merge-into-checkpoint: one, loras: [b]}\n"
        "out: {save: two, to: o.safetensors, dtype: fp32}"
    ),
    "an extraction": (
        "base: {load: base.safetensors}\na: {load: a.safetensors}\n"
        "one: {merge-into-checkpoint: base, loras: {a: 0.8}}\n"
        "lora: {extract-lora: one, base: base, rank: 3, dynamic: {sv-fro: 0.9}}\n"
        "out: {save: lora, to: o.safetensors, dtype: fp16}"
    ),
    "a resize by size": (
        "a: {load: a.safetensors}\nb: {load: b.safetensors}\nboth: {concat: {b: 2.0, a: 0.5}}\n"
        "small: {svd-resize: both, rank: 4, max-size: 6kB}\nout: {save: small, to: o.safetensors}"
    ),
    "PEFT's folder": (
        "a: {load: a.safetensors}\nte: {scale: a, components: {te: 0.0}}\n"
        "out: {save: te, to: out/peft/, layout: peft}"
    ),
    "full differences": "l: {load: lycoris.safetensors}\nout: {save: l, to: o.safetensors, dense: true}",
    "minimal names in sub-folders": "a: {load: sub/a.safetensors}\nout: {save: a, to: o.safetensors}",
}


@pytest.mark.parametrize("case", _CASES)
def test_a_build_is_recovered_byte_for_byte(case: str, bench: Bench, again: Again) -> None:
    bench.lora("a")
    bench.lora("b", rank=6, seed=1)
    bench.lycoris("lycoris")
    bench.checkpoint()
    (bench.folder / "sub").mkdir()
    shutil.copy(bench.folder / "b.safetensors", bench.folder / "sub" / "a.safetensors")
    output = run(bench.recipe(_CASES[case]))

    assert files(again(output)) == files(output)


def test_a_sharded_model_is_recovered_from_its_folder_and_from_one_of_its_files(
    bench: Bench, again: Again
) -> None:
    hf_folder(bench.folder / "base")
    output = run(bench.recipe("base: {load: base/}\nout: {save: base, to: out/model/, shard-size: 100B}"))
    assert len(list(output.glob("*.safetensors"))) > 2

    assert files(again(output)) == files(output)
    one = sorted(output.glob("*.safetensors"))[0]
    assert files(again(one)) == files(output)


def test_a_pipeline_of_a_variant_is_recovered(bench: Bench, again: Again) -> None:
    parts = {"unet": {"down_blocks.0.resnets.0.conv1.weight": seeded(20, 12, 3, 3, seed=0)}}
    base = diffusers_folder(bench.folder / "pipe", parts)
    for weights in base.rglob("*.safetensors"):
        held = {name: tensor.half() for name, tensor in load_file(weights).items()}
        save_file(held, weights.with_name(f"{weights.stem}.fp16.safetensors"), {"format": "pt"})
    output = run(
        bench.recipe("base: {load: pipe/, variant: fp16, family: sd1}\nout: {save: base, to: out/model/}")
    )

    assert files(again(output)) == files(output)


def test_the_date_of_a_build_comes_with_its_environment(
    bench: Bench, again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lora("a")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    output = run(bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert files(again(output)) != files(output)

    assert "SOURCE_DATE_EPOCH=1000000000 " in recover(output).recipe.text
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert files(again(output)) == files(output)


def test_what_the_python_api_saved_is_recovered(bench: Bench, again: Again) -> None:
    bench.lora("a")
    bench.lora("b", rank=6, seed=1)
    a, b = (lorapipe.load(bench.folder / f"{name}.safetensors") for name in "ab")
    both = lorapipe.concat([(a, 0.5), (b, 2)])
    output = lorapipe.save(both, bench.folder / "out" / "o.safetensors", dtype="fp16")

    assert files(again(output)) == files(output)


def test_an_input_is_found_by_its_digest_whatever_its_name(bench: Bench, tmp_path: Path) -> None:
    bench.lora("a")
    bench.lora("b", seed=1)
    output = run(bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}"))
    models = tmp_path / "models" / "deep"
    models.mkdir(parents=True)
    (bench.folder / "a.safetensors").rename(models / "renamed.safetensors")
    shutil.copy(bench.folder / "b.safetensors", models / "a.safetensors")  # of the name, not the content

    found = recover(output, [tmp_path / "models"], beside=tmp_path)

    assert "load: models/deep/renamed.safetensors\n" in found.recipe.text
    (warning,) = found.recipe.warnings
    assert warning.startswith("'a.safetensors' was found as 'renamed.safetensors'")
    write_recipe(tmp_path / "r.yaml", found.recipe.text)
    made, before = lorapipe.run(tmp_path / "r.yaml").outputs[0].path, load_file(output)
    assert {name: t.tolist() for name, t in load_file(made).items()} == {
        name: t.tolist() for name, t in before.items()
    }


def test_an_input_that_is_nowhere_is_named(bench: Bench, tmp_path: Path) -> None:
    bench.lora("a")
    output = run(bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}"))
    (tmp_path / "empty").mkdir()

    assert recover(output).missing == ()
    (missing,) = recover(output, [tmp_path / "empty"]).missing
    assert missing.name == "a.safetensors"
    with pytest.raises(InputError) as caught:
        recover(output, [tmp_path / "nowhere"])
    assert caught.value.code == "inputs-missing"


def test_broken_files_beside_an_input_do_not_stop_the_search(bench: Bench, again: Again) -> None:
    bench.lora("a")
    output = run(bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}"))
    (bench.folder / "broken.safetensors").write_bytes(b"not one")
    (bench.folder / "dangling.safetensors").symlink_to("nowhere")
    (bench.folder / "folder.safetensors").mkdir()
    (bench.folder / "index").mkdir()
    (bench.folder / "index" / "model.safetensors.index.json").write_text("{")

    assert files(again(output)) == files(output)


@pytest.mark.parametrize(
    ("save", "code"),
    [
        ("{save: a, to: o.safetensors, provenance: minimal}", "provenance-minimal"),
        ("{save: a, to: o.safetensors, provenance: none}", "no-provenance"),
        ("{save: s, to: o.safetensors}", "no-provenance"),
        ("{save: a, to: o.pt}", "no-provenance"),
        ("{save: a, to: o.ckpt}", "no-provenance"),
    ],
)
def test_an_output_that_tells_nothing_says_so(save: str, code: str, bench: Bench) -> None:
    bench.lora("a")
    output = run(bench.recipe(f"a: {{load: a.safetensors}}\ns: {{shuffle: a}}\nout: {save}"))
    with pytest.raises(InputError) as caught:
        recover(output)
    assert caught.value.code == code
    assert caught.value.where == str(output)
    assert caught.value.hint


def test_a_foreign_file_and_no_file_are_told_apart(bench: Bench) -> None:
    with pytest.raises(InputError) as caught:
        recover(bench.lora("a"))
    assert caught.value.code == "no-provenance"
    with pytest.raises(LorapipeError) as missing:
        recover(bench.folder / "none.safetensors")
    assert missing.value.exit_status == 4
    with pytest.raises(LorapipeError) as text:
        recover(bench.recipe("a: {load: a.safetensors}"))
    assert text.value.exit_status == 3


def test_a_strangers_file_that_lies_about_its_inputs_is_refused(bench: Bench) -> None:
    bench.lora("a")
    output = run(bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}"))
    with safe_open(output, "pt") as file:
        metadata = dict(file.metadata())
    told = json.loads(metadata[KEY])
    told["steps"]["load-1"]["file"]["name"] = "../../../etc/shadow"
    metadata[KEY] = json.dumps(told, sort_keys=True, separators=(",", ":"))
    save_file(load_file(output), bench.folder / "lie.safetensors", metadata)

    with pytest.raises(InputError) as caught:
        recover(bench.folder / "lie.safetensors")
    assert caught.value.code == "provenance-malformed"


def test_a_recipe_that_is_there_is_not_replaced_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    write_recipe(path, "one")
    with pytest.raises(BuildError) as caught:
        write_recipe(path, "two")
    assert caught.value.code == "file-exists"
    assert path.read_text() == "one"
    write_recipe(path, "two", force=True)
    assert path.read_text() == "two"
