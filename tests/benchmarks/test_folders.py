"""The folders are what huggingface's programs would have written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from benchmarks.data import Lora
from benchmarks.folders import INDEX, make_llama, make_peft, shard_size
from benchmarks.layouts import tensors

DIVIDE = 32
ADAPTER = Lora("llama", 4, 1, kind="projections", divide=DIVIDE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("model"), DIVIDE)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_peft(tmp_path_factory.mktemp("adapter"), ADAPTER)


def test_a_model_is_three_shards_of_bounded_size_and_an_index_that_is_right(model: Path) -> None:
    index = json.loads((model / INDEX).read_text())
    shards = sorted(path.name for path in model.glob("*.safetensors"))
    assert shards == [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    held = {}
    for name in shards:
        found = load_file(model / name)
        assert sum(array.nbytes for array in found.values()) <= shard_size(DIVIDE)
        held |= {key: (name, array) for key, array in found.items()}
    assert index["weight_map"] == {key: name for key, (name, _) in held.items()}
    assert index["metadata"]["total_size"] == sum(array.nbytes for _, array in held.values())
    assert {key: array.shape for key, (_, array) in held.items()} == {
        key: tensor.shape for key, tensor in tensors("llama", divide=DIVIDE).items()
    }
    assert all(array.dtype == np.float16 and np.isfinite(array).all() for _, array in held.values())


def test_layers_lie_in_the_order_of_their_numbers(model: Path) -> None:
    places = json.loads((model / INDEX).read_text())["weight_map"]
    layers = [places[f"model.layers.{number}.input_layernorm.weight"] for number in range(40)]
    assert layers == sorted(layers)
    assert len(set(layers)) == 3


@pytest.mark.parametrize("divide", [1, 16, DIVIDE])
def test_the_shard_size_makes_three_of_a_model_of_any_size(divide: int) -> None:
    total = sum(2 * int(np.prod(tensor.shape)) for tensor in tensors("llama", divide=divide).values())
    assert 2 < total / shard_size(divide) < 3


def test_the_config_gives_the_shapes_that_transformers_expects(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    shapes = {key: tensor.shape for key, tensor in tensors("llama", divide=DIVIDE).items()}
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    layer = "model.layers.39"
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert shapes["lm_head.weight"] == (config["vocab_size"], hidden)
    assert shapes[f"{layer}.self_attn.q_proj.weight"] == (heads * config["head_dim"], hidden)
    key_rows = config["num_key_value_heads"] * config["head_dim"]
    assert shapes[f"{layer}.self_attn.k_proj.weight"] == (key_rows, hidden)
    assert shapes[f"{layer}.mlp.down_proj.weight"] == (hidden, config["intermediate_size"])
    assert config["num_hidden_layers"] == 40
    assert heads % config["num_key_value_heads"] == 0
    assert not config["tie_word_embeddings"]


def test_an_adapter_is_in_fp32_under_pefts_names(adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    found = load_file(adapter / "adapter_model.safetensors")
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 2)
    assert set(config["target_modules"]) == {
        *(f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down"))
    }
    assert len(found) == 2 * 280
    for key, tensor in tensors("llama", divide=DIVIDE).items():
        if key.endswith("_proj.weight"):
            stem = "base_model.model." + key.removesuffix(".weight")
            up, down = (found[f"{stem}.lora_{part}.weight"] for part in "BA")
            assert up.dtype == down.dtype == np.float32
            assert (up @ down).shape == tensor.shape
            assert np.count_nonzero(up @ down) > 0


def test_folders_are_the_same_each_time_and_differ_by_seed(
    tmp_path: Path, model: Path, adapter: Path
) -> None:
    again = make_llama(tmp_path, DIVIDE), make_peft(tmp_path, ADAPTER)
    for first, second in zip((model, adapter), again, strict=True):
        assert first.name == second.name
        assert [path.read_bytes() for path in sorted(first.iterdir())] == [
            path.read_bytes() for path in sorted(second.iterdir())
        ]
    other = make_peft(tmp_path, Lora("llama", 4, 2, kind="projections", divide=DIVIDE))
    files = [folder / "adapter_model.safetensors" for folder in (adapter, other)]
    assert files[0].read_bytes() != files[1].read_bytes()


def test_a_folder_that_is_there_is_not_made_again_and_a_half_made_one_is_finished(tmp_path: Path) -> None:
    (tmp_path / f"llama-d{DIVIDE}.partial").mkdir()
    made = make_llama(tmp_path, DIVIDE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [made.name]
    (made / "config.json").write_text("kept")
    assert make_llama(tmp_path, DIVIDE) == made
    assert (made / "config.json").read_text() == "kept"
    with safe_open(made / "model-00001-of-00003.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}  # transformers refuses a file that does not say it
