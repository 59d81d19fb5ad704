"""Merges into a checkpoint, where kohya-ss/sd-scripts 48d368f is right: lorapipe agrees."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from lorapipe.build.run import Options, build
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench

Shared = Callable[[str], Path]


def merge(bench: Bench, shared: Shared, golden: str, loras: str, dtype: str) -> dict[str, torch.Tensor]:
    for path in shared(f"golden/{golden}").glob("*.safetensors"):
        shutil.copy(path, bench.folder)
    recipe = bench.recipe(f"""
        base: {{load: base.safetensors}}
        a: {{load: a.safetensors}}
        b: {{load: b.safetensors}}
        model: {{merge-into-checkpoint: base, loras: {loras}}}
        out: {{save: model, to: out.safetensors, dtype: {dtype}}}
    """)
    return load_file(build(load_recipe(recipe), Options(workers=1)).outputs[0].path)


def test_sd15_saved_as_fp16_is_within_one_unit_in_the_last_place(bench: Bench, shared: Shared) -> None:
    ours = merge(bench, shared, "merge_ckpt_sd15", "{a: 0.7, b: -0.3}", "fp16")

    peer = load_file(shared("golden/merge_ckpt_sd15/expected.safetensors"))
    assert set(ours) == set(peer)
    for key, tensor in peer.items():
        assert ours[key].dtype == tensor.dtype
        if tensor.is_floating_point():
            assert int(_steps_apart(ours[key], tensor).max()) <= 1
        else:
            assert torch.equal(ours[key], tensor)


def _steps_apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """How many fp16 numbers lie between two tensors' values."""

    def position(values: torch.Tensor) -> torch.Tensor:
        bits = values.view(torch.int16).int()
        return torch.where(bits < 0, -(bits & 0x7FFF), bits)

    return (position(a) - position(b)).abs()


def test_sdxl_saved_as_fp32_agrees_to_1e_6_openclips_fused_rows_included(
    bench: Bench, shared: Shared
) -> None:
    ours = merge(bench, shared, "merge_ckpt_sdxl", "{a: 1.0, b: -0.5}", "fp32")

    peer = load_file(shared("golden/merge_ckpt_sdxl/expected.safetensors"))
    assert any(key.endswith("attn.in_proj_weight") for key in peer)
    # The peer drops this integer tensor; lorapipe keeps what it does not change.
    position_ids = "conditioner.embedders.0.transformer.text_model.embeddings.position_ids"
    assert set(ours) == {*peer, position_ids}
    for key, tensor in peer.items():
        difference = (ours[key].double() - tensor.double()).norm()
        assert difference <= 1e-6 * tensor.double().norm()
