"""The table of Lumina 2: names of its trainers and programs, and the real layout where it is at hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.architectures import Recognised, Target, family, recognise_adapter, recognise_checkpoint

from . import laws

LUMINA = Recognised("lumina2", ("lumina2",))
BOTH = Recognised(None, ("lumina2", "z-image"))
LAYOUT = "lumina2"
TE = "text_encoders.gemma2_2b.transformer.model."

# diffusers 0.42.1, loaders/single_file_utils.py: what stands in a checkpoint, in its words.
ENDS = {
    "t_embedder.mlp.0": "time_caption_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_caption_embed.timestep_embedder.linear_2",
    "cap_embedder.0": "time_caption_embed.caption_embedder.0",
    "cap_embedder.1": "time_caption_embed.caption_embedder.1",
    "final_layer.adaLN_modulation.1": "norm_out.linear_1",
    "final_layer.linear": "norm_out.linear_2",
    "x_embedder": "x_embedder",
}
LEVELS = {
    "attention": "attn", "out": "to_out.0", "q_norm": "norm_q", "k_norm": "norm_k",
    "w1": "linear_1", "w2": "linear_2", "w3": "linear_3", "attention_norm2": "norm2",
}  # fmt: skip


def diffusers_name(stem: str) -> str:
    """Written anew from the facts, not read from the table. Of a fused weight, less the letter q, k or v."""
    if stem in ENDS:
        return ENDS[stem]
    stem = stem.replace("adaLN_modulation.1", "norm1.linear").replace("qkv", "to_")
    first = "norm1" if stem.startswith("context_refiner") else "norm1.norm"
    levels = {**LEVELS, "attention_norm1": first}
    return ".".join(levels.get(level, level) for level in stem.split("."))


LINEARS = ["attention.out", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3"]
STEMS = [
    *(f"{block}.{leaf}" for block in ("layers.0", "layers.25", "noise_refiner.1") for leaf in LINEARS),
    *(f"context_refiner.1.{leaf}" for leaf in LINEARS),
    *("layers.25.adaLN_modulation.1", "noise_refiner.0.adaLN_modulation.1"),
    *(stem for stem in ENDS if stem != "cap_embedder.0"),
]
FUSED = ["layers.0.attention.qkv", "noise_refiner.1.attention.qkv", "context_refiner.0.attention.qkv"]


def on_the_key(stem: str) -> dict[str, str]:
    """A module's name in files that have the checkpoint's own, q, k and v fused."""
    flat = stem.replace(".", "_")
    return {
        "sd-scripts": f"lora_unet_{flat}",
        "ComfyUI, diffusion-pipe": f"diffusion_model.{stem}",
        "LyCORIS": f"lycoris_{flat}",
        "bare": stem,
        "PEFT": f"base_model.model.{stem}",
    }


def on_the_path(path: str) -> dict[str, str]:
    """A module's name in files that have diffusers' names."""
    flat = path.replace(".", "_")
    return {
        "diffusers": f"transformer.{path}",
        "OneTrainer": f"lora_transformer_{flat}",
        "SimpleTuner": f"lycoris_{flat}",
        "bare diffusers": path,
        "PEFT": f"base_model.model.{path}",
        "kohya's with diffusers' path": f"lora_unet_{flat}",
    }


@pytest.mark.parametrize("stem", STEMS)
def test_a_module_is_the_same_in_every_kind_of_file(stem: str) -> None:
    names = [*on_the_key(stem).values(), *on_the_path(diffusers_name(stem)).values()]
    found = {name: family("lumina2").lookup(name) for name in names}
    assert found == dict.fromkeys(names, Target("dit", f"{stem}.weight"))


@pytest.mark.parametrize("stem", STEMS)
def test_each_naming_writes_what_its_programs_read(stem: str) -> None:
    known, target = family("lumina2"), Target("dit", f"{stem}.weight")
    assert {naming: known.spell(target, naming) for naming in known.namings} == {
        "kohya": on_the_key(stem)["sd-scripts"],
        "diffusers": on_the_path(diffusers_name(stem))["diffusers"],
        "comfy": on_the_key(stem)["ComfyUI, diffusion-pipe"],
    }


@pytest.mark.parametrize("stem", FUSED)
def test_the_query_has_three_rows_for_each_of_key_and_value(stem: str) -> None:
    known = family("lumina2")
    cuts = {"q": (0, 2304), "k": (2304, 3072), "v": (3072, 3840)}
    for letter, (first, last) in cuts.items():
        for name in on_the_path(diffusers_name(stem) + letter).values():
            target = known.lookup(name)
            assert target is not None, name
            assert (target.key, target.rows(last - first)) == (f"{stem}.weight", ((first, last),))
    # The same of a model a third as wide.
    small = known.lookup(f"transformer.{diffusers_name(stem)}k")
    assert small is not None
    assert small.rows(256) == ((768, 1024),)


@pytest.mark.parametrize("stem", FUSED)
def test_q_k_and_v_are_one_module_in_one_naming_and_three_in_another(stem: str) -> None:
    known, key = family("lumina2"), f"{stem}.weight"
    fused = Target("dit", key)
    assert {known.lookup(name) for name in on_the_key(stem).values()} == {fused}
    assert known.on_key("kohya", key) == known.on_key("comfy", key) == (fused,)
    apart = known.on_key("diffusers", key)
    names = [f"transformer.{diffusers_name(stem)}{letter}" for letter in "qkv"]
    assert [known.spell(target, "diffusers") for target in apart] == names
    assert [known.spell(target, "comfy") for target in apart] == [None, None, None]
    assert known.spell(fused, "diffusers") is None


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("layers.4.attention.q_norm", "layers.4.attn.norm_q"),
        ("layers.4.attention_norm1", "layers.4.norm1.norm"),
        ("context_refiner.0.attention_norm1", "context_refiner.0.norm1"),
        ("layers.4.attention_norm2", "layers.4.norm2"),
        ("layers.4.ffn_norm1", "layers.4.ffn_norm1"),
        ("layers.4.ffn_norm2", "layers.4.ffn_norm2"),
        ("cap_embedder.0", "time_caption_embed.caption_embedder.0"),
    ],
)
def test_norms_have_both_names(key: str, path: str) -> None:
    known, target = family("lumina2"), Target("dit", f"{key}.weight", kind="norm")
    assert known.lookup(f"diffusion_model.{key}") == known.lookup(f"transformer.{path}") == target
    assert known.place(f"{key}.weight") == known.place(f"transformer/{path}.weight") == target


def test_the_unused_norm_of_the_published_file_is_none_of_diffusers() -> None:
    known = family("lumina2")
    assert known.place("norm_final.weight") == Target("dit", "norm_final.weight", kind="norm")
    assert known.place("transformer/norm_final.weight") is known.lookup("lora_transformer_norm_final") is None


@pytest.mark.parametrize(
    "key",
    [
        "layers.26.attention.qkv.weight",
        "context_refiner.0.adaLN_modulation.1.weight",
        "layers.0.adaLN_modulation.0.weight",
        "transformer/layers.0.attn.qkv.weight",
        "noise_refiner.2.feed_forward.w1.weight",
        "vae.decoder.conv_in.weight",
    ],
)
def test_what_the_model_does_not_have_is_not_placed(key: str) -> None:
    assert family("lumina2").place(key) is None


@pytest.mark.parametrize(
    ("stem", "kind"),
    [
        ("layers.0.self_attn.q_proj", "linear"),
        ("layers.25.mlp.gate_proj", "linear"),
        ("layers.3.pre_feedforward_layernorm", "norm"),
        ("norm", "norm"),
        ("embed_tokens", "embedding"),
    ],
)
def test_the_text_encoder_is_gemma(stem: str, kind: str) -> None:
    known, target = family("lumina2"), Target("te", f"{TE}{stem}.weight", kind=kind)
    names = [f"lora_te_{stem.replace('.', '_')}", f"text_encoder.{stem}", f"{TE}{stem}"]
    assert [known.spell(target, naming) for naming in ("kohya", "diffusers", "comfy")] == names
    assert [known.lookup(name) for name in names] == [target] * 3
    keys = [f"{TE}{stem}.weight", f"text_encoder/{stem}.weight", f"text_encoder/model.{stem}.weight"]
    assert [known.place(key) for key in keys] == [target] * 3


# --- beside Z-Image, which is of the same design ------------------------------------------


SHARED = [
    f"layers.{n}.{leaf}" for n in (0, 25) for leaf in ("attention.qkv", "attention.out", "feed_forward.w2")
]


@pytest.mark.parametrize("program", on_the_key(""))
def test_names_that_z_image_has_as_well_do_not_tell(program: str) -> None:
    names = [on_the_key(stem)[program] for stem in SHARED]
    assert recognise_adapter(names, {}, {}) == BOTH
    said = {"modelspec.architecture": "lumina-2/lora"}
    assert recognise_adapter(names, {}, said) == LUMINA


@pytest.mark.parametrize(
    ("stem", "width"),
    [
        ("layers.0.attention.qkv", (3840, 2304)),
        ("layers.1.feed_forward.w2", (2304, 9216)),
        ("layers.1.feed_forward.w2", (576, 2304)),
        ("context_refiner.0.attention.out", (1152, 1152)),
    ],
)
def test_the_width_of_a_shared_name_tells(stem: str, width: tuple[int, int]) -> None:
    name = f"diffusion_model.{stem}"
    assert recognise_adapter([name], {}, {}) == BOTH
    assert recognise_adapter([name], {name: width}, {}) == LUMINA
    assert recognise_checkpoint({f"{stem}.weight": width}) == LUMINA


@pytest.mark.parametrize("own", ["layers.0.adaLN_modulation.1", "noise_refiner.1.adaLN_modulation.1"])
def test_a_name_that_only_lumina_has_tells(own: str) -> None:
    names = [on_the_key(stem)["sd-scripts"] for stem in (*SHARED, own)]
    assert recognise_adapter(names, {}, {}) == LUMINA


@pytest.mark.parametrize("width", [1000, 768])
def test_a_width_that_fits_neither_or_is_a_fraction_of_both_leaves_it_open(width: int) -> None:
    name = "lora_unet_layers_0_attention_out"
    assert recognise_adapter([name], {name: (width, width)}, {}) == BOTH


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ss_base_model_version", "lumina2"),  # sd-scripts
        ("modelspec.architecture", "lumina-2/lora"),
        ("modelspec.architecture", "lumina"),
        ("baseModel", "Lumina"),
        ("base_model", "Alpha-VLLM/Lumina-Image-2.0"),
    ],
)
def test_what_trainers_write_into_a_file_names_the_family(key: str, value: str) -> None:
    assert laws.called_by(family("lumina2"), key, value)
    assert not laws.called_by(family("z-image"), key, value)


def test_what_is_written_into_a_file_names_the_family_again() -> None:
    known = family("lumina2")
    assert known.modelspec["architecture"] == "lumina-2"
    assert laws.called_by(known, "modelspec.architecture", "lumina-2/lora")


@pytest.mark.parametrize("alias", ["Lumina 2", "lumina2", "Lumina-Image-2.0", "lumina"])
def test_people_call_it_so(alias: str) -> None:
    assert family(alias) is family("lumina2")


def test_it_is_a_transformer_and_a_text_encoder() -> None:
    known = family("lumina2")
    assert (known.title, known.components) == ("Lumina 2", ("dit", "te"))
    assert list(map(known.group, known.components)) == ["unet", "te"]


def test_its_table_contradicts_itself_nowhere() -> None:
    family("lumina2").check()
    assert laws.unsigned("lumina2") == set()


# --- the published model ------------------------------------------------------------------


def test_every_module_of_kohya_is_its_tensor(shared: laws.Shared) -> None:
    modules = laws.lora_map(shared, LAYOUT)
    assert laws.bound(family("lumina2"), modules) == laws.told(modules)
    assert laws.respelled(family("lumina2"), "kohya", modules) == {stem: stem for stem in modules}


def test_every_module_of_diffusers_is_its_slice(shared: laws.Shared) -> None:
    known = family("lumina2")
    expected = laws.slices(laws.lora_map(shared, LAYOUT, "diffusers"), laws.shapes_of(shared, LAYOUT))
    assert laws.slices_found(known, "transformer.", expected) == expected
    names = [f"transformer.{path}" for path in expected]
    assert laws.respelled(known, "diffusers", names) == {name: name for name in names}


@pytest.mark.parametrize("naming", ["kohya", "diffusers", "comfy"])
def test_the_modules_of_a_naming_are_each_matrix_once(shared: laws.Shared, naming: str) -> None:
    known = family("lumina2")
    for key, shape in laws.shapes_of(shared, LAYOUT).items():
        if key.endswith(".weight") and len(shape) > 1:
            assert laws.rows_in(known, naming, key, shape[0]) == list(range(shape[0])), key


def test_every_claimed_size_is_true(shared: laws.Shared) -> None:
    shapes = laws.shapes_of(shared, LAYOUT)
    claims = {key: claim for key, claim in family("lumina2").tensors.items() if key in shapes}
    assert len(claims) > 180
    for key, claim in claims.items():
        assert all(size in (None, true) for size, true in zip(claim, shapes[key], strict=False)), key


@pytest.mark.parametrize("wrapping", laws.WRAPPINGS)
def test_every_tensor_of_a_single_file_has_its_place(shared: laws.Shared, wrapping: str) -> None:
    keys = laws.shapes_of(shared, LAYOUT)
    assert laws.whole(laws.keys_placed(family("lumina2"), keys, wrapping)) == {key: key for key in keys}


def folder(shapes: laws.Shapes) -> dict[str, tuple[str, tuple[int, int], tuple[int, ...]]]:
    """The tensors of a diffusers folder: of which key they are, of which rows, and their shape."""
    found = {}
    for key, shape in shapes.items():
        stem, _, leaf = key.rpartition(".")
        cuts = {"q": (0, 2304), "k": (2304, 3072), "v": (3072, 3840)} if "qkv" in key else {"": (0, shape[0])}
        for letter, (first, last) in cuts.items():
            name = f"transformer/{diffusers_name(stem)}{letter}.{leaf}"
            found[name] = (key, (first, last), (last - first, *shape[1:]))
    return {name: found[name] for name in found if "norm_final" not in name}


def test_every_tensor_of_a_folder_has_its_place(shared: laws.Shared) -> None:
    expected = folder(laws.shapes_of(shared, LAYOUT))
    assert len(expected) == 459
    for name, (key, rows, shape) in expected.items():
        for file_key in (name, name.removeprefix("transformer/")):
            target = family("lumina2").place(file_key)
            assert target is not None, file_key
            assert (target.key, target.rows(shape[0]) or ((0, shape[0]),)) == (key, (rows,)), file_key


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), program=st.sampled_from(sorted(on_the_key(""))))
def test_any_tenth_of_its_names_is_lumina_by_its_sizes(shared: laws.Shared, seed: int, program: str) -> None:
    modules = {
        on_the_key(entry[0].removesuffix(".weight"))[program]: entry
        for entry in laws.lora_map(shared, LAYOUT).values()
    }
    names = laws.tenth(modules, seed)
    assert recognise_adapter(names, laws.widths(modules, names), {}) == LUMINA


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 12))
def test_without_sizes_a_subset_is_lumina_where_z_image_lacks_a_name(
    shared: laws.Shared, seed: int, count: int
) -> None:
    theirs = {*laws.lora_map(shared, "z-image"), *laws.lora_map(shared, "z-image", "modules_comfy")}
    blocks = [stem for stem in laws.lora_map(shared, LAYOUT) if "layers" in stem or "refiner" in stem]
    names = laws.tenth(blocks, seed)[:count]
    expected = BOTH if theirs.issuperset(names) else LUMINA
    assert recognise_adapter(names, {}, {}) == expected


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), program=st.sampled_from(sorted(on_the_path(""))))
def test_any_tenth_of_diffusers_names_is_lumina(shared: laws.Shared, seed: int, program: str) -> None:
    names = [
        on_the_path(path)[program] for path in laws.tenth(laws.lora_map(shared, LAYOUT, "diffusers"), seed)
    ]
    assert recognise_adapter(names, {}, {}) == LUMINA


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), wrapping=st.sampled_from(laws.WRAPPINGS))
def test_any_tenth_of_its_tensors_is_lumina(shared: laws.Shared, seed: int, wrapping: str) -> None:
    shapes = laws.shapes_of(shared, LAYOUT)
    assert recognise_checkpoint({wrapping + key: shapes[key] for key in laws.tenth(shapes, seed)}) == LUMINA
    parts = {name: shape for name, (_, _, shape) in folder(shapes).items()}
    assert recognise_checkpoint({name: parts[name] for name in laws.tenth(parts, seed)}) == LUMINA
