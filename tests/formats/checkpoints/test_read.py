"""Checkpoints: everything in them is kept, in its place, and the family is known."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorapipe.errors import InputError, RecipeError
from lorapipe.formats.checkpoints.read import read_checkpoint, read_checkpoint_spec
from lorapipe.formats.files import open_tensors
from lorapipe.weights.specs import Place, TensorSpec

from ..sources import HeaderSource, MemorySource, seeded

UNET = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0."
SD1 = {
    "model_ema.decay": torch.tensor(0.9999),
    f"{UNET}attn1.to_q.weight": seeded(320, 320, seed=1).half(),
    f"{UNET}attn2.to_k.weight": seeded(320, 768, seed=2).half(),
    f"{UNET}norm1.weight": seeded(320, seed=3),
    "first_stage_model.encoder.conv_in.weight": seeded(4, 3, 3, 3, seed=4),
    "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
    "alphas_cumprod": seeded(1000, seed=5),
}
TELLS_NOTHING = {f"{UNET}attn1.to_q.weight": torch.ones(320, 320)}


def test_every_tensor_is_kept_in_order() -> None:
    source = MemorySource(SD1, {"modelspec.title": "x"})
    spec = read_checkpoint_spec(source)
    assert spec.family == "sd1"
    assert list(spec.tensors) == list(SD1)
    assert dict(spec.keys) == {name: (Place(name),) for name in SD1}
    assert dict(spec.metadata) == {"modelspec.title": "x"}
    assert spec.touched == frozenset()


def test_untouched_bytes_are_the_files_own() -> None:
    checkpoint = read_checkpoint(MemorySource(SD1))
    for name, value in SD1.items():
        expected = bytes(value.reshape(-1).view(torch.uint8).numpy())
        assert b"".join(bytes(chunk) for chunk in checkpoint.chunks(name)) == expected


@pytest.mark.parametrize(("layout", "family"), [("sd15", "sd1"), ("sd21", "sd2"), ("sdxl", "sdxl")])
def test_the_layouts_are_recognised_whole_and_in_part(
    shared: Callable[[str], Path], layout: str, family: str
) -> None:
    described = json.loads(shared(f"layouts/{layout}.json").read_text())["tensors"]
    tensors = {key: TensorSpec(dtype, tuple(shape)) for key, (shape, dtype) in described.items()}
    assert read_checkpoint_spec(HeaderSource(tensors)).family == family
    # Nothing in the text encoder's name tells SD1's from a part; its U-Net does, by its width.
    unet = {key: spec for key, spec in tensors.items() if key.startswith("model.diffusion_model.")}
    assert read_checkpoint_spec(HeaderSource(unet)).family == family


def test_an_unknown_checkpoint_is_kept_by_its_own_names() -> None:
    spec = read_checkpoint_spec(MemorySource({"blocks.0.weight": torch.ones(2, 2)}))
    assert (spec.family, dict(spec.keys)) == (None, {"blocks.0.weight": (Place("blocks.0.weight"),)})


def test_an_ambiguous_family_must_be_said() -> None:
    with pytest.raises(RecipeError) as caught:
        read_checkpoint_spec(MemorySource(TELLS_NOTHING))
    assert str(caught.value) == (
        "error: its keys fit SD1.x and SD2.x alike - say `family: sd1` or `family: sd2`"
    )
    assert read_checkpoint_spec(MemorySource(TELLS_NOTHING), "sd2").family == "sd2"


def test_the_recipe_knows_better_than_the_sizes_of_one_layout() -> None:
    unet = {key: value for key, value in SD1.items() if not key.startswith("cond_stage_model.")}
    assert read_checkpoint_spec(MemorySource(unet), "sd2").family == "sd2"


def test_a_family_that_the_keys_contradict_is_refused() -> None:
    key = "model.diffusion_model.input_blocks.4.1.transformer_blocks.1.attn1.to_q.weight"
    with pytest.raises(RecipeError) as caught:
        read_checkpoint_spec(MemorySource({key: torch.ones(640, 640)}), "sd1")
    assert (caught.value.code, caught.value.option) == ("family-contradicted", "family")
    assert str(caught.value) == (
        "error: it is not for SD1.x: its keys are those of SDXL - say `family: sdxl`, or leave it out"
    )


def test_a_family_of_which_there_is_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"its keys are those of no known family - leave `family:` out"):
        read_checkpoint_spec(MemorySource({"x": torch.ones(1)}), "sd1")


def test_a_file_without_tensors_is_refused() -> None:
    with pytest.raises(InputError, match="it holds no tensors - is it the right file") as caught:
        read_checkpoint_spec(MemorySource({}))
    assert caught.value.code == "empty-checkpoint"


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_checkpoint_reads_alike_from_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == ".safetensors":
        save_file(SD1, path)
    else:
        torch.save({"state_dict": SD1, "global_step": 1}, path)
    with open_tensors(path) as source:
        checkpoint = read_checkpoint(source)
        assert set(checkpoint.spec.tensors) == set(SD1)
        for name, value in SD1.items():
            found = b"".join(bytes(chunk) for chunk in checkpoint.chunks(name))
            assert found == bytes(value.reshape(-1).view(torch.uint8).numpy())


def test_reading_a_spec_imports_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(SD1, path)
    code = (
        "import sys, pathlib\n"
        "from lorapipe.formats.checkpoints.read import read_checkpoint_spec\n"
        "from lorapipe.formats.files import open_tensors\n"
        f"print(read_checkpoint_spec(open_tensors(pathlib.Path({str(path)!r}))).family)\n"
        "print(sorted({'torch', 'numpy', 'networkx'} & set(sys.modules)))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["sd1", "[]"]
