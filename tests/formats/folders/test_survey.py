"""What of a folder counts: the model, what goes along with it, and what does not count."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file

from lorapipe.errors import InputError
from lorapipe.formats.folders.survey import is_folder, survey

from ..model_folders import diffusers_folder, hf_folder, hf_tensors, index_of, peft_folder, shards
from ..sources import seeded

UNET = {"conv_in.weight": seeded(4, 3, seed=1)}
TEXT = {"text_model.embeddings.weight": seeded(5, 2, seed=2)}


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    return diffusers_folder(tmp_path / "pipe", {"unet": UNET, "text_encoder": TEXT})


def put(path: Path, *names: str) -> None:
    """Files with nothing in them, in folders made as needed."""
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()


# --- what there is ----------------------------------------------------------------------


def test_a_folder_and_the_index_of_its_shards_are_folders_a_file_is_not(tmp_path: Path) -> None:
    assert is_folder(tmp_path)
    assert is_folder(Path("model.safetensors.index.json"))
    assert not is_folder(Path("model.safetensors"))
    assert not is_folder(Path("config.json"))


def test_a_language_model_is_its_shards_their_index_and_what_goes_along(tmp_path: Path) -> None:
    found = survey(hf_folder(tmp_path / "llm"))

    assert list(found.parts) == [""]
    assert found.weights == ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    assert set(found.carried) == {"config.json", "tokenizer.json"}
    assert found.names == tuple(sorted({*found.weights, "model.safetensors.index.json", *found.carried}))
    assert found.size == sum((found.root / name).stat().st_size for name in found.names)
    assert found.config is None


def test_an_index_stands_for_its_folder(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "llm")
    assert survey(folder / "model.safetensors.index.json") == survey(folder)


def test_an_index_that_is_named_is_taken_although_there_are_other_weights(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "llm")
    save_file(hf_tensors(), folder / "model.safetensors")
    with pytest.raises(InputError, match="holds 2 sets of weights"):
        survey(folder)
    assert len(survey(folder / "model.safetensors.index.json").weights) == 2


def test_an_index_that_is_named_has_the_variant_that_is_named(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "llm")
    index = folder / "model.safetensors.index.json"
    half = index.rename(folder / "model.safetensors.index.fp16.json")
    assert survey(half) == survey(half, "fp16")
    with pytest.raises(InputError, match="has no weights of the variant 'bf16'"):
        survey(half, "bf16")


def test_a_pipeline_is_its_components_and_the_files_around_them(pipeline: Path) -> None:
    found = survey(pipeline)

    assert {name: part.files for name, part in found.parts.items()} == {
        "text_encoder": ("text_encoder/model.safetensors",),
        "unet": ("unet/diffusion_pytorch_model.safetensors",),
    }
    assert set(found.carried) == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "text_encoder/config.json",
        "unet/config.json",
    }
    assert found.left_out == ()


def test_a_pipeline_is_known_without_its_own_index_by_its_components(pipeline: Path) -> None:
    (pipeline / "model_index.json").unlink()
    assert list(survey(pipeline).parts) == ["text_encoder", "unet"]


def test_a_component_may_be_in_shards(pipeline: Path) -> None:
    (pipeline / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    shards(pipeline / "unet", hf_tensors(4), 2, stem="diffusion_pytorch_model")

    found = survey(pipeline)

    assert found.parts["unet"].files == (
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
    )
    assert "unet/diffusion_pytorch_model.safetensors.index.json" in found.names


def test_one_component_of_a_pipeline_can_be_loaded_alone(pipeline: Path) -> None:
    found = survey(pipeline / "unet")
    assert found.weights == ("diffusion_pytorch_model.safetensors",)
    assert set(found.carried) == {"config.json"}


def test_a_checkpoint_beside_the_components_is_not_one_of_them(pipeline: Path) -> None:
    save_file(UNET, pipeline / "v1-5-pruned.safetensors")
    found = survey(pipeline)
    assert list(found.parts) == ["text_encoder", "unet"]
    assert "v1-5-pruned.safetensors" not in found.names


def test_an_adapter_of_peft_comes_with_its_config(tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    found = survey(peft_folder(tmp_path / "a", UNET, config))

    assert found.weights == ("adapter_model.safetensors",)
    assert found.config == config
    assert set(found.carried) == {"adapter_config.json", "README.md"}


def test_an_adapter_is_taken_although_its_model_lies_beside_it(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "a", UNET, {"r": 8})
    save_file(hf_tensors(), folder / "model.safetensors")
    assert survey(folder).weights == ("adapter_model.safetensors",)


def test_an_adapter_without_config_is_a_file_of_weights_like_any(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "a", UNET, {"r": 8})
    (folder / "adapter_config.json").unlink()
    found = survey(folder)
    assert (found.weights, found.config) == (("adapter_model.safetensors",), None)


@pytest.mark.parametrize("name", ["pytorch_lora_weights.safetensors", "my lora.safetensors"])
def test_a_folder_with_one_file_of_weights_is_that_file(tmp_path: Path, name: str) -> None:
    save_file(UNET, tmp_path / name)
    put(tmp_path, "README.md", "optimizer.pt", "training_args.bin")
    assert survey(tmp_path).names == tuple(sorted(("README.md", name)))


# --- what does not count ----------------------------------------------------------------


def test_hidden_things_other_weights_and_folders_of_weights_do_not_count(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "llm")
    before = survey(folder)
    put(
        folder,
        *(".git/config", ".cache/x.json", ".gitattributes", "model.fp16.safetensors", "pytorch_model.bin"),
        *("tf_model.h5", "model.gguf", "pytorch_model.bin.index.json", "model-00009-of-00009.safetensors"),
        *("original/consolidated.00.pth", "original/params.json", "checkpoint-500/optimizer.pt"),
    )

    after = survey(folder)

    assert after.names == before.names
    assert after.left_out == ("checkpoint-500/", "original/")


def test_a_file_that_is_too_large_to_go_along_is_told(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "llm")
    put(folder, "images.zip", "images/one.png")
    os.truncate(folder / "images.zip", (64 << 20) + 1)

    found = survey(folder)

    assert found.left_out == ("images.zip",)
    assert "images/one.png" in found.carried


def test_files_in_folders_without_weights_go_along(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "llm")
    put(folder, "1_Pooling/config.json", "deep/er/note.txt")
    assert {"1_Pooling/config.json", "deep/er/note.txt"} <= survey(folder).carried.keys()


# --- variants ---------------------------------------------------------------------------


@pytest.fixture
def variants(pipeline: Path) -> Path:
    """A pipeline whose U-Net also exists in fp16, its text encoder in fp16 only."""
    save_file(UNET, pipeline / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    text = pipeline / "text_encoder"
    (text / "model.safetensors").rename(text / "model.fp16.safetensors")
    return pipeline


def test_without_a_variant_the_plain_weights_or_the_only_ones_are_taken(variants: Path) -> None:
    assert survey(variants).weights == (
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
    )


def test_a_variant_is_taken_where_a_component_has_it(variants: Path) -> None:
    assert survey(variants, "fp16").weights == (
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
    )
    save_file(TEXT, variants / "text_encoder" / "model.safetensors")
    (variants / "text_encoder" / "model.fp16.safetensors").unlink()
    assert "text_encoder/model.safetensors" in survey(variants, "fp16").weights


def test_a_variant_that_no_component_has_is_refused(variants: Path) -> None:
    with pytest.raises(InputError, match="has no weights of the variant 'fp8' in any component"):
        survey(variants, "fp8")


def test_the_stem_of_a_variant_is_that_of_the_plain_file(variants: Path) -> None:
    found = survey(variants, "fp16")
    assert {name: part.stem for name, part in found.parts.items()} == {
        "text_encoder": "model",
        "unet": "diffusion_pytorch_model",
    }


# --- what is wrong ----------------------------------------------------------------------


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        survey(path)
    return caught.value


def test_a_pipeline_that_the_hub_downloaded_is_links_to_blobs(pipeline: Path, tmp_path: Path) -> None:
    repo = tmp_path / "models--x--y"
    snapshot = repo / "snapshots" / "abcdef"
    (repo / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(file for file in pipeline.rglob("*") if file.is_file())):
        blob, link = repo / "blobs" / f"{number:040x}", snapshot / file.relative_to(pipeline)
        link.parent.mkdir(parents=True, exist_ok=True)
        file.rename(blob)
        link.symlink_to(os.path.relpath(blob, link.parent))

    found = survey(snapshot)

    assert set(found.parts) == {"unet", "text_encoder"}
    assert found.names == tuple(sorted(f.relative_to(snapshot).as_posix() for f in snapshot.rglob("*.*")))


def test_a_folder_without_weights_says_where_they_are(tmp_path: Path) -> None:
    hf_folder(tmp_path / "models" / "llm")
    put(tmp_path / "models", "note.txt")
    assert str(refused(tmp_path / "models")) == (
        f"{tmp_path / 'models'}: error: holds no weights - its folder 'llm' does"
    )
    hf_folder(tmp_path / "models--x--y" / "snapshots" / "abc")
    assert refused(tmp_path / "models--x--y").hint == "its folder 'snapshots/abc' does"
    put(tmp_path / "empty", "note.txt")
    assert refused(tmp_path / "empty").hint == "name a folder with a model in it, or a file of weights"


def test_shards_without_their_index_are_named_as_such(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "llm")
    (folder / "model.safetensors.index.json").unlink()
    error = refused(folder)
    assert (error.code, error.message) == ("index-missing", "holds shards of weights but not their index")


def test_shards_that_an_index_does_not_name_are_told(tmp_path: Path, pipeline: Path) -> None:
    folder = hf_folder(tmp_path / "llm")
    for name in ("model-00003-of-00003", "model-00001-of-00009", "other-00001-of-00002", "model.fp16"):
        put(folder, f"{name}.safetensors")
    put(folder, "model-00003-of-00003.txt")
    assert survey(folder).unnamed == (
        "model-00001-of-00009.safetensors",
        "model-00003-of-00003.safetensors",
    )
    assert survey(hf_folder(tmp_path / "whole")).unnamed == ()
    assert survey(hf_folder(tmp_path / "single", count=1)).unnamed == ()
    put(pipeline / "unet", "diffusion_pytorch_model-00001-of-00002.safetensors")
    assert survey(pipeline).unnamed == ()  # one file is the model there: no index leaves anything out


def test_a_config_without_its_adapter_is_named_as_such(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "a", UNET, {"r": 8})
    (folder / "adapter_model.safetensors").unlink()
    error = refused(folder)
    assert error.code == "folder-without-weights"
    assert error.message == "has an adapter_config.json but no adapter_model.safetensors"


def test_a_component_whose_weights_were_not_downloaded_is_named(pipeline: Path) -> None:
    (pipeline / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert str(refused(pipeline)) == (f"{pipeline}: error: has no weights in 'unet' - download it whole")


def test_a_tokenizer_with_a_config_needs_no_weights(pipeline: Path) -> None:
    put(pipeline, "tokenizer/config.json")
    assert list(survey(pipeline).parts) == ["text_encoder", "unet"]


def test_a_component_that_is_not_there_is_not_looked_for(pipeline: Path) -> None:
    known = json.loads((pipeline / "model_index.json").read_text())
    (pipeline / "model_index.json").write_text(json.dumps({**known, "vae": ["diffusers", "AutoencoderKL"]}))
    assert list(survey(pipeline).parts) == ["text_encoder", "unet"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: (folder / "link.json").symlink_to("../secret.json"), "folder-link"),
        (lambda folder: (folder / "sub").symlink_to(".."), "folder-link"),
        (lambda folder: (folder / "gone.txt").symlink_to("nowhere"), "folder-link"),
        (lambda folder: os.mkfifo(folder / "pipe"), "folder-link"),
        (lambda folder: put(folder, "/".join("abcdefgh") + "/x.json"), "folder-too-large"),
        (lambda folder: put(folder, *(f"{i}.txt" for i in range(5001))), "folder-too-large"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "folder-without-weights"),
        (lambda folder: index_of(folder, {"a": "../secret.json"}), "index-names-outside"),
    ],
    ids=["link out", "folder link", "dangling", "pipe", "deep", "many", "adapter config", "index"],
)
def test_what_a_stranger_may_have_put_there_is_refused(
    tmp_path: Path, change: Callable[[Path], object], code: str
) -> None:
    folder = hf_folder(tmp_path / "llm")
    (tmp_path / "secret.json").write_text("{}")
    change(folder)
    assert refused(folder).code == code


@pytest.mark.parametrize("content", ["", "[]", "{", '{"r": 1, "r": 2}'])
def test_a_config_that_is_no_json_object_is_refused(tmp_path: Path, content: str) -> None:
    folder = peft_folder(tmp_path / "a", UNET, {"r": 8})
    (folder / "adapter_config.json").write_text(content)
    assert refused(folder).code == "config-not-json"


def test_a_pipelines_index_that_is_no_json_object_is_refused(pipeline: Path) -> None:
    (pipeline / "model_index.json").write_text("[]")
    assert refused(pipeline).code == "config-not-json"
