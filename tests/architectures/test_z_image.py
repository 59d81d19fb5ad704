"""The table of Z-Image: names of its trainers and programs, and the real layouts where they are at hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.architectures import Recognised, Target, family, recognise_adapter, recognise_checkpoint

from . import laws

Z_IMAGE = Recognised("z-image", ("z-image",))
BOTH = Recognised(None, ("lumina2", "z-image"))
LAYOUT = "z-image"
TE = "text_encoders.qwen3_4b.transformer."

# diffusers 0.42.1, loaders/single_file_utils.py: what it calls what stands in ComfyUI's checkpoint.
RENAMED = {
    "x_embedder": "all_x_embedder.2-1",
    "final_layer.linear": "all_final_layer.2-1.linear",
    "final_layer.adaLN_modulation.1": "all_final_layer.2-1.adaLN_modulation.1",
}
LEVELS = {"out": "to_out.0", "q_norm": "norm_q", "k_norm": "norm_k", "qkv": "to_"}


def diffusers_name(stem: str) -> str:
    """Written anew from the facts, not read from the table. Of a fused weight, less the letter q, k or v."""
    return RENAMED.get(stem) or ".".join(LEVELS.get(level, level) for level in stem.split("."))


LINEARS = ["attention.out", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3"]
BLOCKS = ["layers.0", "layers.29", "noise_refiner.1", "context_refiner.0", "siglip_refiner.1"]
STEMS = [
    *(f"{block}.{leaf}" for block in BLOCKS for leaf in LINEARS),
    *("layers.29.adaLN_modulation.0", "noise_refiner.0.adaLN_modulation.0", *RENAMED),
    *("t_embedder.mlp.0", "t_embedder.mlp.2", "cap_embedder.1", "siglip_embedder.1"),
]
FUSED = [f"{block}.attention.qkv" for block in BLOCKS]


def on_the_path(path: str) -> dict[str, str]:
    """A module's name in files that have the official model's names, q, k and v apart."""
    flat = path.replace(".", "_")
    return {
        "musubi": f"lora_unet_{flat}",
        "diffusers, OneTrainer": f"transformer.{path}",
        "ai-toolkit, ComfyUI": f"diffusion_model.{path}",
        "OneTrainer's mixture": f"lora_transformer_{flat}",
        "SimpleTuner": f"lycoris_{flat}",
        "DiffSynth-Studio": path,
        "DiffSynth-Studio, older": f"pipe.dit.{path}",
        "PEFT": f"base_model.model.{path}",
    }


def on_the_key(stem: str) -> dict[str, str]:
    """A module's name in files that have the names of ComfyUI's checkpoint, q, k and v fused."""
    flat = stem.replace(".", "_")
    return {
        "musubi for ComfyUI": f"lora_unet_{flat}",
        "diffusion-pipe": f"diffusion_model.{stem}",
        "bare": stem,
        "LyCORIS": f"lycoris_{flat}",
    }


@pytest.mark.parametrize("stem", STEMS)
def test_a_module_is_the_same_in_every_kind_of_file(stem: str) -> None:
    names = [*on_the_key(stem).values(), *on_the_path(diffusers_name(stem)).values()]
    found = {name: family("z-image").lookup(name) for name in names}
    assert found == dict.fromkeys(names, Target("dit", f"{stem}.weight"))


@pytest.mark.parametrize("stem", STEMS)
def test_each_naming_writes_what_its_programs_read(stem: str) -> None:
    known, target = family("z-image"), Target("dit", f"{stem}.weight")
    names = on_the_path(diffusers_name(stem))
    assert {naming: known.spell(target, naming) for naming in known.namings} == {
        "kohya": names["musubi"],
        "diffusers": names["diffusers, OneTrainer"],
        "comfy": names["ai-toolkit, ComfyUI"],
        "kohya-comfy": on_the_key(stem)["musubi for ComfyUI"],
    }


@pytest.mark.parametrize("stem", FUSED)
def test_query_key_and_value_are_thirds(stem: str) -> None:
    for number, letter in enumerate("qkv"):
        target = Target("dit", f"{stem}.weight", ((number, number + 1, 3),))
        names = on_the_path(diffusers_name(stem) + letter)
        assert {family("z-image").lookup(name) for name in names.values()} == {target}
        assert target.rows(3840) == ((3840 * number, 3840 * (number + 1)),)


@pytest.mark.parametrize("stem", FUSED)
def test_q_k_and_v_are_one_module_in_one_naming_and_three_in_the_others(stem: str) -> None:
    known, key = family("z-image"), f"{stem}.weight"
    fused = Target("dit", key)
    assert {known.lookup(name) for name in on_the_key(stem).values()} == {fused}
    assert known.on_key("kohya-comfy", key) == (fused,)
    apart = tuple(Target("dit", key, ((n, n + 1, 3),)) for n in range(3))
    assert [known.on_key(naming, key) for naming in ("kohya", "diffusers", "comfy")] == [apart] * 3
    assert [known.spell(fused, naming) for naming in ("kohya", "diffusers", "comfy")] == [None] * 3
    assert [known.spell(target, "kohya-comfy") for target in apart] == [None] * 3


@pytest.mark.parametrize(
    ("key", "path", "kind"),
    [
        ("layers.4.attention.q_norm.weight", "layers.4.attention.norm_q.weight", "norm"),
        ("layers.4.attention.k_norm.weight", "layers.4.attention.norm_k.weight", "norm"),
        ("layers.4.attention_norm1.weight", "layers.4.attention_norm1.weight", "norm"),
        ("context_refiner.1.ffn_norm2.weight", "context_refiner.1.ffn_norm2.weight", "norm"),
        ("cap_embedder.0.weight", "cap_embedder.0.weight", "norm"),
        ("x_pad_token", "x_pad_token", "parameter"),
        ("cap_pad_token", "cap_pad_token", "parameter"),
        ("siglip_pad_token", "siglip_pad_token", "parameter"),
        ("siglip_embedder.0.weight", "siglip_embedder.0.weight", "norm"),
    ],
)
def test_what_is_no_linear_layer_has_its_kind_and_both_names(key: str, path: str, kind: str) -> None:
    known, target = family("z-image"), Target("dit", key, kind=kind)
    names = f"diffusion_model.{key}", f"transformer.{path}"
    assert [known.lookup(name.removesuffix(".weight")) for name in names] == [target, target]
    assert [known.place(name) for name in (key, path, f"transformer/{path}")] == [target] * 3


def test_the_unused_norm_of_some_files_is_none_of_diffusers() -> None:
    known = family("z-image")
    assert known.place("norm_final.weight") == Target("dit", "norm_final.weight", kind="norm")
    assert known.place("transformer/norm_final.weight") is None


@pytest.mark.parametrize(
    "key",
    [
        "layers.30.attention.qkv.weight",
        "context_refiner.0.adaLN_modulation.0.weight",
        "layers.0.adaLN_modulation.1.weight",
        "transformer/layers.0.attention.qkv.weight",
        "transformer/x_embedder.weight",
        "first_stage_model.decoder.conv_in.weight",
    ],
)
def test_what_the_model_does_not_have_is_not_placed(key: str) -> None:
    assert family("z-image").place(key) is None


def test_biases_stand_beside_their_weights() -> None:
    known, target = family("z-image"), Target("dit", "layers.0.adaLN_modulation.0.bias", kind="bias")
    keys = ["layers.0.adaLN_modulation.0.bias", "transformer/layers.0.adaLN_modulation.0.bias"]
    assert [known.place(key) for key in keys] == [target, target]
    moved = Target("dit", "final_layer.linear.bias", kind="bias")
    assert known.place("transformer/all_final_layer.2-1.linear.bias") == moved


@pytest.mark.parametrize(
    ("stem", "kind"),
    [
        ("layers.0.self_attn.q_proj", "linear"),
        ("layers.35.mlp.up_proj", "linear"),
        ("layers.3.self_attn.q_norm", "norm"),
        ("norm", "norm"),
        ("embed_tokens", "embedding"),
    ],
)
def test_the_text_encoder_is_qwen3(stem: str, kind: str) -> None:
    known, target = family("z-image"), Target("te", f"{TE}model.{stem}.weight", kind=kind)
    flat = stem.replace(".", "_")
    names = [f"lora_te_{flat}", f"text_encoder.model.{stem}", f"{TE}model.{stem}"]
    assert [known.spell(target, naming) for naming in ("kohya", "diffusers", "comfy")] == names
    assert [known.lookup(name) for name in (*names, f"lora_te_model_{flat}")] == [target] * 4
    keys = [f"{TE}model.{stem}.weight", f"text_encoder/model.{stem}.weight"]
    assert [known.place(key) for key in keys] == [target] * 2


# --- beside Lumina 2, which is of the same design -----------------------------------------


SHARED = [
    f"layers.{n}.{leaf}" for n in (0, 25) for leaf in ("attention.qkv", "attention.out", "feed_forward.w2")
]


@pytest.mark.parametrize("program", on_the_key(""))
def test_names_that_lumina_has_as_well_do_not_tell(program: str) -> None:
    names = [on_the_key(stem)[program] for stem in SHARED]
    assert recognise_adapter(names, {}, {}) == BOTH
    assert recognise_adapter(names, {}, {"ss_base_model_version": "zimage"}) == Z_IMAGE


@pytest.mark.parametrize(
    ("stem", "width"),
    [
        ("layers.0.attention.qkv", (11520, 3840)),
        ("layers.1.feed_forward.w2", (3840, 10240)),
        ("layers.1.feed_forward.w2", (480, 1280)),
        ("context_refiner.0.attention.out", (1920, 1920)),
        ("cap_embedder.1", (3840, 2560)),
    ],
)
def test_the_width_of_a_shared_name_tells(stem: str, width: tuple[int, int]) -> None:
    name = f"diffusion_model.{stem}"
    assert recognise_adapter([name], {}, {}) == BOTH
    assert recognise_adapter([name], {name: width}, {}) == Z_IMAGE
    assert recognise_checkpoint({f"{stem}.weight": width}) == Z_IMAGE


@pytest.mark.parametrize(
    "own",
    [
        "layers.26.attention.out",
        "layers.0.adaLN_modulation.0",
        "layers.0.attention.to_q",
        "layers.0.attention.to_out.0",
    ],
)
def test_a_name_that_only_z_image_has_tells(own: str) -> None:
    names = [on_the_key(stem)["diffusion-pipe"] for stem in (*SHARED, own)]
    assert recognise_adapter(names, {}, {}) == Z_IMAGE


def test_the_text_encoders_layers_tell_by_their_width() -> None:
    name = "lora_te_layers_0_self_attn_q_proj"
    assert recognise_adapter([name], {name: (4096, 2560)}, {}) == Z_IMAGE
    assert recognise_adapter([name], {name: (2048, 2304)}, {}).family == "lumina2"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ss_base_model_version", "z_image"),  # musubi
        ("ss_base_model_version", "zimage"),  # ai-toolkit
        ("modelspec.architecture", "Z-Image/lora"),  # musubi, OneTrainer
        ("baseModel", "ZImageTurbo"),
        ("base_model", "Tongyi-MAI/Z-Image-Turbo"),
    ],
)
def test_what_trainers_write_into_a_file_names_the_family(key: str, value: str) -> None:
    assert laws.called_by(family("z-image"), key, value)
    assert not laws.called_by(family("lumina2"), key, value)


def test_what_is_written_into_a_file_names_the_family_again() -> None:
    known = family("z-image")
    assert known.modelspec["architecture"] == "Z-Image"
    assert laws.called_by(known, "modelspec.architecture", "Z-Image/lora")


@pytest.mark.parametrize("alias", ["Z-Image", "z_image", "zimage", "Z-Image-Turbo"])
def test_people_call_it_so(alias: str) -> None:
    assert family(alias) is family("z-image")


def test_it_is_a_transformer_and_a_text_encoder() -> None:
    known = family("z-image")
    assert (known.title, known.components) == ("Z-Image", ("dit", "te"))
    assert list(map(known.group, known.components)) == ["unet", "te"]


def test_its_table_contradicts_itself_nowhere() -> None:
    family("z-image").check()
    assert laws.unsigned("z-image") == set()


# --- the published model ------------------------------------------------------------------


@pytest.mark.parametrize(("section", "naming"), [("modules", "kohya"), ("modules_comfy", "kohya-comfy")])
def test_every_module_of_musubi_is_its_slice(shared: laws.Shared, section: str, naming: str) -> None:
    modules = laws.lora_map(shared, LAYOUT, section)
    assert laws.bound(family("z-image"), modules) == laws.told(modules)
    assert laws.respelled(family("z-image"), naming, modules) == {stem: stem for stem in modules}


@pytest.mark.parametrize(("prefix", "naming"), [("transformer.", "diffusers"), ("diffusion_model.", "comfy")])
def test_every_module_of_diffusers_is_its_slice(shared: laws.Shared, prefix: str, naming: str) -> None:
    known = family("z-image")
    expected = laws.slices(laws.lora_map(shared, LAYOUT, "diffusers"), laws.shapes_of(shared, LAYOUT))
    assert laws.slices_found(known, prefix, expected) == expected
    names = [prefix + path for path in expected]
    assert laws.respelled(known, naming, names) == {name: name for name in names}


@pytest.mark.parametrize("naming", ["kohya", "diffusers", "comfy", "kohya-comfy"])
def test_the_modules_of_a_naming_are_each_matrix_once(shared: laws.Shared, naming: str) -> None:
    known = family("z-image")
    for key, shape in laws.shapes_of(shared, LAYOUT).items():
        if key.endswith(".weight") and len(shape) > 1:
            assert laws.rows_in(known, naming, key, shape[0]) == list(range(shape[0])), key


def test_every_claimed_size_is_true(shared: laws.Shared) -> None:
    shapes = laws.shapes_of(shared, LAYOUT)
    claims = {key: claim for key, claim in family("z-image").tensors.items() if key in shapes}
    assert len(claims) > 200
    for key, claim in claims.items():
        assert all(size in (None, true) for size, true in zip(claim, shapes[key], strict=False)), key


@pytest.mark.parametrize("wrapping", laws.WRAPPINGS)
def test_every_tensor_of_a_single_file_has_its_place(shared: laws.Shared, wrapping: str) -> None:
    keys = laws.shapes_of(shared, LAYOUT)
    assert laws.whole(laws.keys_placed(family("z-image"), keys, wrapping)) == {key: key for key in keys}


def in_folder(key: str) -> dict[str, tuple[int, int]]:
    """The tensors of a folder that are a checkpoint's, each with its part of the rows in thirds."""
    stem, dot, leaf = key.rpartition(".")
    if "qkv" not in stem:
        return {diffusers_name(stem) + dot + leaf if dot else key: (0, 3)}
    return {f"{diffusers_name(stem)}{letter}.{leaf}": (n, n + 1) for n, letter in enumerate("qkv")}


@pytest.mark.parametrize("before", ["transformer/", ""])
def test_every_tensor_of_the_folder_is_its_third_of_the_single_files(
    shared: laws.Shared, before: str
) -> None:
    expected = {
        name: (key, part) for key in laws.shapes_of(shared, LAYOUT) for name, part in in_folder(key).items()
    }
    shapes = laws.shapes_of(shared, "z-image-diffusers")
    assert expected.keys() == shapes.keys()
    for name, (key, (first, last)) in expected.items():
        target = family("z-image").place(before + name)
        assert target is not None, name
        assert target.key == key
        height = shapes[name][0]
        rows = ((first * height, last * height),) if last - first == 1 else ()
        assert target.rows(height) == rows, name


def test_a_lora_meets_the_folder_on_the_tensor_that_it_is_of(shared: laws.Shared) -> None:
    known = family("z-image")
    for section, before in (("modules", ""), ("diffusers", "transformer.")):
        for stem, (component, key, *_) in laws.lora_map(shared, "z-image-diffusers", section).items():
            assert known.lookup(before + stem) == known.place(f"{component}/{key}"), stem


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), program=st.sampled_from(sorted(on_the_path(""))))
def test_any_tenth_of_the_official_names_is_z_image(shared: laws.Shared, seed: int, program: str) -> None:
    paths = laws.tenth(laws.lora_map(shared, LAYOUT, "diffusers"), seed)
    assert recognise_adapter([on_the_path(path)[program] for path in paths], {}, {}) == Z_IMAGE


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_tenth_of_comfyuis_names_is_z_image_by_its_sizes(shared: laws.Shared, seed: int) -> None:
    modules = laws.lora_map(shared, LAYOUT, "modules_comfy")
    names = laws.tenth(modules, seed)
    assert recognise_adapter(names, laws.widths(modules, names), {}) == Z_IMAGE


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), wrapping=st.sampled_from(laws.WRAPPINGS))
def test_any_tenth_of_its_tensors_is_z_image(shared: laws.Shared, seed: int, wrapping: str) -> None:
    shapes = laws.shapes_of(shared, LAYOUT)
    assert recognise_checkpoint({wrapping + key: shapes[key] for key in laws.tenth(shapes, seed)}) == Z_IMAGE
    parts = laws.shapes_of(shared, "z-image-diffusers")
    assert (
        recognise_checkpoint({f"transformer/{key}": parts[key] for key in laws.tenth(parts, seed)}) == Z_IMAGE
    )
