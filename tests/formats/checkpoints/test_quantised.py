"""Scales are found beside their fp8 weights, whoever wrote them; other quantisations are named."""

from __future__ import annotations

import pytest

from lorapipe.errors import InputError
from lorapipe.formats.checkpoints.quantised import quantisation
from lorapipe.weights.specs import Scales, TensorSpec

WEIGHT = TensorSpec("F8_E4M3", (256, 384))


def tensors(**others: TensorSpec) -> dict[str, TensorSpec]:
    named = {"m." + name.replace("__", "."): spec for name, spec in others.items()}
    return {"m.weight": WEIGHT, **named, "m.bias": TensorSpec("BF16", (256,))}


@pytest.mark.parametrize(
    ("name", "shape", "block"),
    [
        ("scale_weight", (), (256, 384)),  # ComfyUI
        ("scale_weight", (1,), (256, 384)),  # ComfyUI, musubi-tuner
        ("scale_weight", (256, 1), (1, 384)),  # musubi-tuner, per row
        ("scale_weight", (256, 6, 1), (1, 64)),  # musubi-tuner, per block of 64
        ("weight_scale", (), (256, 384)),  # ComfyUI since its mixed formats
        ("weight_scale", (256, 1), (1, 384)),  # compressed-tensors, per channel
        ("weight_scale", (256,), (1, 384)),
        ("weight_scale_inv", (2, 3), (128, 128)),  # transformers, fine-grained
    ],
)
def test_the_scales_of_a_weight_are_found(name: str, shape: tuple[int, ...], block: tuple[int, int]) -> None:
    found = quantisation(tensors(**{name: TensorSpec("F32", shape)}))
    assert found.scales == {"m.weight": Scales(f"m.{name}", block)}
    assert found.companions == {f"m.{name}"}
    assert not found.frozen


def test_what_plain_weights_do_not_need_goes_with_the_scales() -> None:
    scale = TensorSpec("F32", ())
    comfy = tensors(scale_weight=scale, scale_input=scale) | {"scaled_fp8": TensorSpec("F8_E4M3", (0,))}
    assert quantisation(comfy).companions == {"m.scale_weight", "m.scale_input", "scaled_fp8"}
    newer = tensors(weight_scale=scale, input_scale=scale, comfy_quant=TensorSpec("U8", (30,)))
    assert quantisation(newer).companions == {"m.weight_scale", "m.input_scale", "m.comfy_quant"}


def test_a_scale_without_an_fp8_weight_is_an_ordinary_tensor() -> None:
    plain = {"m.weight": TensorSpec("BF16", (8, 8)), "m.weight_scale": TensorSpec("F32", ())}
    alone = {"logit.weight_scale": TensorSpec("F32", ())}
    for found in (quantisation(plain), quantisation(alone)):
        assert (found.scales, found.companions, found.frozen) == ({}, frozenset(), {})


@pytest.mark.parametrize("shape", [(2,), (255, 1), (256, 5, 1), (256, 6, 2), (6, 256, 1), (0,)])
def test_scales_that_explain_no_block_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        quantisation(tensors(scale_weight=TensorSpec("F32", shape)), "model.safetensors")
    assert caught.value.code == "scales-do-not-fit"
    assert str(list(shape)) in caught.value.message
    assert "[256, 384]" in caught.value.message


def test_fine_grained_scales_have_blocks_of_128_and_no_others() -> None:
    with pytest.raises(InputError):
        quantisation(tensors(weight_scale_inv=TensorSpec("F32", (4, 6))))


@pytest.mark.parametrize(
    ("others", "name"),
    [
        (("m.qweight", "m.wscales", "m.smooth_factor"), "SVDQuant (Nunchaku)"),
        (("m.qweight", "m.qzeros", "m.scales", "m.g_idx"), "GPTQ or AWQ"),
        (("m.weight.absmax", "m.weight.quant_state.bitsandbytes__nf4"), "bitsandbytes 4-bit"),
        (("m.SCB",), "bitsandbytes int8"),
        (("m.weight_scale", "m.weight_scale_2"), "NVFP4"),
        (("m.weight_packed", "m.weight_scale"), "compressed-tensors"),
    ],
)
def test_other_quantisations_are_named(others: tuple[str, ...], name: str) -> None:
    model = {"m.weight": TensorSpec("U8", (64, 8)), **{o: TensorSpec("F32", (64,)) for o in others}}
    assert quantisation(model).frozen == {"m.weight": name}
    assert quantisation(dict(reversed(model.items()))).frozen == {"m.weight": name}


def test_scaled_int8_is_named_and_not_taken_for_fp8() -> None:
    model = {"m.weight": TensorSpec("I8", (64, 8)), "m.weight_scale": TensorSpec("F32", ())}
    assert quantisation(model).frozen == {"m.weight": "scaled I8"}
