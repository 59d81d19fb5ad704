"""Every tensor of the models as diffusers and transformers build them has its place, in the published size.

The models are built without memory for their weights; their folders hold tensors of these names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from lorapipe.architectures import family, recognise_checkpoint

Shapes = dict[str, tuple[int, ...]]

SD35 = {
    "attention_head_dim": 64, "joint_attention_dim": 4096, "pooled_projection_dim": 2048,
    "qk_norm": "rms_norm",
}  # fmt: skip
MEDIUM = {
    "num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
}  # fmt: skip
LARGE = {
    "num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "pos_embed_max_size": 192,
}  # fmt: skip
KLEIN_4B = {
    "num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680,
    "guidance_embeds": False,
}  # fmt: skip
KLEIN_9B = {
    "num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32, "joint_attention_dim": 12288,
    "guidance_embeds": False,
}  # fmt: skip
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
CLIP_G = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "projection_dim": 1280,
}  # fmt: skip
T5 = {"d_model": 4096, "d_ff": 10240, "num_heads": 64, "num_layers": 24, "feed_forward_proj": "gated-gelu"}


def diffusers_model(name: str, **config: Any) -> Callable[[], Any]:
    def build() -> Any:
        import diffusers

        return getattr(diffusers, name)(**config)

    return build


def clip(projected: bool = False, **config: Any) -> Callable[[], Any]:
    def build() -> Any:
        import transformers

        name = "CLIPTextModelWithProjection" if projected else "CLIPTextModel"
        return getattr(transformers, name)(transformers.CLIPTextConfig(**config))

    return build


def t5() -> Any:
    import transformers

    return transformers.T5EncoderModel(transformers.T5Config(**T5))


MODELS: Mapping[str, Mapping[str, Callable[[], Any]]] = {
    "chroma": {"transformer": diffusers_model("ChromaTransformer2DModel"), "text_encoder": t5},
    "flux1": {
        "transformer": diffusers_model("FluxTransformer2DModel", guidance_embeds=True),
        "text_encoder": clip(**CLIP_L),
        "text_encoder_2": t5,
    },
    "flux2-dev": {"transformer": diffusers_model("Flux2Transformer2DModel")},
    "flux2-klein-4b": {"transformer": diffusers_model("Flux2Transformer2DModel", **KLEIN_4B)},
    "flux2-klein-9b": {"transformer": diffusers_model("Flux2Transformer2DModel", **KLEIN_9B)},
    "hunyuan-video": {
        "transformer": diffusers_model("HunyuanVideoTransformer3DModel"),
        "text_encoder_2": clip(**CLIP_L),
    },
    "qwen-image": {"transformer": diffusers_model("QwenImageTransformer2DModel")},
    "sd2": {"text_encoder": clip(**CLIP_H)},
    "sd3": {
        "transformer": diffusers_model("SD3Transformer2DModel", **SD35, **MEDIUM),
        "text_encoder": clip(projected=True, projection_dim=768, **CLIP_L),
        "text_encoder_2": clip(projected=True, **CLIP_G),
        "text_encoder_3": t5,
    },
    "sd35-large": {"transformer": diffusers_model("SD3Transformer2DModel", **SD35, **LARGE)},
    "sdxl": {"text_encoder": clip(**CLIP_L), "text_encoder_2": clip(projected=True, **CLIP_G)},
    "wan": {"transformer": diffusers_model("WanTransformer3DModel")},
    "z-image": {"transformer": diffusers_model("ZImageTransformer2DModel")},
}


def folder(name: str) -> Shapes:
    """What the safetensors files of the family's folder would hold."""
    import torch

    with torch.device("meta"):
        models = {component: build() for component, build in MODELS[name].items()}
    return {
        f"{component}/{key}": tuple(value.shape)
        for component, model in models.items()
        for key, value in model.state_dict().items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_of_the_models_has_its_place_and_the_size_that_the_table_says(name: str) -> None:
    known, shapes = family(name), folder(name)
    stored = {key: known.stored(key) for key in shapes}
    assert {key for key, tensor in stored.items() if tensor is None} == set()
    for key, tensor in stored.items():
        assert tensor is not None
        pairs = zip(tensor.features, shapes[key], strict=False)
        assert all(claim in (None, size) for claim, size in pairs), key


@pytest.mark.parametrize("name", MODELS)
def test_the_tensors_of_a_folder_are_parts_of_the_reference_without_gap_or_overlap(name: str) -> None:
    known = family(name)
    parts: dict[str, list[tuple[int, int, int]]] = {}
    for key in folder(name):
        target = known.place(key)
        assert target is not None
        assert target.parts or target.key not in parts, key
        parts.setdefault(target.key, []).extend(target.parts)
    for key, cuts in parts.items():
        rows = [row for a, b, _ in sorted(cuts) for row in range(a, b)]
        assert rows == list(range(cuts[0][2] if cuts else 0)), key


@pytest.mark.parametrize("name", [name for name, models in MODELS.items() if "transformer" in models])
def test_a_folder_is_recognised_with_its_text_encoders_and_without(name: str) -> None:
    shapes = folder(name)
    assert recognise_checkpoint(shapes).family == name
    main = {key: shape for key, shape in shapes.items() if key.startswith("transformer/")}
    assert recognise_checkpoint(main).family == name
    lone = {key.partition("/")[2]: shape for key, shape in main.items()}
    assert recognise_checkpoint(lone).family == name
