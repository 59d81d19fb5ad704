"""The table of Qwen-Image: names of its trainers and programs, and the real layout where it is at hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.architectures import Recognised, Target, family, recognise_adapter, recognise_checkpoint

from . import laws

QWEN = Recognised("qwen-image", ("qwen-image",))
LAYOUT = "qwen-image"
TE = "text_encoders.qwen25_7b.transformer."

ATTENTION = ["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out"]
BLOCK = [
    *(f"attn.{leaf}" for leaf in ATTENTION),
    *("img_mod.1", "txt_mod.1", "img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2"),
]
STEMS = [
    *(f"transformer_blocks.{n}.{leaf}" for n in (0, 59) for leaf in BLOCK),
    *("img_in", "txt_in", "norm_out.linear", "proj_out"),
    *(f"time_text_embed.timestep_embedder.linear_{n}" for n in (1, 2)),
]


def spellings(stem: str) -> dict[str, str]:
    """A module's name in each kind of file: all have the model's own, which is diffusers'."""
    flat = stem.replace(".", "_")
    return {
        "musubi": f"lora_unet_{flat}",
        "diffusers, OneTrainer": f"transformer.{stem}",
        "ComfyUI, ai-toolkit": f"diffusion_model.{stem}",
        "DiffSynth-Studio": stem,
        "DiffSynth-Studio, older": f"pipe.dit.{stem}",
        "OneTrainer's mixture": f"lora_transformer_{flat}",
        "SimpleTuner": f"lycoris_{flat}",
        "PEFT": f"base_model.model.{stem}",
    }


@pytest.mark.parametrize("stem", STEMS)
def test_a_module_is_the_same_in_every_kind_of_file(stem: str) -> None:
    known = family("qwen-image")
    found = {program: known.lookup(name) for program, name in spellings(stem).items()}
    assert found == dict.fromkeys(found, Target("dit", f"{stem}.weight"))


@pytest.mark.parametrize("stem", STEMS)
def test_each_naming_writes_what_its_programs_read(stem: str) -> None:
    names = spellings(stem)
    target = Target("dit", f"{stem}.weight")
    assert {n: family("qwen-image").spell(target, n) for n in family("qwen-image").namings} == {
        "kohya": names["musubi"],
        "diffusers": names["diffusers, OneTrainer"],
        "comfy": names["ComfyUI, ai-toolkit"],
    }


@pytest.mark.parametrize(
    ("stem", "kind"),
    [
        ("txt_norm", "norm"),
        ("transformer_blocks.5.attn.norm_q", "norm"),
        ("transformer_blocks.5.attn.norm_added_k", "norm"),
        ("time_text_embed.addition_t_embedding", "embedding"),
    ],
)
def test_what_is_no_linear_layer_has_its_kind(stem: str, kind: str) -> None:
    target = Target("dit", f"{stem}.weight", kind=kind)
    assert family("qwen-image").lookup(f"transformer.{stem}") == target
    assert family("qwen-image").place(f"transformer/{stem}.weight") == target


# Qwen2.5-VL: the names of the released files, and those that transformers has had since 4.52.
LANGUAGE = [
    ("model.layers.0.self_attn.q_proj", "model.language_model.layers.0.self_attn.q_proj", "linear"),
    ("model.layers.27.mlp.down_proj", "model.language_model.layers.27.mlp.down_proj", "linear"),
    ("model.layers.9.input_layernorm", "model.language_model.layers.9.input_layernorm", "norm"),
    ("model.norm", "model.language_model.norm", "norm"),
    ("model.embed_tokens", "model.language_model.embed_tokens", "embedding"),
    ("visual.blocks.31.attn.qkv", "model.visual.blocks.31.attn.qkv", "linear"),
    ("visual.merger.mlp.2", "model.visual.merger.mlp.2", "linear"),
    ("visual.patch_embed.proj", "model.visual.patch_embed.proj", "conv"),
    ("lm_head", "lm_head", "linear"),
]


@pytest.mark.parametrize(("older", "newer", "kind"), LANGUAGE)
def test_the_text_encoder_has_older_and_newer_names(older: str, newer: str, kind: str) -> None:
    known = family("qwen-image")
    target = Target("te", f"{TE}{older}.weight", kind=kind)
    names = [f"lora_te_{newer.replace('.', '_')}", f"text_encoder.{newer}", f"{TE}{older}"]
    names += [f"lora_te_{older.replace('.', '_')}", f"text_encoder.{older}", f"{TE}{newer}"]
    assert {name: known.lookup(name) for name in names} == dict.fromkeys(names, target)
    assert [known.spell(target, naming) for naming in ("kohya", "diffusers", "comfy")] == names[:3]


@pytest.mark.parametrize(("older", "newer", "kind"), LANGUAGE)
def test_a_folder_may_have_either_names_of_the_text_encoder(older: str, newer: str, kind: str) -> None:
    keys = [f"{TE}{older}.weight", f"text_encoder/{older}.weight", f"text_encoder/{newer}.weight"]
    found = {key: family("qwen-image").place(key) for key in keys}
    assert found == dict.fromkeys(keys, Target("te", f"{TE}{older}.weight", kind=kind))


def test_a_language_model_by_itself_is_not_the_text_encoder() -> None:
    shapes: laws.Shapes = {f"model.layers.{n}.self_attn.q_proj.weight": (3584, 3584) for n in range(28)}
    assert recognise_checkpoint(shapes) == Recognised(None, ())
    names = [f"base_model.model.model.layers.{n}.self_attn.q_proj" for n in range(28)]
    assert recognise_adapter(names, {}, {}) == Recognised(None, ())


@pytest.mark.parametrize(
    "key",
    [
        "transformer_blocks.60.attn.to_q.weight",
        "transformer_blocks.0.attn.qkv.weight",
        "transformer_blocks.0.img_norm1.weight",
        "visual.blocks.32.attn.qkv.weight",
        "vae/decoder.conv_in.weight",
    ],
)
def test_what_the_model_does_not_have_is_not_placed(key: str) -> None:
    assert family("qwen-image").place(key) is None


def test_attention_of_the_first_blocks_may_be_another_models() -> None:
    """FLUX's transformer has these names, and 3072 features; what else a file has, or says, decides."""
    names = [f"transformer.transformer_blocks.{n}.attn.{leaf}" for n in range(18) for leaf in ATTENTION]
    widths = dict.fromkeys(names, (3072, 3072))
    assert "qwen-image" in recognise_adapter(names, widths, {}).candidates
    assert recognise_adapter(names, widths, {"ss_base_model_version": "qwen_image_edit"}) == QWEN
    assert recognise_adapter([*names, "transformer.transformer_blocks.0.img_mlp.net.2"], {}, {}) == QWEN
    assert recognise_adapter([*names, "transformer.transformer_blocks.59.attn.to_q"], {}, {}) == QWEN


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ss_base_model_version", "qwen_image"),  # musubi, ai-toolkit
        ("ss_base_model_version", "qwen_image_edit"),
        ("ss_base_model_version", "qwen_image_layered"),
        ("modelspec.architecture", "Qwen-Image/lora"),  # musubi, OneTrainer
        ("modelspec.architecture", "Qwen-Image-Edit-2511/lora"),
        ("baseModel", "Qwen"),
        ("base_model", "Qwen/Qwen-Image"),
    ],
)
def test_what_trainers_write_into_a_file_names_the_family(key: str, value: str) -> None:
    assert laws.called_by(family("qwen-image"), key, value)


def test_what_is_written_into_a_file_names_the_family_again() -> None:
    known = family("qwen-image")
    assert known.modelspec["architecture"] == "Qwen-Image"
    assert laws.called_by(known, "modelspec.architecture", "Qwen-Image/lora")


@pytest.mark.parametrize("alias", ["Qwen-Image", "qwen_image", "qwen", "Qwen-Image-Edit"])
def test_people_call_it_so(alias: str) -> None:
    assert family(alias) is family("qwen-image")


def test_it_is_a_transformer_and_a_text_encoder() -> None:
    known = family("qwen-image")
    assert (known.title, known.components) == ("Qwen-Image", ("dit", "te"))
    assert list(map(known.group, known.components)) == ["unet", "te"]


def test_its_table_contradicts_itself_nowhere() -> None:
    family("qwen-image").check()
    assert laws.unsigned("qwen-image") == set()


# --- the published model ------------------------------------------------------------------


def test_every_module_of_musubi_is_its_tensor(shared: laws.Shared) -> None:
    modules = laws.lora_map(shared, LAYOUT)
    assert laws.bound(family("qwen-image"), modules) == laws.told(modules)
    assert laws.respelled(family("qwen-image"), "kohya", modules) == {stem: stem for stem in modules}


@pytest.mark.parametrize("naming", ["kohya", "diffusers", "comfy"])
def test_every_matrix_is_one_module_in_every_naming(shared: laws.Shared, naming: str) -> None:
    known = family("qwen-image")
    for key, shape in laws.shapes_of(shared, LAYOUT).items():
        if key.endswith(".weight") and len(shape) > 1:
            assert laws.rows_in(known, naming, key, shape[0]) == list(range(shape[0])), key


def test_every_claimed_size_is_true(shared: laws.Shared) -> None:
    shapes = laws.shapes_of(shared, LAYOUT)
    claims = {key: claim for key, claim in family("qwen-image").tensors.items() if key in shapes}
    assert len(claims) > 800
    for key, claim in claims.items():
        assert all(size in (None, true) for size, true in zip(claim, shapes[key], strict=False)), key


@pytest.mark.parametrize("before", [*laws.WRAPPINGS, "transformer/"])
def test_every_tensor_has_its_place_in_every_kind_of_checkpoint(shared: laws.Shared, before: str) -> None:
    keys = laws.shapes_of(shared, LAYOUT)
    assert laws.whole(laws.keys_placed(family("qwen-image"), keys, before)) == {key: key for key in keys}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), program=st.sampled_from(sorted(spellings(""))))
def test_any_tenth_of_its_names_is_qwen_image(shared: laws.Shared, seed: int, program: str) -> None:
    stems = [key.removesuffix(".weight") for key, *_ in laws.lora_map(shared, LAYOUT).values()]
    names = [spellings(stem)[program] for stem in laws.tenth(stems, seed)]
    assert recognise_adapter(names, {}, {}) == QWEN


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), before=st.sampled_from([*laws.WRAPPINGS, "transformer/"]))
def test_any_tenth_of_its_tensors_is_qwen_image(shared: laws.Shared, seed: int, before: str) -> None:
    shapes = laws.shapes_of(shared, LAYOUT)
    assert recognise_checkpoint({before + key: shapes[key] for key in laws.tenth(shapes, seed)}) == QWEN
