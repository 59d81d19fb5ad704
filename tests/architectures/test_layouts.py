"""The tables against the names and shapes of the real models, both ways.

The reference data were made from the trainers' and diffusers' own code; they lie
beside the checkout and are not part of it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorapipe.architectures import Target, family, recognise_adapter, recognise_checkpoint

Shared = Callable[[str], Path]
PAIRS = [("sd1", "sd15"), ("sd2", "sd21"), ("sdxl", "sdxl")]

# Modules that full-network trainers write and kohya's LoRA does not: the maps of kohya's names lack them.
DIFFUSERS_ENDS = {
    "lora_unet_conv_in",
    "lora_unet_conv_out",
    "lora_unet_time_embedding_linear_1",
    "lora_unet_time_embedding_linear_2",
}
SGM_ENDS = {
    "lora_unet_input_blocks_0_0",
    "lora_unet_out_2",
    "lora_unet_time_embed_0",
    "lora_unet_time_embed_2",
    "lora_unet_label_emb_0_0",
    "lora_unet_label_emb_0_2",
    "lora_te2_text_projection",
}
# Of other architectures, some with a text encoder in common.
OTHERS = ["chroma", "flux1-dev", "hunyuan-video", "llama31-8b", "sd35-medium"]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def tensors(shared: Shared, layout: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = read(shared(f"layouts/{layout}.json"))["tensors"]
    return found


def fused_rows(target: Target, fused: int) -> list[int] | None:
    if not target.parts:
        return None
    ((first, last, parts),) = target.parts
    (rows,) = target.rows(fused * (last - first) // parts)
    return list(rows)


@pytest.mark.parametrize(("name", "layout"), PAIRS)
def test_kohya_names_are_those_of_the_trainer(shared: Shared, name: str, layout: str) -> None:
    modules = read(shared(f"layouts/{layout}.lora-map.json"))["modules"]
    known = family(name)
    for stem, (key, shape, kind, _flag, *rows) in modules.items():
        target = known.lookup(stem)
        assert target is not None, stem
        assert (target.key, target.kind, target.transpose) == (key, kind, False), stem
        assert target.rows(shape[0]) == ((tuple(rows[0]),) if rows else ()), stem
        assert known.spell(target, "kohya") == stem
    ends = SGM_ENDS if name == "sdxl" else DIFFUSERS_ENDS
    assert {known.spell(t, "kohya") for t in known.targets()} == set(modules) | ends


@pytest.mark.parametrize(("name", "layout"), PAIRS)
def test_diffusers_names_are_those_of_diffusers(shared: Shared, name: str, layout: str) -> None:
    maps = read(shared(f"layouts/{layout}.lora-map.json"))
    shapes = tensors(shared, layout)
    known = family(name)
    for stem, (key, *rows) in maps["diffusers"].items():
        target = known.lookup(stem)
        assert target is not None, stem
        assert (target.key, target.transpose) == (key, False), stem
        assert fused_rows(target, shapes[key][0][0]) == (rows[0] if rows else None), stem
        assert known.spell(target, "diffusers") == stem
    transposed = maps.get("diffusers_transposed", {})
    for stem, key in transposed.items():
        target = known.lookup(stem)
        assert target is not None
        assert (target.key, target.parts, target.transpose) == (key, (), True)
        assert known.spell(target, "diffusers") == stem
    assert {known.spell(t, "diffusers") for t in known.targets()} == set(maps["diffusers"]) | set(transposed)


def test_sdxl_names_with_diffusers_paths_are_those_of_older_trainers(shared: Shared) -> None:
    modules = read(shared("layouts/sdxl.lora-map-diffusers-path.json"))["modules"]
    known = family("sdxl")
    for stem, (key, _shape, kind, _flag) in modules.items():
        target = known.lookup(stem)
        assert target is not None, stem
        assert (target.key, target.kind, target.parts) == (key, kind, ()), stem
        assert known.spell(target, "kohya-diffusers") == stem
    unet = [t for t in known.targets() if t.component == "unet"]
    assert {known.spell(t, "kohya-diffusers") for t in unet} == set(modules)


@pytest.mark.parametrize(("name", "layout"), PAIRS)
def test_every_key_exists_and_every_claimed_size_is_true(shared: Shared, name: str, layout: str) -> None:
    shapes = tensors(shared, layout)
    known = family(name)
    for target in known.targets():
        assert target.key in shapes
    for key, claims in known.tensors.items():
        for claim, size in zip(claims, shapes[key][0], strict=False):
            assert claim in (None, size), key


@pytest.mark.parametrize(("name", "layout"), PAIRS)
def test_every_matrix_of_the_unet_is_a_module(shared: Shared, name: str, layout: str) -> None:
    matrices = {
        key
        for key, (shape, _dtype) in tensors(shared, layout).items()
        if key.startswith("model.diffusion_model.") and len(shape) > 1
    }
    assert {t.key for t in family(name).targets() if t.component == "unet"} == matrices


@pytest.mark.parametrize(("name", "layout"), PAIRS)
def test_real_layouts_are_recognised(shared: Shared, name: str, layout: str) -> None:
    shapes = {key: tuple(shape) for key, (shape, _dtype) in tensors(shared, layout).items()}
    assert recognise_checkpoint(shapes).family == name
    modules = read(shared(f"layouts/{layout}.lora-map.json"))["modules"]
    widths = {stem: (entry[1][0], entry[1][1]) for stem, entry in modules.items()}
    assert recognise_adapter(widths, widths, {}).family == name


@pytest.mark.parametrize("layout", OTHERS)
def test_other_architectures_are_taken_for_none_of_ours(shared: Shared, layout: str) -> None:
    found = read(shared(f"layouts/{layout}.json"))["tensors"]
    assert recognise_checkpoint({key: tuple(entry[0]) for key, entry in found.items()}).candidates == ()
    modules = read(shared(f"layouts/{layout}.lora-map.json"))["modules"]
    assert recognise_adapter(modules, {}, {}).candidates == ()


def header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        found: dict[str, Any] = json.loads(file.read(size))
        return found


@pytest.mark.parametrize(("file", "model", "count"), [
    ("analog_svd_rank4", "unet", 144), ("analog_svd_rank4", "text_encoder", 48),
    ("lora_disney", "unet", 144), ("lora_disney", "text_encoder", 48),
])  # fmt: skip
def test_positions_fit_the_real_positional_files_shape_by_shape(
    shared: Shared, file: str, model: str, count: int
) -> None:
    found = header(shared(f"real/{file}.safetensors"))
    shapes = tensors(shared, "sd15")
    known = family("sd1")
    targets = known.positions(model, tuple(json.loads(found["__metadata__"][model])))
    assert len(targets) == count == sum(key.startswith(f"{model}:") and key.endswith(":up") for key in found)
    for i, target in enumerate(targets):
        product = [found[f"{model}:{i}:up"]["shape"][0], found[f"{model}:{i}:down"]["shape"][1]]
        assert product == shapes[target.key][0], (i, target.key)
        assert tuple(product) == known.features(target)


def test_the_goldens_are_recognised_although_their_sizes_are_divided(shared: Shared) -> None:
    for name, golden in (("sd1", "merge_ckpt_sd15"), ("sdxl", "merge_ckpt_sdxl")):
        base = header(shared(f"golden/{golden}/base.safetensors"))
        base.pop("__metadata__", None)
        assert recognise_checkpoint({key: tuple(t["shape"]) for key, t in base.items()}).family == name
        for file in ("a", "b"):
            adapter = header(shared(f"golden/{golden}/{file}.safetensors"))
            widths = {
                key.removesuffix(".lora_up.weight"): (
                    t["shape"][0],
                    adapter[key.replace("lora_up", "lora_down")]["shape"][1],
                )
                for key, t in adapter.items()
                if key.endswith(".lora_up.weight")
            }
            assert recognise_adapter(widths, widths, {}).family == name
