"""Formats in a layout: cut and joined where that is exact, refused by name where it is not."""

from __future__ import annotations

import pytest

from lorapipe.errors import LorapipeError
from lorapipe.formats.layouts.relayout import file_modules
from lorapipe.weights.inference.cuts import ANYWHERE
from lorapipe.weights.inference.filed import FileModule
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling, TensorSpec

QKV, PROJ = "double_blocks.0.img_attn.qkv.weight", "double_blocks.0.img_attn.proj.weight"
FUSED, OUT = ModuleId("dit", QKV), ModuleId("dit", PROJ)
BIAS = ModuleId("dit", "double_blocks.0.img_attn.proj.bias")
Q, K, V = (ModuleId("dit", QKV, (i, i + 8)) for i in (0, 8, 16))
STEM, PROJ_STEM = "lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_double_blocks_0_img_attn_proj"


def tensors(dtype: str = "F16", **sizes: tuple[int, ...]) -> tuple[tuple[str, TensorSpec], ...]:
    return tuple((f".{role.replace('__', '.')}", TensorSpec(dtype, size)) for role, size in sizes.items())


def loha(height: int) -> ModuleSpec:
    sizes = tensors(hada_w1_a=(height, 2), hada_w1_b=(2, 8), hada_w2_a=(height, 2), hada_w2_b=(2, 8))
    form = Form("LoHa", (*sizes, (".alpha", TensorSpec("F32", ()))))
    return ModuleSpec((height, 8), 4, Spelling(STEM), form)


def lokr(height: int) -> ModuleSpec:
    form = Form("LoKr", tensors(lokr_w1=(2, 2), lokr_w2=(height // 2, 4)))
    return ModuleSpec((height, 8), 8, Spelling(STEM), form)


def dora(height: int, stem: str = STEM) -> ModuleSpec:
    sizes = tensors(lora_up__weight=(height, 2), lora_down__weight=(2, 8), dora_scale=(height, 1), alpha=())
    return ModuleSpec((height, 8), 0, Spelling(stem), Form("DoRA", sizes, additive=False, cuts=ANYWHERE))


def plain(height: int, stem: str = STEM) -> ModuleSpec:
    return ModuleSpec((height, 8), 4, Spelling(stem))


def bias(stem: str = PROJ_STEM) -> ModuleSpec:
    return ModuleSpec((8,), 1, Spelling(stem), Form("full difference", tensors(diff_b=(8,))))


def made(
    modules: dict[ModuleId, ModuleSpec], layout: str = "keep", *, dense: bool = False
) -> dict[str, FileModule]:
    found = file_modules(AdapterSpec("flux1", modules, "F16"), layout, dense=dense)
    return {module.stem.rpartition(".")[2]: module for module in found}


def shapes(module: FileModule) -> dict[str, tuple[int, ...]]:
    return {role: tensor.shape for role, tensor in module.tensors("F16").items()}


def refused(modules: dict[ModuleId, ModuleSpec], layout: str = "keep", *, dense: bool = False) -> list[str]:
    with pytest.raises(LorapipeError) as caught:
        made(modules, layout, dense=dense)
    errors = caught.value.parts
    return [f"{error.code}: {error}" for error in errors]


OTHERS = " - leave 'layout' out, choose another, or merge it into a checkpoint"
DENSE = " - svd-resize makes a plain LoRA of it, `dense: true` writes it as a full difference"


def test_a_loha_is_kept_and_other_programs_are_told_apart_from_those_that_read_it() -> None:
    (found,) = made({FUSED: loha(24)}).values()
    assert found.form == loha(24).form
    assert refused({FUSED: loha(24)}, "diffusers") == [
        f"no-format: error: 1 module of LoHa that diffusers has no place for: {QKV}{OTHERS}"
    ]


def test_lohas_are_joined_to_one_and_zeros_stand_for_the_rest() -> None:
    (found,) = made({Q: loha(8), K: loha(8)}, "kohya").values()
    assert found.shape == (24, 8)
    assert shapes(found)[".hada_w1_a"] == (24, 2)
    assert shapes(found)[".hada_w1_b"] == (2, 8)


def test_a_lokr_cannot_be_joined_and_the_remedies_are_named() -> None:
    assert refused({Q: lokr(8), K: lokr(8), V: lokr(8)}, "kohya") == [
        f"not-one-module: error: 1 module of LoKr that would have to be split or joined: {QKV}[0:8]{DENSE}"
    ]


def test_two_formats_on_one_weight_cannot_be_joined() -> None:
    (text,) = refused({Q: plain(8), K: loha(8)}, "kohya")
    assert "1 module of LoRA and LoHa that would" in text


def test_a_sum_has_no_format_unless_it_is_written_dense() -> None:
    sum_ = ModuleSpec((24, 8), 8, Spelling(STEM), Form("a sum"))
    assert refused({FUSED: sum_}) == [
        f"no-format: error: 1 module of a sum that no file can hold: {QKV}{DENSE}"
    ]
    for layout, name in (("keep", STEM), ("kohya", STEM), ("comfy", "qkv")):
        assert shapes(made({FUSED: sum_}, layout, dense=True)[name]) == {".diff": (24, 8)}
    assert "that diffusers has no place for" in refused({FUSED: sum_}, "diffusers", dense=True)[0]


def test_dense_joins_what_no_format_joins_and_leaves_what_has_one() -> None:
    assert shapes(made({Q: lokr(8), K: plain(8)}, "kohya", dense=True)[STEM]) == {".diff": (24, 8)}
    assert shapes(made({FUSED: lokr(24)}, dense=True)[STEM]) == {".lokr_w1": (2, 2), ".lokr_w2": (12, 4)}


def test_an_operator_is_never_dense() -> None:
    assert refused({Q: dora(8), K: dora(8)}, "kohya", dense=True) == [
        f"not-one-module: error: 1 module of DoRA that would have to be split or joined: {QKV}[0:8]{OTHERS}"
    ]


def test_doras_that_cover_the_weight_are_joined_and_a_fused_one_is_split() -> None:
    (found,) = made({Q: dora(8), K: dora(8), V: dora(8)}, "kohya").values()
    assert shapes(found) == {
        ".lora_up.weight": (24, 2), ".lora_down.weight": (2, 8), ".dora_scale": (24, 1), ".alpha": ()
    }  # fmt: skip
    query = made({FUSED: dora(24)}, "diffusers")["to_q"]
    assert shapes(query) == {".lora_up.weight": (8, 2), ".lora_down.weight": (2, 8), ".dora_scale": (8,)}
    assert query.words.suffix(".dora_scale") == ".lora_magnitude_vector"


def test_to_peft_all_modules_of_a_model_are_dora_or_none() -> None:
    both = {FUSED: dora(24), OUT: plain(8, PROJ_STEM)}
    assert set(made(both, "kohya")) == {STEM, PROJ_STEM}
    (text,) = refused(both, "diffusers")
    what = "1 module without DoRA, others with it: to diffusers a model's are alike"
    assert text == f"not-alike: error: {what}: {PROJ}{OTHERS}"


def test_a_bias_goes_beside_b_where_its_weight_does() -> None:
    (weight, beside) = file_modules(
        AdapterSpec("flux1", {OUT: plain(8, PROJ_STEM), BIAS: bias()}, "F16"), "peft"
    )
    assert weight.stem == beside.stem
    assert beside.words.suffix(".diff_b") == ".lora_B.bias"
    kohya = file_modules(AdapterSpec("flux1", {OUT: plain(8, PROJ_STEM), BIAS: bias()}, "F16"), "kohya")
    assert [module.words.suffix(".diff_b") for module in kohya] == [".diff_b", ".diff_b"]


def test_kept_a_bias_has_its_weights_words() -> None:
    path = "transformer.transformer_blocks.0.attn.to_out.0"
    weight = ModuleSpec((8, 8), 4, Spelling(path, up=".lora_B.weight"))
    (_, beside) = file_modules(AdapterSpec("flux1", {OUT: weight, BIAS: bias(path)}, "F16"))
    assert beside.words.suffix(".diff_b") == ".lora_B.bias"


def test_a_bias_alone_has_no_place_in_pefts_names() -> None:
    assert (
        "1 module of a bias beside no LoRA that PEFT's LoRA has no place for"
        in refused({BIAS: bias()}, "peft")[0]
    )
    assert set(made({BIAS: bias()}, "kohya")) == {PROJ_STEM}


def test_to_peft_all_modules_of_a_model_have_a_bias_or_none() -> None:
    modules = {OUT: plain(8, PROJ_STEM), BIAS: bias(), FUSED: plain(24)}
    assert refused(modules, "diffusers")[0].startswith(
        "not-alike: error: 1 module without a bias, others with one: to diffusers a model's are alike"
    )
