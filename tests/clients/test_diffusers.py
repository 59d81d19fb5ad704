"""What diffusers trained and fused against our merge into its folder; what we write against what it loads.

Every family's pipeline is diffusers' own, with the real names and tiny widths.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

import lorapipe

from .kit import Client, assert_same, read
from .pipelines import KINDS, Train, fused, pipeline
from .single_files import shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

# In a folder, SD 2 is SD 1 with linear layers in place of some 1x1 convolutions, which SDXL has, too.
ALL = [kind for kind in KINDS if kind != "sd21"]
UNETS = ["sd15", "sd21", "sdxl"]
# Two blocks of sixty, or of forty-eight, do not tell them from Flux, whose attention has the same names.
TOLD = {"qwen-image": "qwen-image", "flux2": "flux2-dev"}

MIXED = {"rank_pattern": {"to_q": 2}, "alpha_pattern": {"to_k": 3, "to_q": 1}, "lora_alpha": 6}


def attention(part: str, path: str, module: nn.Module) -> bool:
    """What a training script takes by default: the attention's projections."""
    ends = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")
    return path.endswith(ends)


def linear(part: str, path: str, module: nn.Module) -> bool:
    """Every linear layer; of a text encoder, those of its blocks."""
    return type(module).__name__ == "Linear" and ("text_encoder" not in part or ".layers." in path)


def in_blocks(part: str, path: str, module: nn.Module) -> bool:
    return linear(part, path, module) and ("blocks." in path or "layers." in path)


def with_bias(part: str, path: str, module: nn.Module) -> bool:
    return linear(part, path, module) and module.bias is not None


def convolutions(part: str, path: str, module: nn.Module) -> bool:
    return type(module).__name__ in ("Conv2d", "Linear") and (
        "text_encoder" not in part or ".layers." in path
    )


def merged(
    client: Client, folder: Path, file: Path | str, kind: str = "", *, family: str | None = None
) -> dict[str, Tensor]:
    """Our merge into a diffusers folder, as diffusers has its weights afterwards: ``<part>/<key>``."""
    base = lorapipe.load(f"{folder}/", as_="checkpoint")
    lora = lorapipe.load(file, as_="lora", family=family or TOLD.get(kind))
    return loaded(lorapipe.save(lorapipe.merge_into_checkpoint(base, [lora]), to=f"{client.folder}/out/"))


def loaded(folder: Path) -> dict[str, Tensor]:
    """A folder's weights as diffusers loads them, which knows which of its keys are of older days."""
    import diffusers
    import torch

    from .kit import state_of

    index = json.loads((folder / "model_index.json").read_text())
    absent = {name: None for name, entry in index.items() if isinstance(entry, list) and entry[0] is None}
    # Wan keeps a few parameters in float32, which here are float64 like all others.
    with mock.patch.object(diffusers.WanTransformer3DModel, "_keep_in_fp32_modules", []):
        made = diffusers.DiffusionPipeline.from_pretrained(
            folder, torch_dtype=torch.float64, local_files_only=True, **absent
        )
    parts = {name: part for name, part in made.components.items() if isinstance(part, torch.nn.Module)}
    return {f"{name}/{key}": value for name, part in parts.items() for key, value in state_of(part).items()}


def save_peft(part: nn.Module, folder: Path) -> None:
    """The folder that peft writes of a model around such a part: its keys, its configuration."""
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save_file

    part.peft_config["default"].save_pretrained(folder)
    tensors = get_peft_model_state_dict(part)
    named = {f"base_model.model.{name}": value.contiguous() for name, value in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors")


@pytest.mark.parametrize("kind", ALL)
def test_an_attention_lora_merges_into_the_folder_as_it_fuses(
    kind: str, client: Client, train: Train
) -> None:
    theirs = train(kind, attention)
    assert_same(merged(client, theirs.folder, theirs.file, kind), theirs.fused, theirs.base)


@pytest.mark.parametrize("kind", ALL)
def test_every_linear_layer_merges_into_the_folder_as_it_fuses(
    kind: str, client: Client, train: Train
) -> None:
    theirs = train(kind, linear)
    assert_same(merged(client, theirs.folder, theirs.file, kind), theirs.fused, theirs.base)


@pytest.mark.parametrize("kind", UNETS)
def test_convolutions_merge_into_the_folder_as_they_fuse(kind: str, client: Client, train: Train) -> None:
    theirs = train(kind, convolutions)
    assert_same(merged(client, theirs.folder, theirs.file, kind), theirs.fused, theirs.base)


@pytest.mark.parametrize("kind", ALL)
def test_ranks_and_alphas_are_read_from_the_header_that_diffusers_writes(
    kind: str, client: Client, train: Train
) -> None:
    theirs = train(kind, linear, **MIXED)
    assert_same(merged(client, theirs.folder, theirs.file, kind), theirs.fused, theirs.base)


@pytest.mark.parametrize("kind", UNETS)
def test_the_names_of_the_training_scripts_are_read(kind: str, client: Client, train: Train) -> None:
    """lora.down in the U-Net's attention, lora_linear_layer in the text encoder's."""
    from diffusers.utils import convert_state_dict_to_diffusers

    theirs = train(kind, attention, spell=convert_state_dict_to_diffusers, **MIXED)
    spellings = {name.split(".", 1)[1].rpartition(".")[0].rpartition("lora")[2] for name in read(theirs.file)}
    assert spellings == {".down", ".up", "_linear_layer.down", "_linear_layer.up"}
    assert_same(merged(client, theirs.folder, theirs.file, kind), theirs.fused, theirs.base)


def test_diffusers_loses_part_of_a_file_that_mixes_its_two_spellings(client: Client, train: Train) -> None:
    """The scripts' names are read as such if a component's first tensor has one; if not, what has is dropped.

    We read all of it, and write one spelling. Should this fail, diffusers was mended: see docs/formats.md.
    """
    from diffusers.utils import convert_state_dict_to_diffusers

    theirs = train("sdxl", linear, ("unet",), spell=convert_state_dict_to_diffusers)
    whole = train("sdxl", linear, ("unet",))
    with pytest.raises(AssertionError, match="we changed by"):
        assert_same(whole.fused, theirs.fused, theirs.base)
    assert_same(merged(client, theirs.folder, theirs.file), whole.fused, whole.base)


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind not in UNETS])
def test_a_transformer_s_own_adapter_file_is_read(kind: str, client: Client, train: Train) -> None:
    """``save_lora_adapter`` names neither the pipeline's part in the keys nor in the header."""
    theirs = train(kind, linear, ("transformer",), **MIXED)
    made = pipeline(kind)
    made.load_lora_weights(theirs.file, adapter_name="it")
    made.transformer.save_lora_adapter(client.folder, adapter_name="it", weight_name="bare.safetensors")
    bare = client.folder / "bare.safetensors"
    assert not any(name.startswith("transformer.") for name in read(bare))
    assert_same(merged(client, theirs.folder, bare, kind), theirs.fused, theirs.base)


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind not in UNETS])
def test_a_peft_folder_of_a_transformer_is_read(kind: str, client: Client, train: Train) -> None:
    theirs = train(kind, linear, ("transformer",), **MIXED)
    made = pipeline(kind)
    made.load_lora_weights(theirs.file, adapter_name="default")
    folder = client.folder / "peft"
    save_peft(made.transformer, folder)
    assert_same(merged(client, theirs.folder, f"{folder}/", kind), theirs.fused, theirs.base)


@pytest.mark.parametrize("kind", ["sd15", "flux", "wan"])
def test_dora_merges_as_it_fuses(kind: str, client: Client, train: Train) -> None:
    """Without text encoders: transformers starts their magnitudes anew as diffusers loads them."""
    theirs = train(kind, linear, (KINDS[kind].denoiser,), use_dora=True, lora_alpha=6)
    assert any("lora_magnitude_vector" in name for name in read(theirs.file))
    assert_same(merged(client, theirs.folder, theirs.file, kind), theirs.fused, theirs.base)


@pytest.mark.parametrize("kind", ["flux", "wan"])
def test_trained_biases_merge_as_they_fuse(kind: str, client: Client, train: Train) -> None:
    """peft scales a bias with its matrix."""
    theirs = train(kind, with_bias, ("transformer",), lora_bias=True, lora_alpha=6)
    assert any(name.endswith("lora_B.bias") for name in read(theirs.file))
    assert_same(merged(client, theirs.folder, theirs.file, kind), theirs.fused, theirs.base)
    ours = client.saved(theirs.file, "ours.safetensors", layout="diffusers")
    assert_same(fused(kind, ours), theirs.fused, theirs.base)


@pytest.mark.parametrize("kind", ALL)
def test_our_diffusers_layout_loads_and_fuses_to_the_same(kind: str, client: Client, train: Train) -> None:
    theirs = train(kind, linear, **MIXED)
    ours = client.saved(theirs.file, "ours.safetensors", layout="diffusers")
    assert_same(fused(kind, ours), theirs.fused, theirs.base)


@pytest.mark.parametrize("kind", ALL)
def test_a_sum_of_two_loras_loads_with_the_strengths_it_was_given(
    kind: str, client: Client, train: Train
) -> None:
    """Ranks add up, and differ where one file has no such module; alphas with them."""
    one = train(kind, attention)
    two = train(kind, linear, **MIXED)
    first, second = (lorapipe.load(file, family=TOLD.get(kind)) for file in (one.file, two.file))
    both = lorapipe.concat([(first, 0.75), (second, -0.4)])
    ours = lorapipe.save(both, to=client.folder / "both.safetensors", layout="diffusers")
    expected = {
        key: before + 0.75 * (one.fused[key] - before) - 0.4 * (two.fused[key] - before)
        for key, before in one.base.items()
    }
    assert_same(fused(kind, ours), expected, one.base, 1e-6)


# Through diffusers' reader of kohya's names; what it cannot do is told beside each.
KOHYA: Mapping[str, Any] = {
    "sd15": convolutions,
    # kohya's proj_in and proj_out of SD 2 are 1x1 convolutions, which diffusers cannot load.
    "sd21": lambda part, path, module: convolutions(part, path, module) and ".proj_" not in path,
    "sdxl": convolutions,
    # What is outside of the blocks loses its prefix in diffusers 0.42, and is not loaded.
    "flux": in_blocks,
    "flux2": in_blocks,
    # Names outside of the blocks are an IndexError there.
    "wan": in_blocks,
    "qwen-image": linear,
    "z-image": linear,
}


@pytest.mark.parametrize("kind", KOHYA)
def test_our_kohya_layout_loads_through_diffusers_reader_of_it(
    kind: str, client: Client, monkeypatch: pytest.MonkeyPatch, train: Train
) -> None:
    """One alpha throughout: of a U-Net's attention diffusers 0.42 reads the commonest alpha for all."""
    from diffusers.loaders import lora_pipeline

    # Its reader cuts Flux's linear1 at 3072, whatever the model's width.
    reader = shrunk(lora_pipeline._convert_kohya_flux_lora_to_diffusers, {3072: 96, 12288: 384})
    monkeypatch.setattr(lora_pipeline, "_convert_kohya_flux_lora_to_diffusers", reader)
    theirs = train(kind, KOHYA[kind])
    ours = client.saved(theirs.file, "ours.safetensors", {"family": TOLD.get(kind)}, layout="kohya")
    assert all(name.startswith(("lora_unet_", "lora_te")) for name in read(ours))
    assert_same(fused(kind, ours), theirs.fused, theirs.base, 1e-6)


COMFY: Mapping[str, Any] = {
    # Alphas outside of the blocks are left over there, which is an error.
    "wan": in_blocks,
    "qwen-image": linear,
    "z-image": linear,
}


@pytest.mark.parametrize("kind", COMFY)
def test_our_comfy_layout_loads_through_diffusers_reader_of_it(
    kind: str, client: Client, train: Train
) -> None:
    theirs = train(kind, COMFY[kind], **MIXED)
    ours = client.saved(theirs.file, "ours.safetensors", layout="comfy")
    assert all(name.startswith("diffusion_model.") for name in read(ours))
    assert_same(fused(kind, ours), theirs.fused, theirs.base, 1e-6)


@pytest.mark.parametrize("kind", UNETS)
def test_diffusers_reads_unequal_alphas_of_kohya_files_as_the_commonest_one(
    kind: str, client: Client, train: Train
) -> None:
    """Should this fail, diffusers was mended, and the warning in docs/formats.md is due."""
    theirs = train(kind, attention, (KINDS[kind].denoiser,), **MIXED)
    ours = client.saved(theirs.file, "ours.safetensors", layout="kohya")
    with pytest.raises(AssertionError, match="off by"):
        assert_same(fused(kind, ours), theirs.fused, theirs.base, 1e-6)
