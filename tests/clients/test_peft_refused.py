"""What peft can train and we cannot merge is refused by its name, never taken for something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import lorapipe
from lorapipe.errors import LorapipeError

from .kit import Client
from .peft_models import Case, adapted

TARGETS = ["q_proj", "v_proj"]

# What peft calls it, what its configuration needs, the word that the refusal must have.
REFUSED = [
    ("AdaLora", {"init_r": 4, "target_r": 2, "total_step": 10}, "adalora"),
    ("Vera", {"r": 4}, "vera"),
    ("Road", {"group_size": 4}, "road"),
    ("HRA", {"r": 4}, "hra"),
    ("C3A", {"block_size": 4}, "c3a"),
    ("Miss", {"r": 4}, "miss"),
    ("FourierFT", {"n_frequency": 8}, "fourierft"),
    ("LNTuning", {"target_modules": ["input_layernorm"]}, "ln_tuning"),
]


def refusal(call: Any) -> str:
    with pytest.raises(LorapipeError) as caught:
        call()
    found = caught.value.parts
    return " ".join(f"{error.message} {error.hint}" for error in found).lower()


@pytest.mark.parametrize(("kind", "options", "word"), REFUSED, ids=[kind for kind, *_ in REFUSED])
def test_an_adapter_of_another_kind_is_refused_by_name(
    kind: str, options: Mapping[str, Any], word: str, client: Client
) -> None:
    _, model = adapted(Case("llama", f"{kind}Config", {"target_modules": TARGETS, **options}))
    model.save_pretrained(client.folder / "adapter")
    assert word in refusal(lambda: lorapipe.load(f"{client.folder}/adapter/"))


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_an_adapter_that_changed_its_base_is_refused(start: str, client: Client) -> None:
    """Trained from the base's own singular vectors: its delta is not B A, but B A less where it began."""
    case = Case("llama", "LoraConfig", {"r": 4, "target_modules": TARGETS, "init_lora_weights": start})
    import peft

    from .peft_models import base_model

    model = peft.get_peft_model(base_model("llama").float(), peft.LoraConfig(**case.options))
    model.save_pretrained(client.folder / "adapter")
    assert start in refusal(lambda: lorapipe.load(f"{client.folder}/adapter/"))


def test_layers_that_an_adapter_repeats_are_refused(client: Client) -> None:
    options = {"r": 4, "target_modules": TARGETS, "layer_replication": [[0, 2], [1, 2]]}
    _, model = adapted(Case("llama", "LoraConfig", options))
    model.save_pretrained(client.folder / "adapter")
    assert "layer_replication" in refusal(lambda: lorapipe.load(f"{client.folder}/adapter/"))
