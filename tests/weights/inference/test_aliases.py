"""What names may mean in a checkpoint of no known family: the key that is plain, or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.weights.inference.aliases import Aliases


@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.blocks.3.attn.to_q.weight",
        "model.diffusion_model.blocks.3.attn.to_q",
        "diffusion_model.blocks.3.attn.to_q",
        "transformer.blocks.3.attn.to_q",
        "unet.blocks.3.attn.to_q",
        "blocks.3.attn.to_q",
        "blocks.3.attn.to_q.weight",
        "transformer.blocks.3.attn.to_q.weight",
        "lora_unet_blocks_3_attn_to_q",
        "lora_transformer_blocks_3_attn_to_q",
        "lycoris_blocks_3_attn_to_q",
        "lora_blocks_3_attn_to_q",
    ],
)
@pytest.mark.parametrize(
    "wrapper", ["model.diffusion_model.", "diffusion_model.", "net.", "unet/", "transformer/", ""]
)
def test_trainers_names_mean_the_weight_in_every_wrapper(name: str, wrapper: str) -> None:
    key = f"{wrapper}blocks.3.attn.to_q.weight"
    others = [f"{wrapper}blocks.{n}.attn.to_{c}.weight" for n in range(5) for c in "kv"]
    assert Aliases([*others, key]).find(name) == (key,)


def test_a_bias_is_meant_by_its_own_name_only() -> None:
    known = Aliases(["blocks.0.q.weight", "blocks.0.q.bias"])
    assert known.find("lora_unet_blocks_0_q.bias") == ("blocks.0.q.bias",)
    assert known.find("lora_unet_blocks_0_q") == ("blocks.0.q.weight",)


def test_a_key_as_it_is_goes_before_what_it_could_be_read_as() -> None:
    known = Aliases(["lora_unet_q", "q.weight"])
    assert known.find("lora_unet_q") == ("lora_unet_q",)


def test_dots_go_before_underscores() -> None:
    known = Aliases(["a.b_c.weight", "a.b.c.weight"])
    assert known.find("transformer.a.b_c") == ("a.b_c.weight",)
    assert known.find("transformer.a.b.c") == ("a.b.c.weight",)


def test_what_could_be_two_weights_is_told_as_two() -> None:
    known = Aliases(["a.b_c.weight", "a_b.c.weight", "x.weight"])
    assert known.find("lora_unet_a_b_c") == ("a.b_c.weight", "a_b.c.weight")
    assert Aliases(["unet/x.weight", "transformer/x.weight"]).find("x") == (
        "transformer/x.weight",
        "unet/x.weight",
    )


@pytest.mark.parametrize("name", ["lora_unet_y", "y", "unet.y.weight", "", "lora_unet_"])
def test_a_name_of_nothing_means_nothing(name: str) -> None:
    assert Aliases(["x.weight", "model.diffusion_model.z.weight"]).find(name) == ()


parts = st.lists(st.sampled_from(["a", "b", "0", "1", "to_q", "c_d"]), min_size=1, max_size=4).map(".".join)


@given(st.sets(parts, min_size=1, max_size=8), st.sampled_from(["", "net.", "model.diffusion_model."]))
def test_every_path_is_found_by_its_own_name_and_by_kohyas_unless_that_means_two(
    paths: set[str], wrapper: str
) -> None:
    keys = {path: f"{wrapper}{path}.weight" for path in paths}
    known = Aliases(keys.values())
    for path, key in keys.items():
        assert known.find(f"diffusion_model.{path}") == (key,)
        alike = sorted(k for p, k in keys.items() if p.replace(".", "_") == path.replace(".", "_"))
        assert known.find("lora_unet_" + path.replace(".", "_")) == tuple(alike)
