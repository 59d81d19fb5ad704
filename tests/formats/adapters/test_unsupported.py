"""Adapters that are not read are refused by the names that people know them by."""

from __future__ import annotations

import pytest

from lorapipe.formats.adapters.unsupported import Unsupported, unsupported, unsupported_method

WHERE = "base_model.model.model.layers.0.q_proj"


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".hira_A.weight", "HiRA"),
        (".hira_B.default.weight", "HiRA"),
        (".vera_lambda_b", "VeRA"),
        (".vera_lambda_d.default", "VeRA"),
        (".road_theta", "RoAd"),
        (".hra_u", "HRA"),
        (".c3a_kernel", "C3A"),
        (".miss_block", "MiSS"),
        (".bone_block", "Bone"),
        (".lora_E", "AdaLoRA"),
        (".ranknum", "AdaLoRA"),
        (".vblora_logits_A", "VB-LoRA"),
        (".fourierft_spectrum", "FourierFT"),
        (".randlora_gamma", "RandLoRA"),
        (".shira_weight", "SHiRA"),
        (".delora_lambda", "DeLoRA"),
        (".trainable_tokens_delta", "trainable tokens"),
    ],
)
def test_methods_of_peft_are_known_by_name(suffix: str, kind: str) -> None:
    assert unsupported(WHERE + suffix) == unsupported_method(WHERE + suffix) == Unsupported(kind, WHERE)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".lora_up.weight.absmax", "a quantised LoRA"),
        (".lora_A.weight.quant_map", "a quantised LoRA"),
        (".qweight", "a quantised LoRA"),
        (".lora_up", "Nunchaku's packed LoRA"),
        (".lora_down", "Nunchaku's packed LoRA"),
    ],
)
def test_packed_numbers_are_no_method_and_may_be_a_checkpoints(suffix: str, kind: str) -> None:
    found = unsupported(WHERE + suffix)
    assert found is not None
    assert found.kind == kind
    assert unsupported_method(WHERE + suffix) is None


@pytest.mark.parametrize("name", ["prompt_embeddings", "lora_controlnet"])
def test_a_name_alone_has_no_module(name: str) -> None:
    found = unsupported(name)
    assert found is not None
    assert found.stem == ""


@pytest.mark.parametrize(
    "name",
    [
        "road.weight",
        "model.poly.bias",
        "shadow_A",
        "x.bone.weight",
        "vera",
        "x.lora_A.weight",
        "",
        "a.b.c.d.e",
    ],
)
def test_models_have_such_words_too(name: str) -> None:
    assert unsupported(name) is None


def test_only_the_end_of_a_name_tells() -> None:
    assert unsupported("vera_lambda_b.x.y.z.weight") is None
