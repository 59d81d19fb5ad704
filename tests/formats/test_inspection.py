"""What a header tells of a file: its spec, and of an adapter its formats and strengths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorapipe.errors import RecipeError
from lorapipe.formats.inspection import inspect_file
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec

from .sources import factors, seeded

STEM = "base_model.model.layers.{}.q_proj"


def peft(n: int, rank: int = 2) -> dict[str, torch.Tensor]:
    made = factors(STEM.format(n), (6, rank), (rank, 5), seed=n)
    return {k.replace("lora_up", "lora_B").replace("lora_down", "lora_A"): v for k, v in made.items()}


def test_modules_are_counted_by_format_and_by_what_tells_their_strength(tmp_path: Path) -> None:
    loha = {
        f"x.hada_w{i}_{s}": seeded(*shape, seed=i)
        for i in (1, 2)
        for s, shape in (("a", (6, 2)), ("b", (2, 5)))
    }
    values = {
        **factors("y", (6, 2), (2, 5), 1.0),
        **factors("z", (6, 2), (2, 5)),
        **loha,
        "x.alpha": torch.tensor(1.0),
    }
    save_file(values, tmp_path / "a.safetensors", {"note": "n"})
    found = inspect_file(tmp_path / "a.safetensors")
    assert isinstance(found.spec, AdapterSpec)
    assert found.forms == {"LoRA": 2, "LoHa": 1}
    assert found.scales == {"alpha in the file": 2, "scale 1": 1}
    assert (found.dtypes, found.metadata) == ({"F32": 10}, {"note": "n"})
    assert found.size == (tmp_path / "a.safetensors").stat().st_size


def test_a_config_tells_the_scales(tmp_path: Path) -> None:
    save_file({**peft(0), **peft(1), **peft(2, rank=4)}, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {"layers.2.q_proj": 4}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert inspect_file(tmp_path).scales == {"scale 2 by its config": 2, "scale 1 by its config": 1}


def test_a_checkpoint_has_neither(tmp_path: Path) -> None:
    save_file({"x.weight": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    found = inspect_file(tmp_path / "a.safetensors")
    assert isinstance(found.spec, CheckpointSpec)
    assert found.forms == found.scales == {}


def test_advice_is_for_the_command_line(tmp_path: Path) -> None:
    save_file(factors("lora_unet_mid_block_attentions_0_proj_in", (6, 2), (2, 6)), tmp_path / "a.safetensors")
    with pytest.raises(RecipeError) as caught:
        inspect_file(tmp_path / "a.safetensors")
    assert caught.value.hint is not None
    assert "--family" in caught.value.hint
