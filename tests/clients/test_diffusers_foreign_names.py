"""Files in other trainers' names, which diffusers converts as it reads: it fuses what we merge.

The names are written out here as those programs write them; the numbers are random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import lorapipe
from lorapipe.errors import LorapipeError

from .kit import Client, assert_same
from .pipelines import fused, pipeline, weights_of
from .single_files import shrunk
from .test_diffusers import merged

RANK = 4
Names = Iterator[tuple[str, int, int]]


class File:
    """A LoRA file that grows module by module."""

    def __init__(self, down: str, up: str, rank: int = RANK) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._down, self._up, self._rank = down, up, rank
        self._generator = torch.Generator().manual_seed(13)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, dtype=torch.float64) * 0.3

    def add(self, name: str, out: int, width: int, alpha: float | None = None) -> None:
        self.tensors[name + self._down] = self.random(self._rank, width)
        self.tensors[name + self._up] = self.random(out, self._rank)
        if alpha is not None:
            self.tensors[f"{name}.alpha"] = torch.tensor(alpha, dtype=torch.float64)

    def save(self, path: Path) -> Path:
        save_file(self.tensors, path)
        return path


def agree(kind: str, file: Path, client: Client, family: str | None = None) -> None:
    made = pipeline(kind)
    base = weights_of(made, kind)
    made.save_pretrained(client.folder / "model")
    ours = merged(client, client.folder / "model", file, family=family)
    assert_same(ours, fused(kind, file), base)


def test_xlabs_names_of_flux(client: Client) -> None:
    """qkv_lora1 is the image's, qkv_lora2 the text's; in single blocks proj_lora is linear2."""
    file = File(".down.weight", ".up.weight")
    for block in range(2):
        for stream in (1, 2):
            file.add(f"double_blocks.{block}.processor.qkv_lora{stream}", 288, 96)
            file.add(f"double_blocks.{block}.processor.proj_lora{stream}", 96, 96)
        file.add(f"single_blocks.{block}.processor.qkv_lora", 288, 96)
        file.add(f"single_blocks.{block}.processor.proj_lora", 96, 480)
    agree("flux", file.save(client.folder / "xlabs.safetensors"), client)


def test_onetrainer_names_of_flux(client: Client) -> None:
    """lora_transformer_ and diffusers' path, underscored; lora_te1_ is CLIP."""
    file = File(".lora_down.weight", ".lora_up.weight")
    for block in range(2):
        for name in (
            "to_q",
            "to_k",
            "to_v",
            "to_out_0",
            "add_q_proj",
            "add_k_proj",
            "add_v_proj",
            "to_add_out",
        ):
            file.add(f"lora_transformer_transformer_blocks_{block}_attn_{name}", 96, 96, alpha=1.0 + block)
        for name in ("to_q", "to_k", "to_v"):
            file.add(f"lora_transformer_single_transformer_blocks_{block}_attn_{name}", 96, 96, alpha=2.0)
        for name in ("q_proj", "out_proj"):
            file.add(f"lora_te1_text_model_encoder_layers_{block}_self_attn_{name}", 24, 24, alpha=3.0)
        file.add(f"lora_te1_text_model_encoder_layers_{block}_mlp_fc1", 96, 24, alpha=3.0)
    agree("flux", file.save(client.folder / "onetrainer.safetensors"), client)


def test_ai_toolkit_names_of_flux(client: Client) -> None:
    """diffusers' names and no alpha: scale one. So few of them could be another model's."""
    file = File(".lora_A.weight", ".lora_B.weight")
    for block in range(2):
        file.add(f"transformer.transformer_blocks.{block}.attn.to_q", 96, 96)
        file.add(f"transformer.single_transformer_blocks.{block}.proj_mlp", 384, 96)
    agree("flux", file.save(client.folder / "ai-toolkit.safetensors"), client, "flux1")


def test_alphas_beside_peft_s_names_of_flux(client: Client) -> None:
    file = File(".lora_A.weight", ".lora_B.weight")
    file.add("transformer.transformer_blocks.0.attn.to_q", 96, 96, alpha=2.0)
    file.add("transformer.transformer_blocks.1.attn.to_k", 96, 96, alpha=6.0)
    agree("flux", file.save(client.folder / "alphas.safetensors"), client, "flux1")


@pytest.mark.parametrize(("down", "up"), [("lora_A", "lora_B"), ("lora_down", "lora_up")])
@pytest.mark.parametrize("alpha", [None, 6.0])
def test_comfy_names_of_wan_with_biases(down: str, up: str, alpha: float | None, client: Client) -> None:
    """diff_b is added to the bias as it is, whatever the alpha; diffusers wants it of all modules or none."""
    file = File(f".{down}.weight", f".{up}.weight")
    modules = [(f"{attention}_attn.{name}", 80, 80) for attention in ("self", "cross") for name in "qkvo"]
    for block in range(2):
        for name, out, width in [*modules, ("ffn.0", 216, 80), ("ffn.2", 80, 216)]:
            file.add(f"diffusion_model.blocks.{block}.{name}", out, width, alpha)
            file.tensors[f"diffusion_model.blocks.{block}.{name}.diff_b"] = file.random(out)
    agree("wan", file.save(client.folder / "wan.safetensors"), client)


def test_comfy_names_of_lumina2(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """q, k and v fused, and not in thirds; diffusers wants every module, and no alpha."""
    from diffusers.loaders import lora_pipeline

    reader = lora_pipeline._convert_non_diffusers_lumina2_lora_to_diffusers
    monkeypatch.setattr(lora_pipeline, reader.__name__, shrunk(reader, {2304: 72, 768: 24}))
    file = File(".lora_A.weight", ".lora_B.weight")
    blocks = [("layers.0", True), ("layers.1", True), ("noise_refiner.0", True), ("context_refiner.0", False)]
    for block, modulated in blocks:
        here = f"diffusion_model.{block}"
        file.add(f"{here}.attention.qkv", 120, 72)
        file.add(f"{here}.attention.out", 72, 72)
        for layer, out, width in (("w1", 288, 72), ("w2", 72, 288), ("w3", 288, 72)):
            file.add(f"{here}.feed_forward.{layer}", out, width)
        if modulated:
            file.add(f"{here}.adaLN_modulation.1", 288, 72)
    agree("lumina2", file.save(client.folder / "lumina2.safetensors"), client)


@pytest.mark.parametrize("prefix", ["transformer.", "diffusion_model."])
def test_diffusion_pipe_names_of_hunyuan_video(
    prefix: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers.loaders import lora_pipeline

    reader = lora_pipeline._convert_hunyuan_video_lora_to_diffusers
    monkeypatch.setattr(lora_pipeline, reader.__name__, shrunk(reader, {3072: 96}))
    file = File(".lora_A.weight", ".lora_B.weight")
    for block in range(2):
        for stream in ("img", "txt"):
            here = f"{prefix}double_blocks.{block}.{stream}"
            file.add(f"{here}_attn_qkv", 288, 96)
            file.add(f"{here}_attn_proj", 96, 96)
            file.add(f"{here}_mlp.fc1", 384, 96)
            file.add(f"{here}_mlp.fc2", 96, 384)
            file.add(f"{here}_mod.linear", 576, 96)
        file.add(f"{prefix}single_blocks.{block}.linear1", 672, 96)
        file.add(f"{prefix}single_blocks.{block}.linear2", 96, 480)
        file.add(f"{prefix}single_blocks.{block}.modulation.linear", 288, 96)
    agree("hunyuan-video", file.save(client.folder / "hunyuan.safetensors"), client)


@pytest.mark.parametrize("style", ["diffusion_model.", "lora_unet_"])
def test_comfy_and_musubi_names_of_qwen_image(style: str, client: Client) -> None:
    dotted = style == "diffusion_model."
    file = File(".lora_down.weight", ".lora_up.weight")
    for block in range(2):
        for name in ("to_q", "to_out.0", "add_k_proj", "to_add_out"):
            path = f"transformer_blocks.{block}.attn.{name}"
            file.add(style + (path if dotted else path.replace(".", "_")), 96, 96, alpha=1.0 + block)
        for name, out, width in (
            ("img_mlp.net.0.proj", 384, 96),
            ("txt_mlp.net.2", 96, 384),
            ("img_mod.1", 576, 96),
        ):
            path = f"transformer_blocks.{block}.{name}"
            file.add(style + (path if dotted else path.replace(".", "_")), out, width, alpha=3.0)
    agree("qwen-image", file.save(client.folder / "qwen.safetensors"), client)


@pytest.mark.parametrize("style", ["diffusion_model.", "lora_unet_"])
def test_comfy_and_musubi_names_of_z_image(style: str, client: Client) -> None:
    dotted = style == "diffusion_model."
    file = File(".lora_down.weight", ".lora_up.weight")
    for block in ("layers.0", "layers.1", "noise_refiner.0", "context_refiner.0"):
        modules = [(f"attention.{name}", 120, 120) for name in ("to_q", "to_k", "to_v", "to_out.0")]
        modules += [
            ("feed_forward.w1", 320, 120),
            ("feed_forward.w2", 120, 320),
            ("feed_forward.w3", 320, 120),
        ]
        for name, out, width in modules:
            path = f"{block}.{name}"
            file.add(style + (path if dotted else path.replace(".", "_")), out, width, alpha=6.0)
    agree("z-image", file.save(client.folder / "z-image.safetensors"), client)


LOKR: dict[str, Callable[[File, str], None]] = {
    "whole": lambda f, m: f.tensors.update(
        {f"{m}.lokr_w1": f.random(4, 4), f"{m}.lokr_w2": f.random(30, 30)}
    ),
    "factored": lambda f, m: f.tensors.update(
        {f"{m}.lokr_w1": f.random(4, 4), f"{m}.lokr_w2_a": f.random(30, 2), f"{m}.lokr_w2_b": f.random(2, 30)}
    ),
}


@pytest.mark.parametrize("sort", LOKR)
def test_ai_toolkit_s_lokr_of_z_image(sort: str, client: Client) -> None:
    """diffusers bakes alpha in where a half is factored; of two whole ones it drops it, as lycoris does."""
    file = File("", "")
    for block in range(2):
        module = f"diffusion_model.layers.{block}.attention.to_q"
        LOKR[sort](file, module)
        file.tensors[f"{module}.alpha"] = torch.tensor(3.0, dtype=torch.float64)
    agree("z-image", file.save(client.folder / "lokr.safetensors"), client)


def test_black_forest_labs_names_of_flux(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every module with a bias, and the heads' norms whole; img_in as wide as the model's."""
    from diffusers.loaders import lora_pipeline

    reader = lora_pipeline._convert_bfl_flux_control_lora_to_diffusers
    shrink = {19: 2, 38: 2, 3072: 96}
    monkeypatch.setattr(lora_pipeline, reader.__name__, shrunk(reader, shrink))
    agree("flux", control(4).save(client.folder / "control.safetensors"), client, "flux1")


def test_a_control_lora_s_wider_img_in_is_refused_and_not_cut(client: Client) -> None:
    """diffusers and ComfyUI widen the model for it; the file does not say so, and here nothing is guessed."""
    path = control(8).save(client.folder / "control.safetensors")
    pipeline("flux").save_pretrained(client.folder / "model")
    model, lora = lorapipe.load(f"{client.folder}/model/"), lorapipe.load(path, family="flux1")
    with pytest.raises(LorapipeError, match=r"1 of \d+ modules") as caught:
        lorapipe.merge_into_checkpoint(model, [lora])
    assert "img_in.weight: a delta [96, 8] does not fit the checkpoint's weight [96, 4]" in str(caught.value)


def control(width: int) -> File:
    """Flux in its own names, as its control LoRAs have it, with an img_in of ``width``."""
    file = File(".lora_A.weight", ".lora_B.weight")
    for name, out, columns in control_modules(width):
        file.add(name, out, columns)
        file.tensors[f"{name}.lora_B.bias"] = file.random(out)
    # diffusers swaps the halves of this one's A with those of B, which are ranks: they are equal here.
    swapped = file.tensors["final_layer.adaLN_modulation.1.lora_A.weight"]
    swapped[2:] = swapped[:2]
    for block in range(2):
        for part in ("double_blocks.{}.img_attn", "double_blocks.{}.txt_attn", "single_blocks.{}"):
            for side in ("query", "key"):
                file.tensors[f"{part.format(block)}.norm.{side}_norm.scale"] = file.random(24)
    return file


def control_modules(width: int) -> Iterator[tuple[str, int, int]]:
    """All linear layers of Flux in its own names, as small as here."""
    for name, columns in (("time_in", 256), ("vector_in", 24), ("guidance_in", 256)):
        yield f"{name}.in_layer", 96, columns
        yield f"{name}.out_layer", 96, 96
    yield from (("txt_in", 96, 128), ("img_in", 96, width))
    for block in range(2):
        for stream in ("img", "txt"):
            here = f"double_blocks.{block}.{stream}"
            yield from (
                (f"{here}_mod.lin", 576, 96),
                (f"{here}_attn.qkv", 288, 96),
                (f"{here}_attn.proj", 96, 96),
            )
            yield from ((f"{here}_mlp.0", 384, 96), (f"{here}_mlp.2", 96, 384))
        yield f"single_blocks.{block}.modulation.lin", 288, 96
        yield f"single_blocks.{block}.linear1", 672, 96
        yield f"single_blocks.{block}.linear2", 96, 480
    yield from (("final_layer.linear", 4, 96), ("final_layer.adaLN_modulation.1", 192, 96))


def test_the_older_names_of_diffusers(client: Client) -> None:
    """An attention processor's own layers: processor.to_q_lora.down, to_out without its index."""
    file = File(".down.weight", ".up.weight")
    for index, width in ((1, 10), (2, 24)):
        here = f"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn{index}.processor"
        file.add(f"{here}.to_q_lora", 10, 10)
        file.add(f"{here}.to_k_lora", 10, width)
        file.add(f"{here}.to_v_lora", 10, width)
        file.add(f"{here}.to_out_lora", 10, 10)
    agree("sd15", file.save(client.folder / "old.safetensors"), client)
