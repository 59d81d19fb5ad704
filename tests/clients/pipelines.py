"""Tiny pipelines of diffusers with the modules' real names, and diffusers' own answer for a LoRA on them.

Widths are the published ones, divided; depths are cut where no block's place matters. What
is trained is every linear layer and, in U-Nets, every convolution.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .kit import randomise, state_of

if TYPE_CHECKING:
    from torch import Tensor, nn

Targets = Callable[[str, str, "nn.Module"], bool]
"""Whether a module gets a LoRA: its part of the pipeline, its path there, the module."""


@dataclass(frozen=True)
class Kind:
    """A family as diffusers has it: how to make its pipeline small, and which part is its denoiser."""

    make: Callable[[], Any]
    denoiser: str = "transformer"
    text_encoders: tuple[str, ...] = ()


def clip(width: int, projection: int | None = None, layers: int = 2) -> nn.Module:
    """A text encoder with CLIP's names."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        vocab_size=20,
        max_position_embeddings=8,
        projection_dim=projection or width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def vae() -> nn.Module:
    from diffusers import AutoencoderKL

    return AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, latent_channels=4)


def alone(kind: Any, transformer: Any, **others: Any) -> Any:
    """A pipeline of a transformer, with nothing beside it but ``others``."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    parts = {"vae": None, "text_encoder": None, "tokenizer": None, **others}
    return kind(scheduler=FlowMatchEulerDiscreteScheduler(), transformer=transformer, **parts)


def sd15() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(10, 20, 40, 40),
        cross_attention_dim=24,
        attention_head_dim=2,
        norm_num_groups=5,
    )
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=clip(24),
        tokenizer=None,
        unet=unet,
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd21() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(10, 20, 40, 40),
        cross_attention_dim=32,
        attention_head_dim=(2, 4, 8, 8),
        norm_num_groups=5,
        use_linear_projection=True,
    )
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=clip(32),
        tokenizer=None,
        unet=unet,
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(10, 20, 40),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
        cross_attention_dim=64,
        attention_head_dim=(2, 4, 8),
        norm_num_groups=5,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=88,
    )
    return StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=clip(24),
        text_encoder_2=clip(40, projection=40),
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=DDIMScheduler(),
    )


def sd3() -> Any:
    """All 24 blocks: the last one's context is another than the others'."""
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    transformer = SD3Transformer2DModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        num_layers=24,
        attention_head_dim=12,
        num_attention_heads=4,
        joint_attention_dim=128,
        caption_projection_dim=48,
        pooled_projection_dim=64,
        pos_embed_max_size=8,
        dual_attention_layers=tuple(range(13)),
        qk_norm="rms_norm",
    )
    return alone(
        StableDiffusion3Pipeline,
        transformer,
        text_encoder=clip(24, projection=24),
        text_encoder_2=clip(40, projection=40),
        tokenizer_2=None,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def flux() -> Any:
    from diffusers import FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        in_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=24,
        num_attention_heads=4,
        joint_attention_dim=128,
        pooled_projection_dim=24,
        guidance_embeds=True,
        axes_dims_rope=(8, 8, 8),
    )
    return alone(FluxPipeline, transformer, text_encoder=clip(24), text_encoder_2=None, tokenizer_2=None)


def flux2() -> Any:
    from diffusers import Flux2Pipeline, Flux2Transformer2DModel

    transformer = Flux2Transformer2DModel(
        in_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=24,
        num_attention_heads=8,
        joint_attention_dim=480,
        axes_dims_rope=(6, 6, 6, 6),
    )
    return alone(Flux2Pipeline, transformer)


def chroma() -> Any:
    from diffusers import ChromaPipeline, ChromaTransformer2DModel

    transformer = ChromaTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=24,
        num_attention_heads=4,
        joint_attention_dim=128,
        axes_dims_rope=(8, 8, 8),
        approximator_num_channels=16,
        approximator_hidden_dim=160,
        approximator_layers=2,
    )
    return alone(ChromaPipeline, transformer)


def qwen_image() -> Any:
    from diffusers import QwenImagePipeline, QwenImageTransformer2DModel

    transformer = QwenImageTransformer2DModel(
        in_channels=4,
        out_channels=1,
        num_layers=2,
        attention_head_dim=24,
        num_attention_heads=4,
        joint_attention_dim=112,
        axes_dims_rope=(8, 8, 8),
    )
    return alone(QwenImagePipeline, transformer)


def wan() -> Any:
    from diffusers import WanPipeline, WanTransformer3DModel

    transformer = WanTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=20,
        in_channels=16,
        out_channels=16,
        text_dim=64,
        freq_dim=8,
        ffn_dim=216,
        num_layers=2,
    )
    return alone(WanPipeline, transformer)


def lumina2() -> Any:
    from diffusers import Lumina2Pipeline, Lumina2Transformer2DModel

    transformer = Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=16,
        hidden_size=72,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=6,
        num_kv_heads=2,
        multiple_of=8,
        axes_dim_rope=(4, 4, 4),
        axes_lens=(8, 8, 8),
        cap_feat_dim=72,
    )
    return alone(Lumina2Pipeline, transformer)


def z_image() -> Any:
    from diffusers import ZImagePipeline, ZImageTransformer2DModel

    transformer = ZImageTransformer2DModel(
        in_channels=16,
        dim=120,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=6,
        n_kv_heads=6,
        cap_feat_dim=80,
        axes_dims=[4, 8, 8],
        axes_lens=[8, 8, 8],
    )
    return alone(ZImagePipeline, transformer)


def hunyuan_video() -> Any:
    from diffusers import (
        HunyuanVideoPipeline,
        HunyuanVideoTransformer3DModel,
    )

    transformer = HunyuanVideoTransformer3DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=4,
        attention_head_dim=24,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=1,
        text_embed_dim=128,
        pooled_projection_dim=24,
        rope_axes_dim=(8, 8, 8),
    )
    return alone(HunyuanVideoPipeline, transformer, text_encoder_2=None, tokenizer_2=None)


KINDS: Mapping[str, Kind] = {
    "sd15": Kind(sd15, "unet", ("text_encoder",)),
    "sd21": Kind(sd21, "unet", ("text_encoder",)),
    "sdxl": Kind(sdxl, "unet", ("text_encoder", "text_encoder_2")),
    "sd3": Kind(sd3, text_encoders=("text_encoder", "text_encoder_2")),
    "flux": Kind(flux, text_encoders=("text_encoder",)),
    "flux2": Kind(flux2),
    "chroma": Kind(chroma),
    "qwen-image": Kind(qwen_image),
    "wan": Kind(wan),
    "lumina2": Kind(lumina2),
    "z-image": Kind(z_image),
    "hunyuan-video": Kind(hunyuan_video),
}


def pipeline(kind: str, weights: Mapping[str, Tensor] | None = None) -> Any:
    """The pipeline in float64, with the given weights or random ones, the same each time."""
    chosen = KINDS[kind]
    made = chosen.make()
    for index, name in enumerate((chosen.denoiser, *chosen.text_encoders)):
        part = getattr(made, name).double().eval()
        if weights is None:
            randomise(part, seed=index + 1)
        else:
            part.load_state_dict(
                {k.removeprefix(f"{name}/"): v for k, v in weights.items() if k.startswith(f"{name}/")}
            )
    return made


class Train(Protocol):
    """:func:`trained`, each LoRA once in a session: making and fusing it takes most of a test's time."""

    def __call__(
        self,
        kind: str,
        targets: Targets,
        parts: tuple[str, ...] = (),
        **options: Any,
    ) -> Trained: ...


@dataclass(frozen=True)
class Trained:
    """A LoRA that diffusers made: its file, the pipeline's folder, and the weights with it fused."""

    kind: str
    file: Path
    folder: Path
    base: dict[str, Tensor]
    fused: dict[str, Tensor]


def trained(
    kind: str,
    folder: Path,
    targets: Targets,
    parts: tuple[str, ...],
    spell: Callable[[Any], Any] = dict,
    **options: Any,
) -> Trained:
    """Train a LoRA the way diffusers' scripts do, save it with their function, load and fuse it again.

    ``targets`` says of a module whether it gets one; ``parts`` which parts of the pipeline;
    ``spell`` renames the tensors before they are saved, as some scripts do.
    """
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    made = pipeline(kind)
    made.save_pretrained(folder / "model")
    base = weights_of(made, kind)
    layers: dict[str, Any] = {}
    for index, name in enumerate(parts):
        part = getattr(made, name)
        paths = [path for path, module in part.named_modules() if targets(name, path, module)]
        assert paths, f"{name} has no module to train"
        part.add_adapter(LoraConfig(target_modules=paths, **{"r": 4, "lora_alpha": 4, **options}))
        randomise(part, seed=10 + index, only=lambda key: "lora_" in key)
        layers[f"{name}_lora_layers"] = spell(get_peft_model_state_dict(part))
        if options:
            layers[f"{name}_lora_adapter_metadata"] = part.peft_config["default"].to_dict()
    made.save_lora_weights(folder, weight_name="theirs.safetensors", **layers)
    file = folder / "theirs.safetensors"
    if options or spell is not dict:
        return Trained(kind, file, folder / "model", base, fused(kind, file))
    # At scale one, in its own names, there is nothing in the file to be read amiss.
    return Trained(kind, file, folder / "model", base, _fuse(made, kind))


def fused(kind: str, file: Path, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The pipeline's weights after loading a LoRA and fusing it; a key that it does not know is an error."""
    made = pipeline(kind, weights)
    with complaints() as said:
        made.load_lora_weights(file)
    assert not said, said
    return _fuse(made, kind)


def _fuse(made: Any, kind: str) -> dict[str, Tensor]:
    chosen = KINDS[kind]
    parts = [p for p in (chosen.denoiser, *chosen.text_encoders) if hasattr(getattr(made, p), "peft_config")]
    made.fuse_lora(components=parts)
    # What it keeps of Flux's norms, to put them back when the LoRA goes: here it goes, and they stay.
    getattr(made, chosen.denoiser)._transformer_norm_layers = None
    made.unload_lora_weights()
    return weights_of(made, kind)


def weights_of(made: Any, kind: str) -> dict[str, Tensor]:
    """All tensors of the parts that take a LoRA, under ``<part>/<key>``."""
    chosen = KINDS[kind]
    return {
        f"{part}/{key}": value
        for part in (chosen.denoiser, *chosen.text_encoders)
        for key, value in state_of(getattr(made, part)).items()
    }


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What diffusers logs as a warning of keys that it did not take, and does not raise."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if "unexpected keys" in text or "missing keys" in text or "not support" in text.lower():
                said.append(text)

    listener = Listener(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("diffusers", "diffusers.loaders.peft")]
    for logger in loggers:
        logger.addHandler(listener)
    try:
        yield said
    finally:
        for logger in loggers:
            logger.removeHandler(listener)
