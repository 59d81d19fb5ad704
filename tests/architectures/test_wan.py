"""The table of Wan: names of its trainers and programs, and the real layout where it is at hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.architectures import Recognised, Target, family, recognise_adapter, recognise_checkpoint

from . import laws

WAN = Recognised("wan", ("wan",))
LAYOUT = "wan21-14b-t2v"

# diffusers 0.42.1, scripts/convert_wan_to_diffusers.py: what it calls what stands in a checkpoint.
ENDS = {
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
    "patch_embedding": "patch_embedding",
    "vace_patch_embedding": "vace_patch_embedding",
}
LEVELS = {
    "self_attn": "attn1", "cross_attn": "attn2", "q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0",
    "k_img": "add_k_proj", "v_img": "add_v_proj", "norm_k_img": "norm_added_k", "norm3": "norm2",
    "modulation": "scale_shift_table", "before_proj": "proj_in", "after_proj": "proj_out",
}  # fmt: skip


def diffusers_name(stem: str) -> str:
    """Written anew from the facts, not read from the table."""
    if stem in ENDS:
        return ENDS[stem]
    stem = stem.replace("ffn.0", "ffn.net.0.proj").replace("ffn.2", "ffn.net.2")
    return ".".join(LEVELS.get(level, level) for level in stem.split("."))


def in_folder(key: str) -> str:
    stem, dot, leaf = key.rpartition(".")
    if leaf in ("weight", "bias"):
        return f"transformer/{diffusers_name(stem)}{dot}{leaf}"
    return f"transformer/{diffusers_name(key)}"


ATTENTIONS = [
    *(f"self_attn.{leaf}" for leaf in ("q", "k", "v", "o")),
    *(f"cross_attn.{leaf}" for leaf in ("q", "k", "v", "o", "k_img", "v_img")),
]
STEMS = [
    *(f"blocks.{n}.{leaf}" for n in (0, 39) for leaf in (*ATTENTIONS, "ffn.0", "ffn.2")),
    *(f"vace_blocks.{n}.{leaf}" for n in (0, 14) for leaf in (*ATTENTIONS, "ffn.0", "ffn.2", "after_proj")),
    *("vace_blocks.0.before_proj", "text_embedding.0", "text_embedding.2", "time_embedding.0"),
    *("time_embedding.2", "time_projection.1", "img_emb.proj.1", "img_emb.proj.3", "head.head"),
]


def spellings(stem: str) -> dict[str, str]:
    """A module's name in each kind of file."""
    path = diffusers_name(stem)
    flat, flat_path = stem.replace(".", "_"), path.replace(".", "_")
    return {
        "musubi": f"lora_unet_{flat}",
        "VideoX-Fun": f"lora_unet__{flat}",
        "ComfyUI, ai-toolkit, diffusion-pipe": f"diffusion_model.{stem}",
        "diffusers": f"transformer.{path}",
        "DiffSynth-Studio": stem,
        "DiffSynth-Studio, older": f"pipe.dit.{stem}",
        "PEFT": f"base_model.model.{path}",
        "PEFT on the original model": f"base_model.model.{stem}",
        "OneTrainer": f"lora_transformer_{flat_path}",
        "SimpleTuner": f"lycoris_{flat_path}",
        "bare diffusers": path,
    }


@pytest.mark.parametrize("stem", STEMS)
def test_a_module_is_the_same_in_every_kind_of_file(stem: str) -> None:
    known = family("wan")
    found = {program: known.lookup(name) for program, name in spellings(stem).items()}
    assert found == dict.fromkeys(found, Target("dit", f"{stem}.weight"))


@pytest.mark.parametrize("stem", STEMS)
def test_each_naming_writes_what_its_programs_read(stem: str) -> None:
    names = spellings(stem)
    target = Target("dit", f"{stem}.weight")
    assert {naming: family("wan").spell(target, naming) for naming in family("wan").namings} == {
        "kohya": names["musubi"],
        "diffusers": names["diffusers"],
        "comfy": names["ComfyUI, ai-toolkit, diffusion-pipe"],
    }


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("patch_embedding.weight", "conv"),
        ("vace_patch_embedding.weight", "conv"),
        ("blocks.7.norm3.weight", "norm"),
        ("blocks.7.self_attn.norm_q.weight", "norm"),
        ("blocks.7.cross_attn.norm_k.weight", "norm"),
        ("blocks.7.cross_attn.norm_k_img.weight", "norm"),
        ("img_emb.proj.0.weight", "norm"),
        ("img_emb.proj.4.weight", "norm"),
        ("blocks.7.modulation", "parameter"),
        ("head.modulation", "parameter"),
        ("img_emb.emb_pos", "parameter"),
    ],
)
def test_what_is_no_linear_layer_has_its_kind_and_both_names(key: str, kind: str) -> None:
    known = family("wan")
    target = Target("dit", key, kind=kind)
    stem = key.removesuffix(".weight")
    assert known.lookup(f"diffusion_model.{stem}") == target
    assert known.lookup(f"transformer.{diffusers_name(stem)}") == target
    assert known.place(in_folder(key)) == known.place(key) == target


def test_the_norms_are_numbered_as_they_stand_in_one_and_as_they_run_in_the_other() -> None:
    known = family("wan")
    assert known.place("transformer/blocks.3.norm2.weight") == Target(
        "dit", "blocks.3.norm3.weight", kind="norm"
    )
    assert (
        known.place("transformer/blocks.3.norm3.weight") is None
    )  # this one has no weights, as norm1 has none
    assert known.place("blocks.3.norm1.weight") is known.place("transformer/blocks.3.norm1.weight") is None


@pytest.mark.parametrize(
    "key", ["blocks.0.norm3.bias", "blocks.0.ffn.0.bias", "head.head.bias", "patch_embedding.bias"]
)
def test_biases_stand_beside_their_weights(key: str) -> None:
    target = Target("dit", key, kind="bias")
    assert family("wan").place(key) == family("wan").place(in_folder(key)) == target
    assert family("wan").place(f"model.diffusion_model.{key}") == target


@pytest.mark.parametrize(
    "key",
    [
        "blocks.0.modulation.bias",
        "blocks.40.ffn.0.weight",
        "vace_blocks.15.ffn.0.weight",
        "vace_blocks.1.before_proj.weight",
        "blocks.0.self_attn.k_img.weight",
        "transformer_2/blocks.0.ffn.net.0.proj.weight",
    ],
)
def test_what_no_model_of_the_family_has_is_not_placed(key: str) -> None:
    assert family("wan").place(key) is None


@pytest.mark.parametrize("width", [5120, 3072, 1536, 96])
def test_models_of_any_width_are_wan(width: int) -> None:
    names = [f"lora_unet_blocks_{n}_{leaf}" for n in range(30) for leaf in ("self_attn_q", "cross_attn_o")]
    assert recognise_adapter(names, dict.fromkeys(names, (width, width)), {}) == WAN
    shapes: laws.Shapes = {
        f"blocks.{n}.self_attn.{leaf}.weight": (width, width) for n in range(30) for leaf in "qkvo"
    }
    assert recognise_checkpoint(shapes | {"patch_embedding.weight": (width, 16, 1, 2, 2)}) == WAN


@pytest.mark.parametrize("program", spellings("blocks.0.ffn.0"))
def test_it_is_known_by_a_few_names_of_any_program(program: str) -> None:
    assert recognise_adapter([spellings(stem)[program] for stem in STEMS[:4]], {}, {}) == WAN


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ss_base_model_version", "wan"),  # musubi
        ("modelspec.architecture", "wan2.1/lora"),  # musubi
        ("ss_base_model_version", "wan_2.1"),  # ai-toolkit
        ("ss_base_model_version", "wan_2.1_vace"),
        ("ss_base_model_version", "wan_2.2_14b"),
        ("ss_base_model_version", "wan_2.2_5b"),
        ("baseModel", "Wan Video 2.2 T2V-A14B"),
        ("base_model", "Wan-AI/Wan2.1-T2V-14B-Diffusers"),
    ],
)
def test_what_trainers_write_into_a_file_names_the_family(key: str, value: str) -> None:
    assert laws.called_by(family("wan"), key, value)


def test_what_is_written_into_a_file_names_the_family_again() -> None:
    known = family("wan")
    assert known.modelspec["architecture"] == "wan2.1"
    assert laws.called_by(known, "modelspec.architecture", "wan2.1/lora")


@pytest.mark.parametrize("alias", ["Wan 2.1", "wan2.1", "Wan2.2", "WAN", "wan21", "Wan 2.x"])
def test_people_call_it_so(alias: str) -> None:
    assert family(alias) is family("wan")


def test_it_is_a_model_without_text_encoder() -> None:
    known = family("wan")
    assert (known.title, known.components, known.group("dit")) == ("Wan 2.x", ("dit",), "unet")


def test_its_table_contradicts_itself_nowhere() -> None:
    family("wan").check()
    assert laws.unsigned("wan") == set()


# --- the published 14B model --------------------------------------------------------------


def test_every_module_of_musubi_is_its_tensor(shared: laws.Shared) -> None:
    modules = laws.lora_map(shared, LAYOUT)
    assert laws.bound(family("wan"), modules) == laws.told(modules)
    assert laws.respelled(family("wan"), "kohya", modules) == {stem: stem for stem in modules}


@pytest.mark.parametrize("naming", ["kohya", "diffusers", "comfy"])
def test_every_matrix_is_one_module_in_every_naming(shared: laws.Shared, naming: str) -> None:
    known = family("wan")
    for key, shape in laws.shapes_of(shared, LAYOUT).items():
        if key.endswith(".weight") and len(shape) > 1:
            assert laws.rows_in(known, naming, key, shape[0]) == list(range(shape[0])), key


@pytest.mark.parametrize("wrapping", laws.WRAPPINGS)
def test_every_tensor_of_a_single_file_has_its_place(shared: laws.Shared, wrapping: str) -> None:
    keys = laws.shapes_of(shared, LAYOUT)
    assert laws.whole(laws.keys_placed(family("wan"), keys, wrapping)) == {key: key for key in keys}


def test_every_tensor_of_a_folder_has_its_place(shared: laws.Shared) -> None:
    keys = laws.shapes_of(shared, LAYOUT)
    found = {key: family("wan").place(in_folder(key)) for key in keys}
    assert laws.whole(found) == {key: key for key in keys}
    bare = {key: family("wan").place(in_folder(key).removeprefix("transformer/")) for key in keys}
    assert bare == found


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), program=st.sampled_from(sorted(spellings(""))))
def test_any_tenth_of_its_names_is_wan(shared: laws.Shared, seed: int, program: str) -> None:
    stems = [key.removesuffix(".weight") for key, *_ in laws.lora_map(shared, LAYOUT).values()]
    names = [spellings(stem)[program] for stem in laws.tenth(stems, seed)]
    assert recognise_adapter(names, {}, {}) == WAN


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), wrapping=st.sampled_from([*laws.WRAPPINGS, "transformer/"]))
def test_any_tenth_of_its_tensors_is_wan(shared: laws.Shared, seed: int, wrapping: str) -> None:
    shapes = laws.shapes_of(shared, LAYOUT)
    if wrapping == "transformer/":
        shapes, wrapping = {in_folder(key): shape for key, shape in shapes.items()}, ""
    found = {wrapping + key: shapes[key] for key in laws.tenth(shapes, seed)}
    assert recognise_checkpoint(found) == WAN
