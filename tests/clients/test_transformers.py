"""Language models in transformers' folders: shards and index in and out, loaded by transformers.

The LoRA is a bare file under the model's own paths, so that these tests need peft no more than its users do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import lorapipe

from .kit import Client, assert_same, randomise, state_of

PATHS = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj", "lm_head", "model.embed_tokens")


def model(**options: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    chosen = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 20,
        "tie_word_embeddings": False,
        **options,
    }
    made = LlamaForCausalLM(LlamaConfig(**chosen)).double().eval()
    randomise(made, seed=1)
    return made


def opened(folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    """What transformers loads from a folder; it would make up what is missing, which is an error here."""
    from transformers import AutoModelForCausalLM

    found, info = AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, dtype="auto", **options
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return state_of(found)


def bare_lora(base: dict[str, torch.Tensor], folder: Path, paths: tuple[str, ...] = PATHS[:2]) -> Path:
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    for path in paths:
        out, width = base[f"{path}.weight"].shape
        tensors[f"{path}.lora_A.weight"] = torch.randn(3, width, generator=generator)
        tensors[f"{path}.lora_B.weight"] = torch.randn(out, 3, generator=generator)
    save_file(tensors, folder / "lora.safetensors")
    return folder / "lora.safetensors"


def with_lora(base: dict[str, torch.Tensor], lora: Path) -> dict[str, torch.Tensor]:
    """The sum by hand, in float64."""
    from safetensors.torch import load_file

    tensors = load_file(lora)
    changed = dict(base)
    for key, down in tensors.items():
        if "lora_A" in key:
            path = key.removesuffix(".lora_A.weight")
            delta = tensors[f"{path}.lora_B.weight"].double() @ down.double()
            changed[f"{path}.weight"] = base[f"{path}.weight"] + delta
    return changed


def merged(folder: Path, lora: Path, to: str, **options: Any) -> Path:
    value = lorapipe.merge_into_checkpoint(
        lorapipe.load(f"{folder}/", as_="checkpoint"), [lorapipe.load(lora)]
    )
    return lorapipe.save(value, to=to, **options)


@pytest.mark.parametrize("shards", ["10KB", "1MB"])
def test_a_folder_of_transformers_comes_out_as_one_that_it_loads(shards: str, client: Client) -> None:
    made = model()
    made.save_pretrained(client.folder / "base", max_shard_size=shards)
    assert (client.folder / "base/model.safetensors.index.json").is_file() == (shards == "10KB")
    base = state_of(made)
    lora = bare_lora(base, client.folder)
    out = merged(client.folder / "base", lora, f"{client.folder}/out/")
    assert_same(opened(out), with_lora(base, lora), base)


def test_shards_of_the_size_that_was_asked_for(client: Client) -> None:
    made = model()
    made.save_pretrained(client.folder / "base")
    base = state_of(made)
    lora = bare_lora(base, client.folder)
    out = merged(client.folder / "base", lora, f"{client.folder}/out/", shard_size="10KB")
    index = json.loads((out / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in out.glob("*.safetensors"))
    assert sorted(set(index["weight_map"].values())) == files
    assert len(files) > 2
    assert index["metadata"]["total_size"] == sum(v.numel() * v.element_size() for v in base.values())
    # A shard is over its size only where one tensor alone is.
    largest = max(v.numel() * v.element_size() for v in base.values())
    assert all(path.stat().st_size < max(10_000, largest) + 4096 for path in out.glob("*.safetensors"))
    assert_same(opened(out), with_lora(base, lora), base)


def test_a_folder_s_other_files_come_along(client: Client) -> None:
    made = model()
    made.save_pretrained(client.folder / "base")
    (client.folder / "base/tokenizer.json").write_text('{"kept": true}')
    out = merged(client.folder / "base", bare_lora(state_of(made), client.folder), f"{client.folder}/out/")
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        assert (out / name).read_bytes() == (client.folder / "base" / name).read_bytes()


def test_pickled_shards_are_read(client: Client) -> None:
    made = model()
    base = state_of(made)
    folder = client.folder / "base"
    made.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    halves = [dict(list(base.items())[::2]), dict(list(base.items())[1::2])]
    names = [f"pytorch_model-{i + 1:05d}-of-00002.bin" for i in range(2)]
    for name, half in zip(names, halves, strict=True):
        torch.save(half, folder / name)
    weight_map = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    lora = bare_lora(base, client.folder)
    out = merged(folder, lora, f"{client.folder}/out/")
    assert_same(opened(out), with_lora(base, lora), base)


def test_tied_weights_stay_tied(client: Client) -> None:
    """The file has the embedding alone; a LoRA on it changes the head with it, as in the model."""
    made = model(tie_word_embeddings=True)
    made.save_pretrained(client.folder / "base")
    base = state_of(made)
    assert "lm_head.weight" not in base
    lora = bare_lora(base, client.folder, PATHS[3:])
    out = merged(client.folder / "base", lora, f"{client.folder}/out/")
    assert_same(opened(out), with_lora(base, lora), base)


def test_half_types_are_rounded_once(client: Client) -> None:
    made = model().bfloat16()
    made.save_pretrained(client.folder / "base", max_shard_size="5KB")
    base = state_of(made)
    lora = bare_lora(base, client.folder)
    out = opened(merged(client.folder / "base", lora, f"{client.folder}/out/"))
    exact = with_lora({key: value.double() for key, value in base.items()}, lora)
    for key, value in exact.items():
        assert out[key].dtype == torch.bfloat16
        torch.testing.assert_close(out[key], value.bfloat16(), rtol=0, atol=0)
