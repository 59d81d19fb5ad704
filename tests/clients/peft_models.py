"""Tiny models for peft, and peft's own answer: the folder that it saves and the weights that it merges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .kit import EXACT, Client, assert_same, randomise, state_of, twin

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """One adapter: which model, which of peft's configurations, how closely they must agree.

    ``scale`` says how large the random values are: rotations want small ones.
    """

    model: str
    config: str
    options: Mapping[str, Any]
    tolerance: float = EXACT
    spread: float = 0.3
    floors: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.model}-{self.config.removesuffix('Config')}({told})".replace(" ", "")


@dataclass(frozen=True)
class Answer:
    """What peft made: its folder, the model before, the model after."""

    folder: Path
    base: dict[str, Tensor]
    merged: dict[str, Tensor]


_DECODER: Mapping[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 20,
    "tie_word_embeddings": False,
}


def llama() -> nn.Module:
    """Grouped heads, so that q and k differ in shape; no biases; head and embeddings apart."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_DECODER))


def qwen() -> nn.Module:
    """Biases on q, k and v."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**_DECODER))


def gpt2() -> nn.Module:
    """Weights that lie transposed, [in, out], in transformers' Conv1D."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=20, n_positions=8))


def convs() -> nn.Module:
    """Convolutions of every kind that a LoRA is trained on, in a model of no known family."""
    from torch import nn

    class Convs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(4, 8, 3, padding=1)
            self.point = nn.Conv2d(8, 8, 1)
            self.deep = nn.Conv3d(4, 6, (1, 3, 3))
            self.line = nn.Conv1d(4, 6, 3)
            self.last = nn.Linear(8, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.point(self.stem(x)).mean((2, 3)))

    return Convs()


MODELS: Mapping[str, Callable[[], nn.Module]] = {"llama": llama, "qwen": qwen, "gpt2": gpt2, "convs": convs}


def base_model(name: str) -> nn.Module:
    """The model with random weights, the same each time, in float64."""
    model = MODELS[name]().double().eval()
    randomise(model, seed=1)
    return model


def adapted(case: Case) -> tuple[nn.Module, Any]:
    """The plain model, and peft's around a copy of it, with random values in all that peft trains."""
    import peft

    base = base_model(case.model)
    model = peft.get_peft_model(twin(base), getattr(peft, case.config)(**case.options))
    randomise(model, seed=2, spread=case.spread, only=trained_by(model))
    return base, model


def trained_by(model: nn.Module) -> Callable[[str], bool]:
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    return trained.__contains__


def answer(case: Case, folder: Path) -> Answer:
    """Let peft save the adapter, load it again, and merge it.

    What it loads counts: it sorts patterns as it saves them, so that another one may come first.
    """
    import peft

    base, model = adapted(case)
    model.save_pretrained(folder / "adapter")
    again = peft.PeftModel.from_pretrained(twin(base), folder / "adapter")
    return Answer(folder / "adapter", state_of(base), state_of(again.merge_and_unload()))


def check(case: Case, client: Client) -> None:
    """See that our merge of peft's folder is peft's own."""
    theirs = answer(case, client.folder)
    ours = client.merged(client.checkpoint(theirs.base), f"{theirs.folder}/")
    assert_same(ours, theirs.merged, theirs.base, case.tolerance)
