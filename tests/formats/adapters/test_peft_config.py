"""PEFT's settings: the scale of each module as PEFT computes it, and what is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest

from lorapipe.errors import InputError
from lorapipe.formats.adapters.peft_config import Configs, PeftConfig, read_configs

from ..sources import HeaderSource

LORA = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}


class Folder(HeaderSource):
    """A source as a PEFT folder gives it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__({})
        self.config = config


def of_folder(**changed: Any) -> PeftConfig:
    configs = read_configs(Folder({**LORA, **changed}))
    assert configs is not None
    assert configs.of_folder
    return configs.parts[""]


def of_header(fields: Mapping[str, Any]) -> Configs:
    configs = read_configs(HeaderSource({}, {"lora_adapter_metadata": json.dumps(fields)}))
    assert configs is not None
    assert not configs.of_folder
    return configs


@pytest.mark.parametrize(
    ("changed", "path", "rank", "scale"),
    [
        ({}, "model.layers.0.q_proj", 8, 2.0),
        ({"lora_alpha": 4}, "q_proj", 8, 0.5),
        ({"lora_alpha": 2.5, "r": 4}, "q_proj", 4, 0.625),
        ({"use_rslora": True}, "q_proj", 8, 16 / math.sqrt(8)),
        ({"rank_pattern": {"q_proj": 4}}, "a.q_proj", 4, 4.0),
        ({"rank_pattern": {"q_proj": 4}}, "a.k_proj", 8, 2.0),
        ({"alpha_pattern": {"^a.q_proj": 2}}, "a.q_proj", 8, 0.25),
        ({"alpha_pattern": {"^a.q_proj": 2}}, "b.a.q_proj", 8, 2.0),
        (
            {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"a.q_proj": 1}, "use_rslora": True},
            "a.q_proj",
            4,
            0.5,
        ),
        ({"rank_pattern": {r"layers\.[0-3]\..*": 2, "q_proj": 4}}, "layers.2.q_proj", 2, 8.0),
        ({"rank_pattern": None, "alpha_pattern": None}, "q_proj", 8, 2.0),
        ({"lora_alpha": -8}, "q_proj", 8, -1.0),
        ({"peft_type": "LOHA", "alpha": 4}, "q_proj", 8, 0.5),
        ({"peft_type": "LOKR", "alpha": 2, "rank_pattern": {"q_proj": 4}}, "q_proj", 4, 0.5),
    ],
)
def test_each_modules_scale_is_what_peft_computes(
    changed: Mapping[str, Any], path: str, rank: int, scale: float
) -> None:
    config = of_folder(**changed)
    assert config.rank(path) == rank
    assert config.scale(path) == scale


@pytest.mark.parametrize("method", ["OFT", "BOFT", "IA3"])
def test_methods_without_alpha_have_no_scale(method: str) -> None:
    assert of_folder(peft_type=method, r=0).scale("q_proj") is None


def test_what_is_left_out_has_pefts_defaults() -> None:
    configs = read_configs(Folder({"peft_type": "LORA"}))
    assert configs is not None
    config = configs.parts[""]
    assert (config.rank("x"), config.scale("x"), config.dora, config.transposed) == (8, 1.0, False, False)


@pytest.mark.parametrize(
    ("modules", "path", "acts"),
    [
        (["down_proj"], "layers.0.mlp.down_proj", True),
        (["down_proj"], "layers.0.q_proj", False),
        (r".*\.mlp\.\w+", "layers.0.mlp.up_proj", True),
        (r".*\.mlp\.\w+", "layers.0.q_proj", False),
        (None, "layers.0.q_proj", False),
        ([], "layers.0.q_proj", False),
    ],
)
def test_the_side_on_which_ia3_acts_is_the_modules_own(modules: Any, path: str, acts: bool) -> None:
    settings = of_folder(peft_type="IA3", feedforward_modules=modules).settings(path)
    assert settings["feedforward"] is acts


def test_settings_are_the_fields_with_the_modules_own_rank() -> None:
    settings = of_folder(peft_type="OFT", coft=True, eps=1e-4).settings("x")
    assert (settings["coft"], settings["eps"], settings["peft_type"]) == (True, 1e-4, "OFT")
    assert of_folder(rank_pattern={"x": 2}).settings("x")["r"] == 2


# ---- what diffusers writes ---------------------------------------------------------------------------


def test_a_header_has_settings_for_each_component() -> None:
    configs = of_header({
        "unet.r": 4, "unet.lora_alpha": 2, "unet.rank_pattern": {"^mid.to_q": 2},
        "unet.alpha_pattern": {"mid.to_q": 4}, "text_encoder.r": 4,
        "text_encoder.lora_alpha": 8, "text_encoder_2.lora_alpha": 8,
    })  # fmt: skip
    found = {}
    for stem in ("unet.mid.to_q", "unet.mid.to_k", "text_encoder.x", "text_encoder_2.x"):
        known = configs.of(stem)
        assert known is not None
        found[stem] = (known[1], known[0].scale(known[1]))
    assert found == {
        "unet.mid.to_q": ("mid.to_q", 2.0),
        "unet.mid.to_k": ("mid.to_k", 0.5),
        "text_encoder.x": ("x", 2.0),
        "text_encoder_2.x": ("x", 1.0),
    }
    assert configs.of("transformer.x") is None


def test_a_header_without_components_speaks_of_all() -> None:
    known = of_header({"r": 4, "lora_alpha": 2}).of("blocks.0.to_q")
    assert known is not None
    assert (known[0].scale("blocks.0.to_q"), known[1]) == (0.5, "blocks.0.to_q")


def test_a_file_without_settings_has_none() -> None:
    assert read_configs(HeaderSource({}, {"format": "pt"})) is None


# ---- faults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"peft_type": "VERA"}, "'peft_type' VERA"),
        ({"layer_replication": [[0, 4], [2, 6]]}, "'layer_replication': layers that stand for several"),
        ({"target_parameters": ["experts"]}, "'target_parameters': parameters in place of modules"),
        ({"trainable_token_indices": [1]}, "'trainable_token_indices': single rows of an embedding"),
        (
            {"alora_invocation_tokens": [1]},
            "'alora_invocation_tokens': a LoRA that acts after certain words only",
        ),
        ({"use_qalora": True}, "'use_qalora': QA-LoRA"),
        (
            {"init_lora_weights": "pissa"},
            "'init_lora_weights' pissa: it adds to a model that was changed first",
        ),
        ({"init_lora_weights": "pissa_niter_4"}, "'init_lora_weights' pissa_niter_4"),
        ({"init_lora_weights": "CorDA"}, "'init_lora_weights' CorDA"),
        ({"init_lora_weights": "olora"}, "'init_lora_weights' olora"),
        ({"init_lora_weights": "loftq"}, "'init_lora_weights' loftq"),
    ],
)
def test_what_changes_the_meaning_of_tensors_is_refused_by_name(
    changed: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        of_folder(**changed)
    assert caught.value.code == "config-unsupported"
    assert f"its adapter_config.json has {said}" in str(caught.value)
    assert caught.value.hint is not None


@pytest.mark.parametrize("start", [True, False, "gaussian", "eva", "orthogonal", None])
def test_beginnings_that_leave_the_model_alone_are_no_matter(start: Any) -> None:
    assert of_folder(init_lora_weights=start).scale("x") == 2.0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"peft_type": None}, "it has no 'peft_type'"),
        ({"r": 0}, "'r' is 0"),
        ({"r": -4}, "'r' is -4"),
        ({"r": 4.5}, "'r' is 4.5"),
        ({"r": True}, "'r' is True"),
        ({"r": "8"}, "'r' is 8"),
        ({"r": None}, "'r' is None"),
        ({"lora_alpha": 0}, "'lora_alpha' is 0"),
        ({"lora_alpha": math.nan}, "'lora_alpha' is nan"),
        ({"lora_alpha": math.inf}, "'lora_alpha' is inf"),
        ({"lora_alpha": [1]}, "'lora_alpha' is [1]"),
        ({"rank_pattern": {"x": 0}}, "'rank_pattern' is 0"),
        ({"rank_pattern": ["x"]}, "'rank_pattern' is no object"),
        ({"alpha_pattern": {"x": "much"}}, "'alpha_pattern' is much"),
        ({"alpha_pattern": {"(a+)+": 1}}, "the pattern '(a+)+' could match in too many ways"),
    ],
)
def test_what_peft_could_not_have_written_is_refused(changed: Mapping[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        of_folder(**changed)
    assert str(caught.value) == (
        f"error: its adapter_config.json is not PEFT's: {said} - copy or download it again"
    )
    assert caught.value.code == "config-unsound"


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"unet.r": 0}'])
def test_a_header_that_says_nothing_sensible_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_configs(HeaderSource({}, {"lora_adapter_metadata": text}))
    assert caught.value.code == "config-unsound"
    assert "its lora_adapter_metadata is not PEFT's" in str(caught.value)
