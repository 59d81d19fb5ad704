"""Single-file checkpoints of the tiny models, and diffusers' own reader of such files.

Keys are those of the published checkpoints, from the reference data beside the checkout;
their sizes are divided as those of the tiny pipelines are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor

from .pipelines import KINDS

HEADS = re.compile(r"(ln_[qk]|(query|key|q|k)_norm)\.(weight|scale)$")
BLOCK = re.compile(
    r"(?:^|\.)(?:blocks|layers|resblocks|double_blocks|single_blocks|noise_refiner|context_refiner)\.(\d+)\."
)


@dataclass(frozen=True)
class Layout:
    """A family's single file: which keys, what their sizes become, and diffusers' reader.

    ``sizes`` maps a published size to the tiny one, ``head`` is a head's width, ``depth`` how many blocks
    are kept; ``constants`` are sizes that diffusers' reader has in its code, and which shrink with the rest.
    """

    name: str
    reader: str
    sizes: Mapping[int, int]
    head: int = 0
    depth: int = 2
    keys: Callable[[str], bool] = lambda key: True
    special: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    constants: Mapping[int, int] = field(default_factory=dict)


def _by(factor: int, *sizes: int) -> dict[int, int]:
    return {size: size // factor for size in sizes}


UNET = {
    **_by(32, 320, 640, 768, 960, 1024, 1280, 1920, 2048, 2560, 2816, 3072, 3840, 4096, 5120, 10240),
    49408: 20,
    77: 8,
}
WIDE = _by(32, 768, 1536, 2048, 3072, 4096, 4608, 5120, 6144, 9216, 12288, 13824, 15360, 18432, 21504)

LAYOUTS: Mapping[str, Layout] = {
    "sd15": Layout("sd15", "convert_ldm_unet_checkpoint", UNET, keys=lambda key: "first_stage" not in key),
    "sd21": Layout("sd21", "convert_ldm_unet_checkpoint", UNET, keys=lambda key: "first_stage" not in key),
    "sdxl": Layout("sdxl", "convert_ldm_unet_checkpoint", UNET, keys=lambda key: "first_stage" not in key),
    "sd3": Layout(
        "sd35-medium",
        "convert_sd3_transformer_checkpoint_to_diffusers",
        {**WIDE, 147456: 64},
        head=12,
        depth=24,
        keys=lambda key: key.startswith("model."),
    ),
    "flux": Layout(
        "flux1-dev",
        "convert_flux_transformer_checkpoint_to_diffusers",
        {**WIDE, 64: 4},
        head=24,
        constants={3072: 96},
    ),
    "chroma": Layout(
        "chroma",
        "convert_chroma_transformer_checkpoint_to_diffusers",
        {**WIDE, 64: 16},
        head=24,
        constants={3072: 96},
    ),
    "wan": Layout(
        "wan21-14b-t2v",
        "convert_wan_transformer_to_diffusers",
        {**_by(64, 4096, 5120, 13824, 30720), 256: 8},
    ),
    "lumina2": Layout(
        "lumina2",
        "convert_lumina2_to_diffusers",
        {**_by(32, 2304, 3840, 9216), 1024: 72},
        head=12,
        constants={2304: 72, 768: 24},
    ),
    "z-image": Layout(
        "z-image",
        "convert_z_image_transformer_checkpoint_to_diffusers",
        {**_by(32, 2560, 3840, 10240, 11520, 15360), 256: 120},
        head=20,
        special={"t_embedder.mlp.0.weight": {256: 256}},
    ),
    "hunyuan-video": Layout(
        "hunyuan-video",
        "convert_hunyuan_video_transformer_to_diffusers",
        WIDE,
        head=24,
        constants={3072: 96},
    ),
}


def single_file(kind: str, shared: Callable[[str], Path]) -> dict[str, Tensor]:
    """A random checkpoint in the family's published keys, as small as its pipeline here."""
    layout = LAYOUTS[kind]
    tensors = json.loads(shared(f"layouts/{layout.name}.json").read_text())["tensors"]
    generator = torch.Generator().manual_seed(11)
    return {
        key: torch.randn(_shape(layout, key, shape), generator=generator, dtype=torch.float64) * 0.3
        for key, (shape, dtype) in tensors.items()
        if dtype.startswith(("F", "BF")) and layout.keys(key) and _kept(layout, key)
    }


def as_diffusers(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What diffusers' reader of single files makes of it, under ``<part>/<key>``."""
    from diffusers.loaders import single_file_utils as readers

    made = KINDS[kind].make()
    denoiser = KINDS[kind].denoiser
    layout = LAYOUTS[kind]
    read = shrunk(getattr(readers, layout.reader), layout.constants)
    part = getattr(made, denoiser)
    parts = {denoiser: read(dict(tensors), config=part.config)}
    if denoiser == "unet":
        parts |= _text_encoders(made, tensors, readers)
    for name, found in parts.items():
        # Some readers keep what the class no longer has (position_ids, norm_final).
        wanted = getattr(made, name).state_dict()
        assert wanted.keys() <= found.keys(), f"{name}: {sorted(wanted.keys() - found.keys())[:5]}"
        for key, value in wanted.items():
            assert found[key].shape == value.shape, f"{name} {key}: {found[key].shape} is not {value.shape}"
    return {
        f"{name}/{key}": found[key].clone()
        for name, found in parts.items()
        for key in getattr(made, name).state_dict()
    }


def _text_encoders(made: Any, tensors: Mapping[str, Tensor], readers: Any) -> dict[str, dict[str, Tensor]]:
    clip, open_clip = readers.convert_ldm_clip_checkpoint, readers.convert_open_clip_checkpoint
    if any(key.startswith("conditioner.embedders.1") for key in tensors):
        found = {
            "text_encoder": clip(dict(tensors), remove_prefix="conditioner.embedders.0.transformer."),
            "text_encoder_2": open_clip(made.text_encoder_2, dict(tensors), "conditioner.embedders.1.model."),
        }
    elif any(key.startswith("cond_stage_model.model.") for key in tensors):
        found = {"text_encoder": open_clip(made.text_encoder, dict(tensors), "cond_stage_model.model.")}
    else:
        found = {"text_encoder": clip(dict(tensors))}
    # transformers 5 has no level text_model in the plain encoder; its loader renames, these readers do not.
    for name, part in found.items():
        if not any(key.startswith("text_model.") for key in getattr(made, name).state_dict()):
            found[name] = {key.removeprefix("text_model."): value for key, value in part.items()}
    return found


def _shape(layout: Layout, key: str, shape: list[int]) -> list[int]:
    if HEADS.search(key) and layout.head:
        return [layout.head]
    sizes = {**layout.sizes, **layout.special.get(key, {})}
    return [sizes.get(size, size) for size in shape]


def _kept(layout: Layout, key: str) -> bool:
    found = BLOCK.search(key)
    return "input_blocks" in key or found is None or int(found[1]) < layout.depth


def shrunk(function: Any, constants: Mapping[int, int]) -> Any:
    """The function with sizes in its code replaced, in functions within it, too."""

    def shrink(value: Any) -> Any:
        if isinstance(value, CodeType):
            return value.replace(co_consts=tuple(map(shrink, value.co_consts)))
        if isinstance(value, tuple):
            return tuple(map(shrink, value))
        return constants.get(value, value) if type(value) is int else value

    if not constants:
        return function
    return FunctionType(shrink(function.__code__), function.__globals__, function.__name__)
