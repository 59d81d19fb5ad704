"""Names of tensors: every spelling of a role is understood, and a stem is what is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.formats.adapters.dialects import Named, forms, has_adapter_names, plain_stem, read_name
from lorapipe.formats.forms import FORMS

UP, DOWN = ".lora_up.weight", ".lora_down.weight"

SPELLINGS = {
    ".lora_up.weight": UP, ".lora_B.weight": UP, ".lora_B": UP, "_lora.up.weight": UP, ".lora.up.weight": UP,
    ".lora_linear_layer.up.weight": UP, ".lora_B.default.weight": UP, ".lora_B.style_1.weight": UP,
    ".lora_down.weight": DOWN, ".lora_A.weight": DOWN, ".lora_A": DOWN, "_lora.down.weight": DOWN,
    ".lora.down.weight": DOWN, ".lora_linear_layer.down.weight": DOWN, ".lora_A.default.weight": DOWN,
    ".lora_mid.weight": ".lora_mid.weight", ".alpha": ".alpha", ".dora_scale": ".dora_scale",
    ".lora_magnitude_vector": ".lora_magnitude_vector",
    ".lora_magnitude_vector.weight": ".lora_magnitude_vector",
    ".lora_magnitude_vector.default.weight": ".lora_magnitude_vector",
    ".lora_magnitude_vector.default": ".lora_magnitude_vector",
    ".lora_embedding_A": ".lora_embedding_A", ".lora_embedding_A.default": ".lora_embedding_A",
    ".lora_embedding_B": ".lora_embedding_B", ".lora_B.bias": ".lora_B.bias",
    ".lora_B.default.bias": ".lora_B.bias",
    ".hada_w1_a": ".hada_w1_a", ".hada_w2_b.default": ".hada_w2_b", ".hada_t1": ".hada_t1",
    ".lokr_w1": ".lokr_w1", ".lokr_w2_a": ".lokr_w2_a", ".lokr_t2": ".lokr_t2",
    ".diff": ".diff", ".w_norm": ".diff", ".diff_b": ".diff_b", ".b_norm": ".b_norm",
    ".set_weight": ".set_weight", ".reshape_weight": ".reshape_weight",
    ".oft_blocks": ".oft_blocks", ".oft_R.weight": ".oft_R.weight", ".oft_R.default.weight": ".oft_R.weight",
    ".oft_diag": ".oft_diag", ".rescale": ".rescale", ".boft_R": ".boft_R", ".boft_s.default": ".boft_s",
    ".ia3_l": ".ia3_l", ".ia3_l.default": ".ia3_l", ".on_input": ".on_input",
    ".a1.weight": ".a1.weight", ".b2.weight": ".b2.weight",
}  # fmt: skip


@pytest.mark.parametrize(("suffix", "role"), SPELLINGS.items())
@pytest.mark.parametrize(
    "stem", ["lora_unet_mid_block_attn1_to_q", "unet.mid.0.to_out.0", "base_model.model.x.lora"]
)
def test_a_name_is_a_stem_and_a_role(stem: str, suffix: str, role: str) -> None:
    named = read_name(stem + suffix)
    assert named is not None
    assert (named.stem, named.role, named.sure) == (stem, role, True)


@pytest.mark.parametrize(
    "name", ["x.weight", "x.bias", "x.scale", "x.up.weight", "x.lora_C.weight", "xlora_A.weight"]
)
def test_what_any_tensor_may_end_with_is_not_sure(name: str) -> None:
    named = read_name(name)
    assert named is None or not named.sure


@pytest.mark.parametrize("name", ["epoch", "x.kernel", ".lora_up.weight", ".alpha", "xlora_A", "", "."])
def test_other_names_are_none_of_an_adapter(name: str) -> None:
    assert read_name(name) is None


def test_the_single_blocks_of_xlabs_keep_the_lora_of_their_name() -> None:
    """Double blocks are numbered, so that their ``_lora1`` is no suffix; single ones would lose theirs."""
    stem = "single_blocks.3.processor.qkv_lora"
    assert read_name(f"{stem}.up.weight") == Named(stem, UP, ".up.weight")
    stem = "double_blocks.3.processor.proj_lora2"
    assert read_name(f"{stem}.down.weight") == Named(stem, DOWN, ".down.weight")


def test_each_format_is_there_once_and_its_own_words_mean_its_roles() -> None:
    assert [form.name for form in forms()] == list(FORMS)
    for form in forms():
        for role, others in form.roles.items():
            for suffix in (role, *others):
                named = read_name(f"x{suffix}")
                assert named is not None
                assert named.role == role, suffix


@pytest.mark.parametrize(
    ("stem", "plain"),
    [
        ("base_model.model.model.layers.0.q_proj", "model.layers.0.q_proj"),
        ("transformer.base_model.model.blocks.0.q", "transformer.blocks.0.q"),
        ("unet.x.attn1.processor.to_q", "unet.x.attn1.to_q"),
        ("unet.x.attn2.processor.to_out", "unet.x.attn2.to_out.0"),
        ("unet.x.attn2.processor.add_k_proj", "unet.x.attn2.add_k_proj"),
        ("double_blocks.0.processor.qkv_lora1", "double_blocks.0.processor.qkv_lora1"),
        ("lora_unet_proj_out_", "lora_unet_proj_out"),
        ("oft_unet_mid_block", "lora_unet_mid_block"),
        ("lora_unet__blocks_0_ffn_0", "lora_unet_blocks_0_ffn_0"),
        ("lora_unet_clip_g_transformer_text_model_x", "lora_te2_text_model_x"),
        ("lora_unet_clip_l_transformer_text_model_x", "lora_te1_text_model_x"),
        ("_", "_"),
        ("lora_unet_mid_block_resnets_0_conv1", "lora_unet_mid_block_resnets_0_conv1"),
    ],
)
def test_wrappers_and_slips_are_taken_off_a_stem(stem: str, plain: str) -> None:
    assert plain_stem(stem) == plain


stems = st.text(st.sampled_from("abm_.0to"), min_size=1, max_size=20).filter(lambda text: text.strip("._"))


@given(stems)
def test_a_plain_stem_is_plain(stem: str) -> None:
    assert plain_stem(plain_stem(stem)) == plain_stem(stem)


@given(stems, st.sampled_from(sorted(SPELLINGS)))
def test_no_stem_hides_its_role(stem: str, suffix: str) -> None:
    named = read_name(stem + suffix)
    assert named is not None
    assert named.role == SPELLINGS[suffix]


# ---- what tells an adapter ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [f"x.y{suffix}" for suffix in (".lora_A.default.weight", ".ia3_l", ".boft_R", ".oft_blocks", ".on_input")]
    + ["x.set_weight", "x.c3a_kernel", "double_blocks.1.processor.qkv_lora2.up.weight", "lora_controlnet"],
)
def test_one_tensor_of_an_adapter_tells_it(name: str) -> None:
    assert has_adapter_names(["first_stage_model.decoder.weight", name])


@pytest.mark.parametrize(
    "suffix", [".alpha", ".diff", ".w_norm", ".diff_b", ".a1.weight", ".rescale", ".b_norm"]
)
def test_suffixes_that_models_have_too_tell_nothing_beside_others(suffix: str) -> None:
    assert not has_adapter_names(["decoder.snake.weight", f"decoder.snake{suffix}"])


def test_full_differences_alone_are_an_adapter() -> None:
    assert has_adapter_names(["lora_unet_x.diff", "lora_unet_x.diff_b", "bundle_emb.a.string_to_param.*"])
    assert has_adapter_names(["x.up.weight", "x.down.weight", "x.alpha"])
    assert not has_adapter_names(["x.up.weight", "x.down.weight", "x.norm.weight"])
    assert not has_adapter_names(["x.alpha", "y.alpha"])
    assert not has_adapter_names([])


@pytest.mark.parametrize(
    "suffix", [".weight_scale", ".scale_weight", ".weight.absmax", ".qweight", ".weight"]
)
def test_a_quantised_checkpoint_is_no_adapter(suffix: str) -> None:
    assert not has_adapter_names([f"model.layers.0{suffix}"])
