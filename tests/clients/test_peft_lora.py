"""A LoRA that peft saved, merged by us into the model's file, is what peft's merge_and_unload gives.

In float64 on both sides, so that nothing but the order of sums may differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .kit import Client, assert_same
from .peft_models import Case, answer, check


def lora(model: str, *targets: str, **options: Any) -> Case:
    chosen = {"r": 4, "lora_alpha": 6, "target_modules": list(targets), **options}
    return Case(model, "LoraConfig", chosen)


PLAIN = [
    lora("llama", "q_proj", "v_proj"),
    lora("llama", "q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj", "lm_head"),
    lora("qwen", "q_proj"),
    lora("convs", "stem", "point", "deep", "line", "last"),
]

PATTERNS = [
    lora("llama", "q_proj", "v_proj", rank_pattern={"v_proj": 2}),
    lora("llama", "q_proj", "v_proj", alpha_pattern={"layers.1.self_attn.q_proj": 1.5}),
    lora(
        "llama",
        "q_proj",
        "v_proj",
        rank_pattern={r"layers\.\d+\.self_attn\.v_proj": 3},
        alpha_pattern={".*v_proj": 2},
    ),
    # The first pattern in the file decides, which is sorted: here the longer one.
    lora("llama", "q_proj", "v_proj", alpha_pattern={"q_proj": 2, "layers.0.self_attn.q_proj": 9}),
    lora(
        "llama",
        "up_proj",
        "q_proj",
        rank_pattern={"^model.layers.0.mlp.up_proj": 1},
        alpha_pattern={"^q_proj": 99},
    ),
]

SCALED = [
    lora("llama", "q_proj", use_rslora=True),
    lora(
        "llama", "q_proj", "v_proj", use_rslora=True, rank_pattern={"v_proj": 2}, alpha_pattern={"q_proj": 3}
    ),
]

LYING_TRANSPOSED = [
    lora("gpt2", "c_attn", fan_in_fan_out=True),
    lora("gpt2", "c_attn", "c_fc", "c_proj", fan_in_fan_out=True, use_rslora=True),
]

BIASED = [
    lora("qwen", "q_proj", "k_proj", lora_bias=True),
    lora("qwen", "q_proj", bias="lora_only"),
    lora("qwen", "q_proj", bias="all"),
]

WHOLE = [
    lora("llama", "q_proj", modules_to_save=["lm_head"]),
    lora("llama", "q_proj", modules_to_save=["lm_head", "input_layernorm"]),
    lora("qwen", "v_proj", modules_to_save=["q_proj"]),
]

EMBEDDED = [
    lora("llama", "embed_tokens", "q_proj"),
    lora("llama", "embed_tokens", "lm_head", use_rslora=True),
]

DORA = [
    lora("llama", "q_proj", "down_proj", use_dora=True),
    lora("qwen", "q_proj", use_dora=True, use_rslora=True),
    lora("gpt2", "c_attn", fan_in_fan_out=True, use_dora=True),
    lora("convs", "stem", "point", "last", use_dora=True),
    lora("llama", "embed_tokens", use_dora=True),
]


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_a_plain_lora_merges_as_peft_merges_it(case: Case, client: Client) -> None:
    check(case, client)


@pytest.mark.parametrize("case", PATTERNS, ids=str)
def test_rank_and_alpha_patterns_say_of_each_module_what_they_say_in_peft(case: Case, client: Client) -> None:
    check(case, client)


@pytest.mark.parametrize("case", SCALED, ids=str)
def test_rank_stabilised_scales_divide_by_the_root_of_the_rank(case: Case, client: Client) -> None:
    check(case, client)


@pytest.mark.parametrize("case", LYING_TRANSPOSED, ids=str)
def test_fan_in_fan_out_turns_the_delta_as_the_weight_lies(case: Case, client: Client) -> None:
    check(case, client)


@pytest.mark.parametrize("case", BIASED, ids=str)
def test_trained_biases_arrive(case: Case, client: Client) -> None:
    check(case, client)


@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_modules_to_save_take_the_place_of_the_model_s(case: Case, client: Client) -> None:
    check(case, client)


@pytest.mark.parametrize("case", EMBEDDED, ids=str)
def test_an_embedding_s_lora_lies_transposed(case: Case, client: Client) -> None:
    """peft saves the embedding's own weight, too; it loads that first and adds the delta to it."""
    check(case, client)


@pytest.mark.parametrize("case", DORA, ids=str)
def test_dora_scales_each_output_to_its_magnitude(case: Case, client: Client) -> None:
    """Of a convolution peft saves [1, O, 1, 1], which looks like an input's magnitude and is none."""
    check(case, client)


@pytest.mark.parametrize("weight", [0.5, -1.0, 2.0])
def test_a_strength_is_the_same_part_of_peft_s_change(weight: float, client: Client) -> None:
    theirs = answer(lora("llama", "q_proj", "v_proj", rank_pattern={"v_proj": 2}), client.folder)
    ours = client.merged(client.checkpoint(theirs.base), f"{theirs.folder}/", weight)
    expected = {
        key: theirs.base[key] + weight * (value - theirs.base[key]) for key, value in theirs.merged.items()
    }
    assert_same(ours, expected, theirs.base)


def test_a_pickled_folder_is_the_same_as_one_of_safetensors(client: Client) -> None:
    import torch
    from safetensors.torch import load_file

    theirs = answer(lora("llama", "q_proj"), client.folder)
    file = theirs.folder / "adapter_model.safetensors"
    torch.save(load_file(file), theirs.folder / "adapter_model.bin")
    file.unlink()
    ours = client.merged(client.checkpoint(theirs.base), f"{theirs.folder}/")
    assert_same(ours, theirs.merged, theirs.base)


def test_the_file_alone_is_taken_at_scale_one_or_at_the_alpha_that_is_given(client: Client) -> None:
    """Without its configuration a file does not say its alpha: r by default, or what ``alpha:`` says."""
    theirs = answer(lora("llama", "q_proj", "v_proj", lora_alpha=6), client.folder)
    alone = Path(client.folder / "alone.safetensors")
    alone.write_bytes((theirs.folder / "adapter_model.safetensors").read_bytes())
    base = client.checkpoint(theirs.base)
    at_one = {k: theirs.base[k] + (v - theirs.base[k]) * 4 / 6 for k, v in theirs.merged.items()}
    assert_same(client.merged(base, alone), at_one, theirs.base)
    assert_same(client.merged(base, alone, load={"alpha": 6}), theirs.merged, theirs.base)
