"""Each row of a single file is where diffusers' converters take it from.

Tensors whose entries number their rows go through diffusers' own conversion; what comes
out says which rows each of its tensors is made of, and ``Family.place`` must say the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorapipe.architectures import Family, family

Shared = Callable[[str], Path]
CONVERTERS = {
    "chroma": ("chroma", "convert_chroma_transformer_checkpoint_to_diffusers"),
    "flux1": ("flux1-dev", "convert_flux_transformer_checkpoint_to_diffusers"),
    "hunyuan-video": ("hunyuan-video", "convert_hunyuan_video_transformer_to_diffusers"),
    "lumina2": ("lumina2", "convert_lumina2_to_diffusers"),
    "sd3": ("sd35-medium", "convert_sd3_transformer_checkpoint_to_diffusers"),
    "wan": ("wan21-14b-t2v", "convert_wan_transformer_to_diffusers"),
    "z-image": ("z-image", "convert_z_image_transformer_checkpoint_to_diffusers"),
}
# Of these there is no layout beside the checkout: the table's own keys, as high as it says.
BY_TABLE = {
    "flux2-dev": "convert_flux2_transformer_checkpoint_to_diffusers",
    "flux2-klein-4b": "convert_flux2_transformer_checkpoint_to_diffusers",
    "flux2-klein-9b": "convert_flux2_transformer_checkpoint_to_diffusers",
}
HEAD = 128


def numbered(heights: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """A tensor of each height, whose entries are the numbers of their tensor and row."""
    import torch

    return {
        key: (torch.arange(shape[0], dtype=torch.float64) + number * 1e6).reshape(
            shape[0], *[1] * (max(len(shape), 2) - 1)
        )
        for number, (key, shape) in enumerate(heights.items())
    }


def converted(name: str, tensors: dict[str, Any]) -> dict[str, Any]:
    from diffusers.loaders import single_file_utils

    found: dict[str, Any] = getattr(single_file_utils, name)(dict(tensors))
    return found


def differing(known: Family, tensors: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The tensors of diffusers that are other rows than those of their place."""
    import torch

    found = []
    for key, value in theirs.items():
        target = known.place(f"transformer/{key}")
        assert target is not None, key
        assert known.place(key) == target
        rows = target.rows(value.shape[0]) or ((0, value.shape[0]),)
        ours = torch.cat([tensors[target.key][start:stop] for start, stop in rows])
        if not torch.equal(ours.flatten(), value.flatten()):
            found.append(key)
    return found


@pytest.mark.parametrize("name", CONVERTERS)
def test_every_tensor_that_diffusers_makes_is_made_of_the_rows_of_its_place(
    name: str, shared: Shared
) -> None:
    layout, converter = CONVERTERS[name]
    known = family(name)
    described = json.loads(shared(f"layouts/{layout}.json").read_text())["tensors"]
    held = {key: tuple(entry[0]) for key, entry in described.items() if known.place(key) is not None}
    tensors = numbered(held)
    theirs = converted(converter, tensors)
    assert len(theirs) >= len(tensors) - 1  # Lumina's file has a norm that nothing reads
    assert differing(known, tensors, theirs) == []


@pytest.mark.parametrize("name", BY_TABLE)
def test_the_same_holds_of_models_whose_keys_only_the_table_has(name: str) -> None:
    known = family(name)
    heights = {key: (rows or HEAD, columns or 1) for key, (rows, columns) in known.tensors.items()}
    tensors = numbered(heights)
    theirs = converted(BY_TABLE[name], tensors)
    assert len(theirs) > len(tensors)
    assert differing(known, tensors, theirs) == []
