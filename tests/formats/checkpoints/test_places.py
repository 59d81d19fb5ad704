"""Where any layout of a checkpoint keeps the weights of its family's reference layout."""

from __future__ import annotations

import pytest

from lorapipe.architectures import family
from lorapipe.errors import InputError
from lorapipe.formats.checkpoints.places import places, reference_key
from lorapipe.formats.problems import Problems
from lorapipe.weights.specs import Place, TensorSpec

from ..sources import HeaderSource

UNET = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
QKV = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"
LAYER = "text_encoder_2/text_model.encoder.layers.0.self_attn"


def of(tensors: dict[str, TensorSpec], name: str | None) -> dict[str, tuple[Place, ...]]:
    problems = Problems(HeaderSource({}))
    made = places(tensors, None if name is None else family(name), problems)
    problems.check()
    return made


def header(*keys: str, shape: tuple[int, ...] = (6, 4)) -> dict[str, TensorSpec]:
    return {key: TensorSpec("F16", shape) for key in keys}


def test_the_reference_layout_keeps_each_key_where_it_is() -> None:
    keys = (UNET, "model_ema.decay", "first_stage_model.encoder.conv_in.weight")
    assert of(header(*keys), "sd1") == {key: (Place(key),) for key in keys}


def test_a_folders_tensors_are_known_by_their_reference_keys() -> None:
    key = "unet/down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    assert of(header(key, "vae/encoder.conv_in.weight"), "sd1") == {
        UNET: (Place(key),),
        "vae/encoder.conv_in.weight": (Place("vae/encoder.conv_in.weight"),),
    }
    assert reference_key(key, family("sd1")) == UNET
    assert reference_key("vae/x", family("sd1")) == "vae/x"
    assert reference_key(key, None) == key


@pytest.mark.parametrize("order", ["qkv", "vkq", "kqv"])
def test_q_k_and_v_apart_are_rows_of_the_fused_weight_in_any_order(order: str) -> None:
    tensors = {f"{LAYER}.{name}_proj.weight": TensorSpec("F16", (6, 6)) for name in order}
    assert of(tensors, "sdxl") == {
        QKV: tuple(Place(f"{LAYER}.{name}_proj.weight", (6 * n, 6 * n + 6)) for n, name in enumerate("qkv"))
    }


def test_biases_are_rows_of_the_fused_bias() -> None:
    key = f"{LAYER}.v_proj.bias"
    assert of(header(key, shape=(6,)), "sdxl") == {
        QKV.replace("weight", "bias"): (Place(key, (12, 18)),),
    }


def test_swapped_halves_are_two_places_of_one_tensor() -> None:
    key = "transformer/norm_out.linear.weight"
    assert of(header(key, shape=(12, 4)), "flux1") == {
        "final_layer.adaLN_modulation.1.weight": (Place(key, (0, 6), 6), Place(key, (6, 12), 0))
    }


def test_a_transposed_weight_says_so() -> None:
    key = "text_encoder_2/text_projection.weight"
    assert of(header(key), "sdxl") == {
        "conditioner.embedders.1.model.text_projection": (Place(key, transposed=True),)
    }


@pytest.mark.parametrize("wrapper", ["model.diffusion_model.", "diffusion_model.", "net.", ""])
def test_a_wrapper_is_no_part_of_the_key(wrapper: str) -> None:
    key = f"{wrapper}double_blocks.0.img_attn.qkv.weight"
    assert of(header(key), "flux1") == {"double_blocks.0.img_attn.qkv.weight": (Place(key),)}


def test_of_an_unknown_family_every_key_is_its_own() -> None:
    keys = (UNET, "unet/x.weight", "model.layers.0.q_proj.weight")
    assert of(header(*keys), None) == {key: (Place(key),) for key in keys}


@pytest.mark.parametrize(
    "keys",
    [
        (UNET, "unet/down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"),
        (QKV, f"{LAYER}.q_proj.weight"),
    ],
)
def test_a_weight_that_a_file_holds_twice_is_told_with_both(keys: tuple[str, str]) -> None:
    with pytest.raises(InputError) as caught:
        of(header(*keys), "sdxl" if QKV in keys else "sd1")
    assert caught.value.code == "weight-twice"
    told = f"1 weight that it holds twice: {keys[0]} and {keys[1]}"
    assert told[:150] in str(caught.value)
