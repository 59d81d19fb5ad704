"""A folder that we write with ``layout: peft`` is one that peft loads, and merges to what we merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import lorapipe

from .kit import Client, assert_same, state_of
from .peft_models import Case, answer, base_model
from .test_peft_lora import lora

KEPT = [
    lora("llama", "q_proj", "v_proj"),
    lora("llama", "q_proj", "v_proj", "down_proj", rank_pattern={"v_proj": 2}, alpha_pattern={"q_proj": 3}),
    lora("llama", "q_proj", use_rslora=True),
    lora("llama", "q_proj", "lm_head"),
    lora("convs", "stem", "point", "deep", "last"),
    lora("gpt2", "c_attn", "c_fc", fan_in_fan_out=True),
    lora("qwen", "q_proj", "k_proj", lora_bias=True),
    lora("llama", "q_proj", use_dora=True),
    lora("llama", "q_proj", modules_to_save=["lm_head"]),
]


def loaded(model: str, folder: Path) -> dict[str, Any]:
    """What peft makes of the model with our folder; any key that does not fit is an error here."""
    import peft
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    base = base_model(model)
    found = peft.PeftModel.from_pretrained(base, folder)
    fitted = set_peft_model_state_dict(found, load_peft_weights(str(folder)))
    assert fitted.unexpected_keys == []
    assert [key for key in fitted.missing_keys if "lora" in key] == []
    return state_of(found.merge_and_unload())


@pytest.mark.parametrize("case", KEPT, ids=str)
def test_a_folder_read_and_written_is_the_same_adapter_to_peft(case: Case, client: Client) -> None:
    theirs = answer(case, client.folder)
    ours = client.saved(f"{theirs.folder}/", "ours/", layout="peft")
    assert (ours / "adapter_config.json").is_file()
    assert_same(loaded(case.model, ours), theirs.merged, theirs.base)


def test_a_weighted_sum_of_two_folders_is_what_peft_makes_of_both(client: Client) -> None:
    """Ranks and alphas differ from module to module, and q_proj is in both."""
    one = answer(lora("llama", "q_proj", "v_proj", rank_pattern={"v_proj": 2}), client.folder / "1")
    two = answer(lora("llama", "q_proj", "down_proj", r=3, lora_alpha=5), client.folder / "2")
    both = lorapipe.concat([(lorapipe.load(f"{one.folder}/"), 0.7), (lorapipe.load(f"{two.folder}/"), -0.4)])
    ours = lorapipe.save(both, to=f"{client.folder}/both/", layout="peft", dtype="fp32")
    expected = {
        key: before + 0.7 * (one.merged[key] - before) - 0.4 * (two.merged[key] - before)
        for key, before in one.base.items()
    }
    # The factors were rounded to float32 as they were saved.
    assert_same(loaded("llama", ours), expected, one.base, 1e-6)


def test_a_shrunk_adapter_loads_with_another_rank_in_each_module(client: Client) -> None:
    theirs = answer(lora("llama", "q_proj", "v_proj", "down_proj", r=8), client.folder)
    small = lorapipe.svd_resize(lorapipe.load(f"{theirs.folder}/"), rank=8, dynamic={"sv-fro": 0.8})
    ours = lorapipe.save(small, to=f"{client.folder}/small/", layout="peft", dtype="fp32")
    config = json.loads((ours / "adapter_config.json").read_text())
    assert config["rank_pattern"], "all modules came out with one rank: this tests nothing"
    base = client.checkpoint(theirs.base)
    assert_same(loaded("llama", ours), client.merged(base, f"{ours}/"), theirs.base)


def test_a_bare_file_becomes_a_folder(client: Client) -> None:
    """Factors under the model's own paths, as several trainers write them; alpha beside them."""
    import torch

    base = state_of(base_model("llama"))
    generator = torch.Generator().manual_seed(5)
    tensors, expected = {}, dict(base)
    for path, rank in (("model.layers.0.self_attn.q_proj", 4), ("model.layers.1.mlp.up_proj", 2)):
        weight = base[f"{path}.weight"]
        down = torch.randn(rank, weight.shape[1], generator=generator, dtype=torch.float32)
        up = torch.randn(weight.shape[0], rank, generator=generator, dtype=torch.float32)
        tensors |= {
            f"{path}.lora_A.weight": down,
            f"{path}.lora_B.weight": up,
            f"{path}.alpha": torch.tensor(3.0),
        }
        expected[f"{path}.weight"] = weight + 3.0 / rank * (up.double() @ down.double())
    save_file(tensors, client.folder / "bare.safetensors")
    ours = client.saved(client.folder / "bare.safetensors", "ours/", layout="peft")
    assert_same(loaded("llama", ours), expected, base)
