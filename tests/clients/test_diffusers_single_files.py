"""A LoRA merged by us into a single-file checkpoint is, as diffusers reads that file, what diffusers fuses.

So each module's place in the published keys, slices and swapped halves among them, is held against
diffusers' own reader of such files, and not against the tables from which we bind.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .kit import Client, assert_same
from .pipelines import Train, fused
from .single_files import LAYOUTS, as_diffusers, single_file
from .test_diffusers import MIXED, convolutions, linear

Shared = Callable[[str], Path]

UNETS = ("sd15", "sd21", "sdxl")


def everything(part: str, path: str, module: Any) -> bool:
    """All that can have a LoRA; of a U-Net's text encoders also what projects their output."""
    kind = type(module).__name__
    return kind in ("Linear", "Conv2d") if "text_encoder" not in part else kind == "Linear"


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("kind", [kind for kind in LAYOUTS if kind not in (*UNETS, "sd3")])
def test_a_transformer_s_lora_lands_where_diffusers_looks_for_it(
    kind: str, prefix: str, client: Client, train: Train, shared: Shared
) -> None:
    """The file bare, as published, and with the prefix that ComfyUI's files have."""
    tensors = single_file(kind, shared)
    base = {**_text_encoders(kind), **as_diffusers(kind, tensors)}
    theirs = train(kind, linear, ("transformer",), **MIXED)
    file = client.checkpoint({f"{prefix}{key}": value for key, value in tensors.items()})
    merged = client.merged(file, theirs.file)
    ours = as_diffusers(kind, {key.removeprefix(prefix): value for key, value in merged.items()})
    expected = {k: v for k, v in fused(kind, theirs.file, base).items() if k.startswith("transformer/")}
    assert_same(ours, expected, base)


def test_an_sd3_lora_lands_where_diffusers_looks_for_it(client: Client, train: Train, shared: Shared) -> None:
    """The last block's context and the final layer have scale and shift in the other order."""
    tensors = single_file("sd3", shared)
    base = {**_text_encoders("sd3"), **as_diffusers("sd3", tensors)}
    theirs = train("sd3", linear, ("transformer",), **MIXED)
    ours = as_diffusers("sd3", client.merged(client.checkpoint(tensors), theirs.file))
    expected = {k: v for k, v in fused("sd3", theirs.file, base).items() if k.startswith("transformer/")}
    assert_same(ours, expected, base)


@pytest.mark.parametrize("kind", UNETS)
def test_a_unet_s_lora_lands_where_diffusers_looks_for_it(
    kind: str, client: Client, train: Train, shared: Shared
) -> None:
    """Text encoders with it: OpenCLIP's q, k and v are one tensor, its text_projection lies transposed."""
    tensors = single_file(kind, shared)
    base = as_diffusers(kind, tensors)
    theirs = train(kind, everything, **MIXED)
    ours = as_diffusers(kind, client.merged(client.checkpoint(tensors), theirs.file))
    assert_same(ours, fused(kind, theirs.file, base), base)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_same_lora_in_kohya_s_names_lands_in_the_same_places(
    kind: str, client: Client, train: Train, shared: Shared
) -> None:
    """Written by us in kohya's names from diffusers', read again, merged: nothing moved, nothing lost."""
    tensors = single_file(kind, shared)
    parts = () if kind in UNETS else ("transformer",)
    theirs = train(kind, convolutions if kind in UNETS else linear, parts, **MIXED)
    file = client.checkpoint(tensors)
    kohya = client.saved(theirs.file, "kohya.safetensors", layout="kohya")
    expected = client.merged(file, theirs.file)
    assert_same(client.merged(file, kohya), expected, tensors, 1e-6)


def _text_encoders(kind: str) -> dict[str, Any]:
    from .pipelines import pipeline, weights_of

    return {k: v for k, v in weights_of(pipeline(kind), kind).items() if k.startswith("text_encoder")}
