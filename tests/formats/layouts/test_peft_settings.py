"""Ranks and alphas beside the tensors, as PEFT's own matching reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.formats.layouts.peft_settings import CONFIG, HEADER, adapter_config, adapter_metadata
from lorapipe.formats.layouts.table import LAYOUTS
from lorapipe.weights.inference.filed import KOHYA, FileModule, Part, Words
from lorapipe.weights.specs import Form, ModuleId, TensorSpec

PEFT, DIFFUSERS = LAYOUTS["peft"].words, LAYOUTS["diffusers"].words
Modules = Sequence[tuple[FileModule, float | None]]


def module(stem: str, rank: int, words: Words = PEFT, form: Form | None = None) -> FileModule:
    return FileModule(stem, (Part(ModuleId("dit", stem), 0, 8),), (8, 6), rank, words, form=form)


def modules(
    settings: Mapping[str, tuple[int, float]], words: Words = PEFT, prefix: str = "base_model.model."
) -> Modules:
    return [(module(prefix + path, rank, words), alpha) for path, (rank, alpha) in settings.items()]


def as_peft_reads(config: Mapping[str, Any], path: str) -> tuple[float, float] | None:
    """Rank and alpha of a module: targeted by suffix or expression, the first pattern, else the default."""
    targets = config["target_modules"]
    if isinstance(targets, str):
        hit = re.fullmatch(targets, path) is not None
    else:
        hit = any(path == target or path.endswith(f".{target}") for target in targets)

    def value(patterns: Mapping[str, float], default: float) -> float:
        return next((v for key, v in patterns.items() if re.match(rf"(.*\.)?({key})$", path)), default)

    if not hit:
        return None
    return value(config["rank_pattern"], config["r"]), value(config["alpha_pattern"], config["lora_alpha"])


def test_the_config_says_what_is_usual_and_what_differs() -> None:
    config = json.loads(adapter_config(modules({"a.q": (4, 4.0), "a.k": (4, 2.5), "a.v": (8, 4.0)})))
    assert config == {
        "alpha_pattern": {"^a.k": 2.5},
        "auto_mapping": None,
        "base_model_name_or_path": None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": 4,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": 4,
        "rank_pattern": {"^a.v": 8},
        "revision": None,
        "target_modules": ["a.q", "a.k", "a.v"],
        "task_type": None,
        "use_dora": False,
        "use_rslora": False,
    }
    assert CONFIG == "adapter_config.json"


def test_the_text_is_always_the_same() -> None:
    text = adapter_config(modules({"a.q": (4, 4.0)}))
    assert text == adapter_config(modules({"a.q": (4, 4.0)}))
    assert text.endswith(b"}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_a_name_that_ends_another_is_told_exactly() -> None:
    """`proj_out` in a list would also mean `single.0.proj_out`, of a model that this does not know."""
    config = json.loads(adapter_config(modules({"proj_out": (4, 4.0), "x.0.y": (4, 4.0)})))
    assert config["target_modules"] == r"^(?:proj_out|x\.0\.y)$"
    assert as_peft_reads(config, "single.0.proj_out") is None
    assert as_peft_reads(config, "x.0.y") == (4, 4)
    both = json.loads(adapter_config(modules({"a.proj": (4, 4.0), "b.a.proj": (8, 8.0)})))
    assert as_peft_reads(both, "c.a.proj") is None
    assert as_peft_reads(both, "b.a.proj") == (8, 8)


paths = st.lists(st.sampled_from(["a", "b", "q", "0", "1"]), min_size=2, max_size=4).map(".".join)
numbers = st.tuples(st.integers(1, 4), st.sampled_from([1.0, 4.0, 0.30000001192092896]))


@given(st.dictionaries(paths, numbers, min_size=1, max_size=8))
def test_peft_reads_each_modules_own_rank_and_alpha(settings: dict[str, tuple[int, float]]) -> None:
    config = json.loads(adapter_config(modules(settings)))
    assert {path: as_peft_reads(config, path) for path in settings} == settings


def config_of(*held: tuple[FileModule, float | None], turned: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(adapter_config(held, fan_in_fan_out=turned))
    return found


def formed(name: str, **sizes: tuple[int, ...]) -> FileModule:
    tensors = tuple((f".{role.replace('__', '.')}", TensorSpec("F16", size)) for role, size in sizes.items())
    return module("base_model.model.a.q", 0, form=Form(name, tensors))


def test_a_weight_kept_in_out_and_a_dora_and_biases_are_told() -> None:
    usual = modules({"a.q": (4, 4.0)})
    assert config_of(*usual, turned=True)["fan_in_fan_out"] is True
    dora = formed("DoRA", lora_up__weight=(8, 3), lora_down__weight=(3, 6), dora_scale=(8,))
    config = config_of((dora, 6.0))
    assert (config["use_dora"], config["r"], config["lora_alpha"]) == (True, 3, 6)
    config = config_of(*modules({"a.q": (4, 6.0)}), (formed("full difference", diff_b=(8,)), None))
    assert (config["lora_bias"], config["r"], config["target_modules"]) == (True, 4, ["a.q"])
    assert config["lora_alpha"] == 6
    assert "lora_bias" not in config_of(*usual)


def test_whole_parameters_are_named_once_beside_the_modules() -> None:
    saved = replace(formed("full weight", set_weight=(8, 6)), stem="base_model.model.head")
    beside = replace(formed("full weight", set_weight=(8,)), stem="base_model.model.head")
    config = config_of(*modules({"a.q": (4, 4.0)}), (saved, None), (beside, None))
    assert (config["modules_to_save"], config["target_modules"]) == (["head"], ["a.q"])


def test_a_text_encoders_paths_fit_with_and_without_the_level_that_came_to_go() -> None:
    """transformers 5 has no `text_model` in it; diffusers mends the tensors' names and not the header."""
    paths = {"text_model.encoder.layers.0.mlp.fc1": (4, 3.0), "text_model.encoder.layers.0.mlp.fc2": (2, 1.0)}
    told = json.loads(adapter_metadata(modules(paths, DIFFUSERS, "text_encoder."))[HEADER])
    config = {key.removeprefix("text_encoder."): value for key, value in told.items()}
    for path, wanted in paths.items():
        assert (
            as_peft_reads(config, path) == as_peft_reads(config, path.removeprefix("text_model.")) == wanted
        )


def test_a_text_projection_beside_the_layers_fits_as_well() -> None:
    paths = {"text_model.encoder.layers.0.mlp.fc1": (4, 3.0), "text_projection": (4, 4.0)}
    told = json.loads(adapter_metadata(modules(paths, DIFFUSERS, "text_encoder_2."))[HEADER])
    config = {key.removeprefix("text_encoder_2."): value for key, value in told.items()}
    assert as_peft_reads(config, "text_model.encoder.layers.0.mlp.fc1") == (4, 3)
    assert as_peft_reads(config, "encoder.layers.0.mlp.fc1") == (4, 3)
    assert as_peft_reads(config, "text_projection") == (4, 4)
    assert as_peft_reads(config, "encoder.layers.1.mlp.fc1") is None


def test_diffusers_is_told_by_component_and_only_if_an_alpha_is_not_its_rank() -> None:
    usual = {"unet.a.q": (4, 4.0), "text_encoder_2.b.k": (2, 2.0)}
    assert adapter_metadata(modules(usual, DIFFUSERS, "")) == {}
    told = adapter_metadata(modules({**usual, "unet.a.v": (4, 3.0)}, DIFFUSERS, ""))
    assert json.loads(told[HEADER]) == {
        "unet.alpha_pattern": {"^a.v": 3},
        "unet.lora_alpha": 4,
        "unet.r": 4,
        "unet.rank_pattern": {},
        "unet.target_modules": ["a.q", "a.v"],
        "text_encoder_2.alpha_pattern": {},
        "text_encoder_2.lora_alpha": 2,
        "text_encoder_2.r": 2,
        "text_encoder_2.rank_pattern": {},
        "text_encoder_2.target_modules": ["b.k"],
    }


def test_modules_with_an_alpha_of_their_own_need_no_header() -> None:
    assert adapter_metadata(modules({"unet.a.q": (4, 3.0)}, KOHYA, "")) == {}


@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_names_of_no_component_have_bare_fields(prefix: str) -> None:
    told = json.loads(adapter_metadata(modules({"a.q": (4, 3.0)}, DIFFUSERS, prefix))[HEADER])
    assert (told["r"], told["lora_alpha"], told["target_modules"]) == (4, 3, ["a.q"])
