"""From modules of identity to modules of a file: names in every layout, rows, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorapipe.architectures import families, family
from lorapipe.errors import ManyErrors, RecipeError
from lorapipe.formats.layouts.relayout import file_modules
from lorapipe.weights.inference.filed import FileModule, Part
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling, TensorSpec

QKV = "double_blocks.0.img_attn.qkv.weight"
HEAD = "final_layer.adaLN_modulation.1.weight"
KOHYA_QKV, KOHYA_HEAD = "lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_final_layer_adaLN_modulation_1"
Q, K, V = (f"transformer.transformer_blocks.0.attn.to_{which}" for which in "qkv")
OUT = "transformer.norm_out.linear"


def plain(
    shape: tuple[int, ...], stem: str, rank: int = 4, *, transposed: bool = False, up: str = ""
) -> ModuleSpec:
    return ModuleSpec(shape, rank, Spelling(stem, transposed, up or ".lora_up.weight"))


def dit(key: str, *rows: int) -> ModuleId:
    return ModuleId("dit", key, (rows[0], rows[1]) if rows else None)


def spec(modules: dict[ModuleId, ModuleSpec], known: str | None = "flux1", **more: object) -> AdapterSpec:
    return AdapterSpec(known, modules, "F16", **more)  # type: ignore[arg-type]  # a spec's own fields


def outline(found: tuple[FileModule, ...]) -> dict[str, tuple[tuple[int, ...], int, bool]]:
    return {module.stem: (module.shape, module.rank, module.bounded) for module in found}


FUSED = spec({dit(QKV): plain((24, 8), KOHYA_QKV), dit(HEAD): plain((16, 8), KOHYA_HEAD)})
SPLIT = spec({
    dit(QKV, 0, 8): plain((8, 8), Q, up=".lora_B.weight"),
    dit(QKV, 8, 16): plain((8, 8), K, 2, up=".lora_B.weight"),
    dit(QKV, 16, 24): plain((8, 8), V, up=".lora_B.weight"),
    dit(HEAD, 8, 16): plain((8, 8), OUT, up=".lora_B.weight"),
    dit(HEAD, 0, 8): plain((8, 8), OUT, up=".lora_B.weight"),
})  # fmt: skip


def test_kept_a_file_is_what_it_was() -> None:
    assert outline(file_modules(FUSED)) == {
        KOHYA_QKV: ((24, 8), 4, False), KOHYA_HEAD: ((16, 8), 4, False)
    }  # fmt: skip


def test_kept_modules_that_were_one_are_one_again() -> None:
    """Two halves of identity share a name: one module, in the file's own order, of a rank to be seen."""
    found = file_modules(SPLIT)
    assert outline(found) == {
        Q: ((8, 8), 4, False), K: ((8, 8), 2, False), V: ((8, 8), 4, False), OUT: ((16, 8), 8, True)
    }  # fmt: skip
    assert found[-1].parts == (Part(dit(HEAD, 8, 16), 0, 8), Part(dit(HEAD, 0, 8), 0, 8))
    assert {module.words.suffix(".lora_up.weight") for module in found} == {".lora_B.weight"}


def test_a_fused_module_is_split_by_rows_and_permuted_where_the_naming_says_so() -> None:
    found = {module.stem: module for module in file_modules(FUSED, "diffusers")}
    assert outline(tuple(found.values())) == {
        Q: ((8, 8), 4, False), K: ((8, 8), 4, False), V: ((8, 8), 4, False), OUT: ((16, 8), 4, False)
    }  # fmt: skip
    assert found[V].parts == (Part(dit(QKV), 16, 24),)
    assert found[OUT].parts == (Part(dit(HEAD), 8, 16), Part(dit(HEAD), 0, 8))


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("kohya", {KOHYA_QKV, KOHYA_HEAD}),
        ("comfy", {f"diffusion_model.{key.removesuffix('.weight')}" for key in (QKV, HEAD)}),
    ],
)
def test_split_modules_are_joined_with_ranks_that_add_up_at_most(layout: str, names: set[str]) -> None:
    found = file_modules(SPLIT, layout)
    assert {module.stem for module in found} == names
    assert [(module.shape, module.rank, module.bounded) for module in found] == [
        ((24, 8), 10, True), ((16, 8), 8, True)
    ]  # fmt: skip
    assert found[0].parts == tuple(Part(dit(QKV, i, i + 8), 0, 8) for i in (0, 8, 16))
    assert found[1].parts == (Part(dit(HEAD, 0, 8), 0, 8), Part(dit(HEAD, 8, 16), 0, 8))


def test_rows_that_no_lora_has_become_zeros() -> None:
    (found,) = file_modules(spec({dit(QKV, 8, 16): plain((8, 8), K)}), "kohya")
    assert found.parts == (Part(None, 0, 8), Part(dit(QKV, 8, 16), 0, 8), Part(None, 0, 8))
    assert (found.shape, found.rank, found.bounded) == ((24, 8), 4, False)


def test_pefts_names_are_the_paths_of_one_model() -> None:
    found = file_modules(SPLIT, "peft")
    assert [module.stem for module in found] == [
        f"base_model.model.{name.removeprefix('transformer.')}" for name in (Q, K, V, OUT)
    ]


def test_several_models_are_refused_for_peft() -> None:
    both = spec({**FUSED.modules, ModuleId("te1", TE): plain((8, 8), "lora_te1_x")})
    with pytest.raises(RecipeError) as caught:
        file_modules(both, "peft")
    assert str(caught.value) == (
        "error: PEFT's layout holds one model, this LoRA is of 2: dit, te1"
        " - `scale: ..., components: {te: 0}` keeps one of them"
    )
    assert (caught.value.code, caught.value.option) == ("several-components", "layout")


TE = "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"


def test_a_language_model_of_unknown_family_has_its_paths() -> None:
    layer = ModuleId("", "model.layers.0.self_attn.q_proj.weight")
    found = file_modules(spec({layer: plain((8, 8), "model.layers.0.self_attn.q_proj")}, None), "peft")
    assert [module.stem for module in found] == ["base_model.model.model.layers.0.self_attn.q_proj"]


@pytest.mark.parametrize(("stem", "layout"), [("lora_unet_x_y", "kohya"), ("transformer.x.y", "diffusers")])
def test_an_unknown_model_keeps_its_names_where_they_are_of_the_layouts_sort(stem: str, layout: str) -> None:
    unknown = spec({ModuleId("", stem): plain((8, 8), stem)}, None)
    assert [module.stem for module in file_modules(unknown, layout)] == [stem]


@pytest.mark.parametrize("layout", ["kohya", "peft"])
def test_names_that_a_layout_cannot_make_are_refused_and_counted(layout: str) -> None:
    stems = [f"blocks.{i}.to_q" for i in range(5)] if layout == "kohya" else [f"lora_x_{i}" for i in range(5)]
    unknown = spec({ModuleId("", stem): plain((8, 8), stem) for stem in stems}, None)
    with pytest.raises(RecipeError) as caught:
        file_modules(unknown, layout)
    who = {"kohya": "kohya's layout", "peft": "PEFT's LoRA"}[layout]
    assert str(caught.value) == (
        f"error: 5 modules that {who} has no name for: {', '.join(stems[:3])} and 2 more"
        " - leave `layout:` out, or choose another"
    )
    assert caught.value.code == "no-name"


def test_rows_that_are_only_partly_in_a_naming_are_refused() -> None:
    """Names that stop in the middle of a module would lose the rest of it."""
    odd = spec({dit(QKV, 0, 24): plain((24, 8), ""), dit(QKV, 24, 30): plain((6, 8), "")})
    with pytest.raises(RecipeError, match="has no name for"):
        file_modules(odd)


def test_kept_what_has_no_name_of_its_own_is_named_as_the_others_are() -> None:
    cut = {dit(QKV, 0, 8): plain((8, 8), ""), dit(QKV, 8, 24): plain((16, 8), "")}
    nameless = spec({dit(HEAD): plain((16, 8), KOHYA_HEAD), **cut})
    assert set(outline(file_modules(nameless))) == {KOHYA_HEAD, KOHYA_QKV}


def test_kept_what_is_several_modules_in_the_files_naming_is_split() -> None:
    whole = dit("double_blocks.1.img_attn.qkv.weight")
    mixed = spec({dit(QKV, 0, 8): plain((8, 8), Q), whole: plain((24, 8), "")})
    assert len(file_modules(mixed)) == 4


def test_a_transposed_module_is_turned_whatever_the_layout() -> None:
    key = ModuleId("te2", "conditioner.embedders.1.model.text_projection")
    sdxl = spec({key: plain((6, 8), "lora_te2_text_projection", transposed=True)}, "sdxl")
    for layout in ("keep", "kohya", "diffusers"):
        (found,) = file_modules(sdxl, layout)
        assert (found.shape, found.transposed) == ((8, 6), True)


def test_kohya_has_a_kernel_where_it_trains_a_convolution() -> None:
    key = ModuleId("unet", "model.diffusion_model.input_blocks.1.1.proj_in.weight")
    flat = spec({key: plain((8, 8), "unet.down_blocks.0.attentions.0.proj_in")}, "sd2")
    assert [module.shape for module in file_modules(flat, "kohya")] == [(8, 8, 1, 1)]
    assert [module.shape for module in file_modules(flat, "diffusers")] == [(8, 8)]


def test_an_embedding_of_pefts_is_pefts_only() -> None:
    key = ModuleId("", "model.embed_tokens.weight")
    unknown = spec({key: plain((50, 8), "x", transposed=True, up=".lora_embedding_B")}, None)
    (found,) = file_modules(unknown, "peft")
    assert (found.shape, found.words.suffix(".lora_down.weight")) == ((8, 50), ".lora_embedding_A")
    flux = spec({dit(QKV): replace(unknown.modules[key], shape=(24, 8))})
    with pytest.raises(
        RecipeError, match="1 module of LoRA of an embedding that kohya's layout has no place"
    ):
        file_modules(flux, "kohya")


def test_embeddings_beside_the_modules_need_a_layout_that_has_them() -> None:
    held = replace(FUSED, extras={"bundle_emb.x": TensorSpec("F16", (1, 768))})
    assert len(file_modules(held, "comfy")) == 2
    with pytest.raises(RecipeError) as caught:
        file_modules(held, "diffusers")
    assert str(caught.value) == (
        "error: 1 embedding that diffusers has no place for: bundle_emb.x - `layout: kohya` keeps them"
    )


def test_all_that_is_wrong_comes_at_once() -> None:
    sum_ = replace(FUSED.modules[dit(QKV)], form=Form("a sum"))
    bad = spec({dit(QKV): sum_, dit("no.such.weight"): plain((8, 8), "")})
    with pytest.raises(ManyErrors) as caught:
        file_modules(bad, "kohya")
    assert [error.code for error in caught.value.errors] == ["no-format", "no-name"]


@pytest.mark.parametrize("name", families())
def test_every_module_of_every_family_is_spelt_read_and_spelt_again(name: str) -> None:
    """kohya's names to diffusers' to kohya's: every row of every weight comes back to where it was."""
    known = family(name)
    modules = {}
    for target in known.targets():
        stem = known.spell(target, "kohya")
        if stem is None or target.kind not in ("linear", "conv1x1", "conv3x3", "conv"):
            continue
        (rows, *others) = target.rows(420) or (None,)
        if not others:
            module = ModuleId(target.component, target.key, rows)
            modules[module] = plain((420, 8), stem, transposed=target.transpose)
    first = file_modules(spec(modules, name), "kohya")
    assert {module.stem for module in first} == {known.spelling.stem for known in modules.values()}
    for layout in ("diffusers", "comfy"):
        there = file_modules(spec(modules, name), layout)
        rows_there = sum(part.height for module in there for part in module.parts if part.module)
        assert rows_there == 420 * len(modules)
        assert not any(module.bounded for module in there)


def test_biases_and_whole_parameters_of_an_unknown_model_go_by_their_paths_to_peft() -> None:
    layer, head = ModuleId("", "model.q_proj.weight"), ModuleId("", "lm_head.weight")
    beside, norm = ModuleId("", "model.q_proj.bias"), ModuleId("", "norm.bias")
    bias = Form("full difference", ((".diff_b", TensorSpec("F16", (8,))),))
    saved = Form("full weight", ((".set_weight", TensorSpec("F16", (20, 8))),), additive=False)
    own = Form("full weight", ((".set_weight", TensorSpec("F16", (8,))),), additive=False)
    held = spec({
        layer: plain((8, 8), "model.q_proj"),
        beside: replace(plain((8,), "model.q_proj", 1), form=bias),
        head: replace(plain((20, 8), "lm_head", 0), form=saved),
        norm: replace(plain((8,), "norm", 0), form=own),
    }, None)  # fmt: skip
    found = file_modules(held, "peft")
    names = {module.stem + module.words.suffix(role) for module in found for role in module.tensors("F16")}
    factors = {f"model.q_proj.lora_{which}" for which in ("A.weight", "B.weight", "B.bias")}
    assert names == {f"base_model.model.{name}" for name in (*factors, "lm_head.weight", "norm.bias")}


def test_a_lora_on_a_weight_that_it_brings_stays_so_in_pefts_layout() -> None:
    tensors = ((".lora_up.weight", (8, 4)), (".lora_down.weight", (4, 8)), (".base_layer.weight", (8, 8)))
    form = Form(
        "LoRA on a saved weight", tuple((r, TensorSpec("F16", s)) for r, s in tensors), additive=False
    )
    head = replace(plain((8, 8), "base_model.model.lm_head", 0, up=".lora_B.weight"), form=form)
    layer = plain((8, 8), "base_model.model.a.q")
    held = spec({ModuleId("", "lm_head.weight"): head, ModuleId("", "a.q.weight"): layer}, None)
    (found, _) = file_modules(held, "peft")
    assert {found.words.suffix(role) for role, _ in tensors} == {
        ".lora_B.weight", ".lora_A.weight", ".base_layer.weight"
    }  # fmt: skip


def test_what_turned_out_to_be_nothing_is_in_no_file() -> None:
    empty = replace(FUSED, modules={**FUSED.modules, dit(HEAD): plain((16, 8), KOHYA_HEAD, 0)})
    assert outline(file_modules(empty)) == {KOHYA_QKV: ((24, 8), 4, False)}
    assert set(outline(file_modules(empty, "diffusers"))) == {Q, K, V}
    one = replace(SPLIT, modules={**SPLIT.modules, dit(QKV, 8, 16): plain((8, 8), K, 0, up=".lora_B.weight")})
    assert outline(file_modules(one))[Q] == ((8, 8), 4, False)
    assert K not in outline(file_modules(one))
    # Where a file has q, k and v as one, there are zeros in the place of k.
    (joined,) = (m for m in file_modules(one, "kohya") if m.stem == KOHYA_QKV)
    assert [part.module for part in joined.parts] == [dit(QKV, 0, 8), None, dit(QKV, 16, 24)]
