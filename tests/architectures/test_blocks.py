"""The blocks of a family, and the lists of numbers that people write for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lorapipe.architectures import families, family, numbered_part

from .toy import toy_family

Shared = Callable[[str], Path]

# The lists as reference/formats.md has them, section 3.
IN, OUT = [f"IN{n:02}" for n in range(12)], [f"OUT{n:02}" for n in range(12)]
LBW = {
    26: ["BASE", *IN, "MID", *OUT],
    17: ["BASE", *(IN[n] for n in (1, 2, 4, 5, 7, 8)), "MID", *OUT[3:]],
    12: ["BASE", *(IN[n] for n in (4, 5, 7, 8)), "MID", *OUT[:6]],
    20: ["BASE", *IN[:9], "MID", *OUT[:9]],
    25: [*IN, "MID", *OUT],
    61: ["CLIP", "T5", "IN", *(f"D{n:02}" for n in range(19)), *(f"S{n:02}" for n in range(38)), "OUT"],
}


def modules_of(shared: Shared, name: str) -> Mapping[str, Any]:
    """The trainer's modules of a real model: name, key, shape."""
    modules: Mapping[str, Any] = json.loads(shared(f"layouts/{name}.lora-map.json").read_text())["modules"]
    return modules


def block(name: str, stem: str) -> str:
    known = family(name)
    target = known.lookup(stem)
    assert target is not None
    return known.blocks.of(target.component, target.key)


# --- the numbering of peers ---------------------------------------------------------------


def by_diffusers_path(stem: str) -> str | None:
    """The block of an SD1 module by its diffusers path, as the scripts count: svd_merge_lora.py."""
    if stem.startswith("lora_te_"):
        return "BASE"
    if "mid_block" in stem:
        return "MID"
    found = re.match(r"lora_unet_(down|up)_blocks_(\d+)_([a-z]+)_(\d+)", stem)
    if found is None:
        return None
    side, i, part, j = found[1], int(found[2]), found[3], int(found[4])
    if part == "downsamplers":
        return IN[3 * (i + 1)]
    if part == "upsamplers":
        return OUT[3 * i + 2]
    return IN[1 + 3 * i + j] if side == "down" else OUT[3 * i + j]


@pytest.mark.parametrize(("layout", "name"), [("sd15", "sd1"), ("sd21", "sd2")])
def test_sd_modules_are_where_block_weights_count_them(shared: Shared, layout: str, name: str) -> None:
    found = {stem: block(name, stem) for stem in modules_of(shared, layout)}
    assert found == {stem: by_diffusers_path(stem) for stem in found}
    assert set(found.values()) == set(LBW[26]) - {"IN00"}


def test_sdxl_modules_are_where_block_weights_count_them(shared: Shared) -> None:
    def counted(stem: str) -> str:
        found = re.match(r"lora_unet_(input|middle|output)_blocks?(?:_(\d+))?", stem)
        if found is None:
            return "BASE"
        return "MID" if found[1] == "middle" else f"{found[1][:-3].upper()}{int(found[2]):02}"

    found = {stem: block("sdxl", stem) for stem in modules_of(shared, "sdxl")}
    assert found == {stem: counted(stem) for stem in found}
    assert set(found.values()) == set(LBW[20]) - {"IN00"}


@pytest.mark.parametrize("name", ["sdxl.lora-map-diffusers-path", "sdxl.lora-map"])
def test_two_namings_of_a_model_are_of_the_same_blocks(shared: Shared, name: str) -> None:
    modules = json.loads(shared(f"layouts/{name}.json").read_text())["modules"]
    for stem, (key, *_) in modules.items():
        known = family("sdxl")
        place = known.place(key)
        assert place is not None
        assert block("sdxl", stem) == known.blocks.of(place.component, place.key)


def test_flux_modules_are_where_block_weights_count_them(shared: Shared) -> None:
    def counted(stem: str) -> str:
        found = re.match(r"lora_unet_(double|single)_blocks_(\d+)_", stem)
        if found is not None:
            return f"{found[1][0].upper()}{int(found[2]):02}"
        return "OUT" if "final_layer" in stem else "IN"

    found = {stem: block("flux1", stem) for stem in modules_of(shared, "flux1-dev")}
    assert found == {stem: counted(stem) for stem in found}
    assert set(LBW[61]) - set(found.values()) <= {"OUT", "CLIP", "T5"}
    assert block("flux1", "lora_te1_text_model_encoder_layers_0_mlp_fc1") == "CLIP"
    assert block("flux1", "lora_te3_encoder_block_5_layer_1_DenseReluDense_wo") == "T5"
    assert block("flux1", "lora_unet_final_layer_linear") == "OUT"


@pytest.mark.parametrize(
    ("name", "lengths"), [("sd1", {17, 25, 26}), ("sd2", {17, 25, 26}), ("sdxl", {12, 20}), ("flux1", {61})]
)
def test_lists_are_those_of_the_field(name: str, lengths: set[int]) -> None:
    blocks = family(name).blocks
    assert {length: list(names) for length, names in blocks.lists.items()} == {n: LBW[n] for n in lengths}


def test_a_list_names_blocks_of_its_family_and_a_preset_has_a_lists_length() -> None:
    for name in families():
        blocks = family(name).blocks
        assert all(set(names) <= set(blocks.names) for names in blocks.lists.values())
        assert all(len(values) in blocks.lists for values in blocks.presets.values())
        assert set(blocks.also.values()) <= set(blocks.names)
        assert not set(blocks.also) & set(blocks.names)


def test_presets_are_lbws() -> None:
    presets = family("sd1").blocks.presets
    assert list(presets) == [
        "NONE", "ALL", "INS", "IND", "INALL", "MIDD", "OUTD", "OUTS", "OUTALL", "ALL0.5"
    ]  # fmt: skip
    ones = {name: [b for b, v in zip(LBW[17], values, strict=True) if v] for name, values in presets.items()}
    assert ones["NONE"] == []
    assert ones["ALL"] == ones["ALL0.5"] == LBW[17]
    assert ones["IND"] == ["BASE", "IN05", "IN07", "IN08"]
    assert ones["OUTS"] == ["BASE", *OUT[7:]]
    assert set(presets["ALL0.5"]) == {0.5}


# --- families without such a numbering ----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stem", "expected"),
    [
        ("wan", "lora_unet_blocks_7_self_attn_q", "blocks.7"),
        ("wan", "diffusion_model.vace_blocks.3.self_attn.q", "vace_blocks.3"),
        ("wan", "lora_unet_patch_embedding", "patch_embedding"),
        ("qwen-image", "lora_unet_transformer_blocks_12_attn_to_q", "transformer_blocks.12"),
        ("sd3", "lora_unet_joint_blocks_23_x_block_attn_qkv", "joint_blocks.23"),
        ("sd3", "lora_unet_joint_blocks_4_x_block_attn2_qkv", "joint_blocks.4"),
        ("sd3", "lora_te1_text_model_encoder_layers_3_mlp_fc1", "te1.layers.3"),
        ("sd3", "lora_te3_encoder_block_5_layer_1_DenseReluDense_wo", "te3.block.5"),
        ("lumina2", "lora_unet_layers_3_attention_qkv", "layers.3"),
        ("lumina2", "lora_unet_noise_refiner_1_attention_qkv", "noise_refiner.1"),
        ("lumina2", "lora_te_layers_3_mlp_up_proj", "te.layers.3"),
        ("z-image", "lora_unet_layers_29_attention_to_k", "layers.29"),
        ("hunyuan-video", "lora_unet_double_blocks_3_img_attn_qkv", "double_blocks.3"),
        ("hunyuan-video", "lora_unet_final_layer_linear", "final_layer"),
        ("flux2-dev", "lora_unet_single_blocks_47_linear1", "single_blocks.47"),
        ("chroma", "lora_unet_single_blocks_7_linear1", "S07"),
        ("sdxl", "lora_te2_text_model_encoder_layers_31_mlp_fc1", "BASE"),
    ],
)
def test_a_block_is_called_as_the_models_own_names_count_it(name: str, stem: str, expected: str) -> None:
    assert block(name, stem) == expected
    assert expected in family(name).blocks.names


def test_both_halves_and_all_namings_of_a_fused_weight_are_in_one_block() -> None:
    known = family("flux1")
    target = known.lookup("transformer.transformer_blocks.3.attn.to_q")
    assert target is not None
    assert known.blocks.of(target.component, target.key) == "D03"
    bias = target.bias
    assert bias is not None
    assert known.blocks.of(bias.component, bias.key) == "D03"


@pytest.mark.parametrize("name", families())
def test_every_module_has_a_block_and_no_two_components_share_one_but_by_the_table(name: str) -> None:
    known = family(name)
    named = {text for found in known._table.components.values() for text in found.blocks}
    homes: dict[str, set[str]] = {}
    for target in known.targets():
        one = known.blocks.of(target.component, target.key)
        assert one
        homes.setdefault(one, set()).add(target.component)
    assert set(homes) == set(known.blocks.names)
    assert all(len(where) == 1 or one in named for one, where in homes.items())


@pytest.mark.parametrize("name", families())
def test_the_main_models_blocks_come_in_its_order(name: str) -> None:
    numbered = [re.match(r"(.*?)(\d+)$", block) for block in family(name).blocks.names]
    last: dict[str, int] = {}
    for found in filter(None, numbered):
        assert int(found[2]) == last.get(found[1], -1) + 1 or found[1] in ("T", "te")
        last[found[1]] = int(found[2])


# --- the table's language -----------------------------------------------------------------

ROWS = """
- {path: first, kind: linear}
- each: {n: 0..2}
  path: parts.{n}
  modules:
  - {path: inner.0.q, kind: linear}
- path: outer
  modules:
  - {each: {n: 0..1}, path: 'tail.{n}', part: leaf}
  - {path: mlp.0, kind: linear}
"""
PART = "parts:\n  leaf:\n  - {path: q, kind: linear}\n"


def test_the_outermost_numbered_row_with_modules_is_a_block() -> None:
    known = toy_family(ROWS, PART)
    assert known.blocks.names == ("first", "parts.0", "parts.1", "parts.2", "tail.0", "tail.1", "outer")


def test_a_table_says_lists_presets_and_other_names() -> None:
    lists = "block-lists:\n  lists: [[IN00..02, LAST], [LAST]]\n  presets: {P: [0.5]}\n  also: {L: LAST}\n"
    known = toy_family(ROWS, PART + lists)
    assert dict(known.blocks.lists) == {4: ("IN00", "IN01", "IN02", "LAST"), 1: ("LAST",)}
    assert dict(known.blocks.presets) == {"P": (0.5,)}
    assert dict(known.blocks.also) == {"L": "LAST"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.layers.3.self_attn.q_proj.weight", "layers.3"),
        ("transformer.h.11.attn.c_attn.weight", "h.11"),
        ("model.layers.3.mlp.experts.7.up_proj.weight", "layers.3"),
        ("lm_head.weight", ""),
        ("lora_unet_blocks_3_q", ""),
        ("0.weight", ""),
        ("a.1.2.weight", "a.1"),
    ],
)
def test_a_module_of_no_known_family_is_in_the_first_part_with_a_number(name: str, expected: str) -> None:
    assert numbered_part(name) == expected
