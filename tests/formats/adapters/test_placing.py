"""Where modules of a file belong: the key, the rows, the orientation that the reference layout has."""

from __future__ import annotations

import pytest

from lorapipe.architectures import family
from lorapipe.errors import InputError
from lorapipe.formats.adapters.found import Found
from lorapipe.formats.adapters.grouping import group_tensors
from lorapipe.formats.adapters.making import Maker
from lorapipe.formats.adapters.placing import Placed, place, targets, verbatim
from lorapipe.formats.problems import Problems
from lorapipe.weights.specs import ModuleId, Spelling, TensorSpec

from ..sources import HeaderSource

Shapes = dict[str, tuple[int, ...]]

NORM_OUT = "transformer.norm_out.linear"
SWAPPED = "final_layer.adaLN_modulation.1.weight"


def placed(shapes: Shapes, name: str | None) -> list[Placed]:
    """The modules of a header, placed in a family, or under their own names."""
    tensors = {key: TensorSpec("F16", shape) for key, shape in shapes.items()}
    problems = Problems(HeaderSource(tensors))
    maker = Maker(tensors, None, None, problems)
    modules = [m for group in group_tensors(tensors, problems).groups.values() for m in maker.modules(group)]
    problems.check()
    if name is None:
        return [verbatim(module, tensors) for module in modules]
    known = family(name)
    aims = zip(modules, targets(modules, known, problems), strict=True)
    found = [
        p for m, target in aims if target is not None for p in place(m, target, known, tensors, problems)
    ]
    problems.check()
    return found


def lora(stem: str, out: int, into: int, *kernel: int, rank: int = 2) -> Shapes:
    ones = tuple(1 for _ in kernel)
    return {f"{stem}.lora_up.weight": (out, rank, *ones), f"{stem}.lora_down.weight": (rank, into, *kernel)}


def rows(found: list[Placed]) -> list[tuple[tuple[int, int] | None, tuple[int, int] | None, tuple[int, ...]]]:
    return [(piece.module.rows, piece.rows, piece.spec.shape) for piece in found]


# ---- known families ----------------------------------------------------------------------------------


def test_swapped_halves_are_two_modules_that_share_a_name() -> None:
    found = placed(lora(NORM_OUT, 12, 5), "flux1")
    assert {piece.module.key for piece in found} == {SWAPPED}
    assert rows(found) == [((6, 12), (0, 6), (6, 5)), ((0, 6), (6, 12), (6, 5))]
    assert [piece.spec.spelling for piece in found] == [Spelling(NORM_OUT)] * 2
    assert {piece.spec.rank for piece in found} == {2}


def test_rows_of_other_formats_are_parted_where_they_can_be() -> None:
    loha = {
        f"{NORM_OUT}.hada_w{i}_{side}": shape
        for i in (1, 2)
        for side, shape in (("a", (12, 2)), ("b", (2, 5)))
    }
    one, two = placed(loha, "flux1")
    assert (one.rows, two.rows) == ((0, 6), (6, 12))
    assert one.spec.form is not None
    assert dict(one.spec.form.tensors)[".hada_w1_a"].shape == (6, 2)
    assert one.spec.spelling.stem == NORM_OUT
    dora = {**lora(NORM_OUT, 12, 5), f"{NORM_OUT}.dora_scale": (12, 1)}
    assert [(p.rows, p.spec.shape, p.spec.form and p.spec.form.cuts) for p in placed(dora, "flux1")] == [
        ((0, 6), (6, 5), ((6, 1),)),
        ((6, 12), (6, 5), ((6, 1),)),
    ]


def test_what_looks_at_all_rows_is_not_parted() -> None:
    dora = {**lora(NORM_OUT, 12, 5), f"{NORM_OUT}.dora_scale": (1, 5)}
    with pytest.raises(InputError) as caught:
        placed(dora, "flux1")
    assert str(caught.value) == (
        f"error: 1 module whose rows cannot be parted as the model's file has them: {NORM_OUT} (DoRA) "
        "- merge it into a checkpoint and extract a LoRA from the difference"
    )


def test_rows_that_do_not_divide_are_told() -> None:
    with pytest.raises(InputError) as caught:
        placed(lora(NORM_OUT, 11, 5), "flux1")
    assert caught.value.code == "rows-do-not-divide"
    assert f"{NORM_OUT} (11 rows do not divide into 2 parts of {SWAPPED})" in str(caught.value)


def test_a_fused_weights_parts_are_rows_by_the_files_own_height() -> None:
    stem = "transformer.single_transformer_blocks.0.{}"
    heights = {"attn.to_q": 6, "attn.to_k": 6, "attn.to_v": 6, "proj_mlp": 24}
    shapes = {name: s for part, out in heights.items() for name, s in lora(stem.format(part), out, 5).items()}
    found = placed(shapes, "flux1")
    spans = ((0, 6), (6, 12), (12, 18), (18, 42))
    key = "single_blocks.0.linear1.weight"
    assert [piece.module for piece in found] == [ModuleId("dit", key, span) for span in spans]
    assert {piece.rows for piece in found} == {None}


def test_a_transposed_weight_has_the_transposed_shape() -> None:
    (found,) = placed(lora("lora_te2_text_projection", 6, 5), "sdxl")
    assert (found.spec.shape, found.spec.spelling.transposed) == ((5, 6), True)
    with pytest.raises(InputError, match=r"a kernel .* where a matrix is due"):
        placed(lora("lora_te2_text_projection", 6, 5, 1, 1), "sdxl")


def test_a_flat_kernel_is_opened_where_the_family_knows_it() -> None:
    stem = "lora_unet_down_blocks_0_resnets_0_conv1"
    loha = {f"{stem}.hada_w{i}_{s}": shape for i in (1, 2) for s, shape in (("a", (8, 2)), ("b", (2, 36)))}
    assert [piece.spec.shape for piece in placed(loha, "sd1")] == [(8, 4, 3, 3)]
    assert [piece.spec.shape for piece in placed(loha, None)] == [(8, 36)]


def test_biases_and_norms_have_keys_of_their_own() -> None:
    stem = "lora_unet_down_blocks_0_resnets_0_"
    found = placed(
        {f"{stem}conv1.diff_b": (8,), f"{stem}norm1.w_norm": (8,), f"{stem}norm1.b_norm": (8,)}, "sd1"
    )
    layers = "model.diffusion_model.input_blocks.1.0.in_layers"
    assert [(piece.module.key, piece.spec.shape) for piece in found] == [
        (f"{layers}.2.bias", (8,)),
        (f"{layers}.0.weight", (8,)),
        (f"{layers}.0.bias", (8,)),
    ]
    suffixes = [[suffix for suffix, _ in piece.spec.form.tensors] for piece in found if piece.spec.form]
    assert suffixes == [[".diff_b"], [".diff"], [".diff_b"]]


def test_the_bias_of_a_part_is_rows_of_the_fused_bias() -> None:
    stem = "lora_te2_text_model_encoder_layers_3_self_attn_k_proj"
    (found,) = placed({f"{stem}.diff_b": (10,)}, "sdxl")
    key = "conditioner.embedders.1.model.transformer.resblocks.3.attn.in_proj_bias"
    assert found.module == ModuleId("te2", key, (10, 20))


def test_other_formats_carry_their_tensors_and_an_alpha_where_they_have_one() -> None:
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    found = placed(
        {
            f"{stem}.lokr_w1": (2, 2),
            f"{stem}.lokr_w2_a": (3, 1),
            f"{stem}.lokr_w2_b": (1, 3),
            f"{stem}.alpha": (),
        },
        "sd1",
    )
    form = found[0].spec.form
    assert form is not None
    assert (form.name, form.additive, found[0].spec.shape) == ("LoKr", True, (6, 6))
    assert dict(form.tensors) == {
        ".lokr_w1": TensorSpec("F16", (2, 2)),
        ".lokr_w2_a": TensorSpec("F16", (3, 1)),
        ".lokr_w2_b": TensorSpec("F16", (1, 3)),
        ".alpha": TensorSpec("F32", ()),
    }


# ---- what has no place -------------------------------------------------------------------------------


def test_modules_of_another_family_say_whose_they_are() -> None:
    stems = [f"lora_unet_input_blocks_4_1_transformer_blocks_{n}_attn2_to_k" for n in range(2)]
    with pytest.raises(InputError) as caught:
        placed({name: shape for stem in stems for name, shape in lora(stem, 8, 8).items()}, "sd1")
    assert caught.value.code == "unknown-modules"
    assert str(caught.value).startswith(f"error: 2 modules that SD1.x does not have: {stems[0]}")
    assert caught.value.hint == "they are modules of SDXL: is the LoRA for that? then say `family: sdxl`"


def test_modules_of_no_family_are_told_with_the_nearest() -> None:
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_"
    with pytest.raises(InputError) as caught:
        placed(lora(f"{stem}x", 8, 8), "sd1")
    assert f"{stem}x (nearest is {stem}" in str(caught.value)
    assert caught.value.hint == "is it a LoRA for another model? then say which: `family:`"


def test_a_bias_where_the_model_has_none_is_told_as_such() -> None:
    with pytest.raises(InputError, match=r"1 bias that SDXL does not have: lora_te2_text_projection"):
        placed({"lora_te2_text_projection.diff_b": (6,)}, "sdxl")


# ---- unknown families --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("base_model.model.model.layers.0.q_proj.lora_A.weight", "model.layers.0.q_proj.weight"),
        ("transformer.blocks.0.q.lora_A.weight", "transformer.blocks.0.q.weight"),
        ("lora_unet_blocks_0_q.lora_down.weight", "lora_unet_blocks_0_q"),
    ],
)
def test_a_path_means_a_layers_weight_and_any_other_name_itself(name: str, key: str) -> None:
    up = name.replace("lora_A", "lora_B").replace("down", "up")
    (found,) = placed({name: (2, 5), up: (6, 2)}, None)
    assert (found.module, found.spec.shape) == (ModuleId("", key), (6, 5))
    assert name.startswith(found.spec.spelling.stem)


def test_biases_of_unknown_families_stand_beside() -> None:
    found = placed({"a.b.diff_b": (6,), "lora_unet_a.diff_b": (6,)}, None)
    assert [piece.module.key for piece in found] == ["a.b.bias", "lora_unet_a.bias"]


def test_an_embedding_is_turned() -> None:
    path = "base_model.model.model.embed_tokens"
    (found,) = placed({f"{path}.lora_embedding_A": (2, 11), f"{path}.lora_embedding_B": (5, 2)}, None)
    assert (found.module.key, found.spec.shape) == ("model.embed_tokens.weight", (11, 5))
    assert found.spec.spelling == Spelling(path, transposed=True, up=".lora_embedding_B")
    assert found.spec.form is None


def test_founds_are_kept_for_the_reader_of_numbers() -> None:
    one, two = placed(lora(NORM_OUT, 12, 5), "flux1")
    assert isinstance(one.found, Found)
    assert one.found is two.found
