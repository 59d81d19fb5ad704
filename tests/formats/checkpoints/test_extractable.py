"""Where two checkpoints can be held against each other, by the names and layouts of real models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lorapipe.architectures import family
from lorapipe.errors import RecipeError
from lorapipe.formats.checkpoints.extractable import find_sites
from lorapipe.formats.checkpoints.read import read_checkpoint_spec
from lorapipe.weights.inference.extraction import Site, Sites
from lorapipe.weights.inference.reference import whole_shape
from lorapipe.weights.specs import CheckpointSpec, Place, TensorSpec

Shapes = Mapping[str, tuple[int, ...]]


class Header:
    """A file of which nothing but its header is there."""

    metadata: Mapping[str, str] = {}

    def __init__(self, shapes: Shapes, dtype: str = "F16") -> None:
        self.tensors = {name: TensorSpec(dtype, tuple(shape)) for name, shape in shapes.items()}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytearray:
        raise AssertionError("headers tell it all")


def checkpoint(shapes: Shapes, known: str | None = None, dtype: str = "F16") -> CheckpointSpec:
    return read_checkpoint_spec(Header(shapes, dtype), known)


def layout(shared: Callable[[str], Path], name: str) -> Shapes:
    """A checkpoint's tensors; a folder's with the component's folder before the name."""
    found = json.loads(shared(f"layouts/{name}.json").read_text())
    parts = {"": found["tensors"]} if "tensors" in found else found["components"]
    return {
        f"{part}/{key}" if part else key: tuple(shape)
        for part, held in parts.items()
        for key, (shape, *_) in held.items()
    }


def sites(one: CheckpointSpec, two: CheckpointSpec, *components: str, biases: bool = False) -> Sites:
    return find_sites([("tuned", one), ("base", two)], components, biases=biases)


Q, K, V = (f"lora_te2_text_model_encoder_layers_0_self_attn_{part}_proj" for part in "qkv")
PREFIX = "conditioner.embedders.1.model.transformer.resblocks.0"


@pytest.mark.parametrize(
    ("name", "known"),
    [("sd15", "sd1"), ("sd21", "sd2"), ("sdxl", "sdxl"), ("flux1-dev", "flux1"), ("lumina2", "lumina2"),
     ("z-image", "z-image"), ("wan21-14b-t2v", "wan"), ("qwen-image", "qwen-image")],
)  # fmt: skip
def test_every_module_of_a_trainers_map_is_a_site(
    name: str, known: str, shared: Callable[[str], Path]
) -> None:
    spec = checkpoint(layout(shared, name), known)
    found = {site.spelling.stem: site for site in sites(spec, spec).found}
    modules: Mapping[str, Any] = json.loads(shared(f"layouts/{name}.lora-map.json").read_text())["modules"]
    naming = family(known)
    for stem, (_, shape, *_) in modules.items():
        target = naming.lookup(stem)
        assert target is not None
        site = found[naming.spell(target, "kohya") or ""]
        if target.parts or target.transpose:
            continue
        assert site.key == target.key
        assert [n for n in site.shape if n != 1] == [n for n in shape if n != 1]


def test_sites_cover_each_matrix_of_a_model_once(shared: Callable[[str], Path]) -> None:
    spec = checkpoint(layout(shared, "sdxl"))
    rows: dict[str, list[tuple[int, int]]] = {}
    for site in sites(spec, spec).found:
        rows.setdefault(site.key, []).extend(site.ranges)
    for key, held in rows.items():
        reached = 0
        for start, stop in sorted(held):
            assert start == reached, key
            reached = stop
        assert reached == (whole_shape(spec, key) or ())[0]


def test_a_fused_weight_is_cut_as_the_trainer_cuts_it() -> None:
    spec = checkpoint(
        {f"{PREFIX}.attn.in_proj_weight": (12, 4), f"{PREFIX}.attn.in_proj_bias": (12,)}, "sdxl"
    )
    found = sites(spec, spec, biases=True).found
    assert [(s.spelling.stem, s.ranges, s.shape, s.whole, s.suffix) for s in found] == [
        *((stem, ((a, a + 4),), (4, 4), False, ".diff") for stem, a in ((Q, 0), (K, 4), (V, 8))),
        *((stem, ((a, a + 4),), (4,), False, ".diff_b") for stem, a in ((Q, 0), (K, 4), (V, 8))),
    ]


def test_a_transposed_weight_says_so_in_its_spelling() -> None:
    key = "conditioner.embedders.1.model.text_projection"
    spec = checkpoint({key: (6, 4)}, "sdxl")
    (site,) = sites(spec, spec).found
    assert (site.key, site.shape, site.spelling.transposed, site.whole) == (key, (6, 4), True, True)


def test_a_folder_and_a_single_file_meet_on_the_same_modules(shared: Callable[[str], Path]) -> None:
    one, two = (checkpoint(layout(shared, name)) for name in ("sdxl", "sdxl-diffusers"))
    assert one.family == two.family == "sdxl"
    mixed, plain = sites(one, two, "unet"), sites(one, one, "unet")
    assert [site.key for site in mixed.found] == [site.key for site in plain.found]
    assert not mixed.alone
    assert not mixed.misfits


def test_names_and_order_are_those_of_the_model(shared: Callable[[str], Path]) -> None:
    shapes = layout(shared, "sd15")
    backwards = checkpoint(dict(reversed(list(shapes.items()))))
    assert sites(backwards, backwards).found == sites(checkpoint(shapes), checkpoint(shapes)).found


# --- parts ------------------------------------------------------------------------------

UNET = "model.diffusion_model.input_blocks.1.1"
TEXT = "cond_stage_model.transformer.text_model"
SMALL: Shapes = {
    f"{UNET}.transformer_blocks.0.attn1.to_q.weight": (20, 20),
    f"{UNET}.proj_in.weight": (20, 20, 1, 1),
    f"{UNET}.proj_in.bias": (20,),
    f"{UNET}.norm.weight": (20,),
    f"{UNET}.norm.bias": (20,),
    f"{TEXT}.encoder.layers.0.self_attn.q_proj.weight": (24, 16),
    f"{TEXT}.embeddings.token_embedding.weight": (9, 16),
    "first_stage_model.decoder.conv_in.weight": (5, 4, 3, 3),
    "first_stage_model.decoder.conv_in.bias": (5,),
}
BASE = checkpoint(SMALL, "sd1")


def keys(found: Sites) -> list[str]:
    return [site.key for site in found.found]


def test_what_is_no_module_is_only_compared() -> None:
    found = sites(BASE, BASE)
    assert len(found.found) == 3
    assert set(found.others) == SMALL.keys() - set(keys(found))


def test_components_are_chosen_and_the_others_are_not_even_compared() -> None:
    unet, te = sites(BASE, BASE, "unet"), sites(BASE, BASE, "te")
    assert all(key.startswith("model.") for key in keys(unet))
    assert keys(te) == [f"{TEXT}.encoder.layers.0.self_attn.q_proj.weight"]
    assert not any(key.startswith(TEXT) for key in unet.others)
    assert not any(key.startswith("model.") for key in te.others)
    assert keys(sites(BASE, BASE, "te", "unet")) == keys(sites(BASE, BASE))


def test_te_is_every_text_encoder() -> None:
    first = "conditioner.embedders.0.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight"
    spec = checkpoint({first: (8, 8), f"{PREFIX}.attn.out_proj.weight": (4, 4)}, "sdxl")
    assert len(keys(sites(spec, spec, "te"))) == 2
    assert keys(sites(spec, spec, "te1")) == [first]


@pytest.mark.parametrize(("name", "hint"), [("te1", "it has unet, te"), ("unt", "it has unet, te")])
def test_a_component_that_there_is_not_is_an_error(name: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        sites(BASE, BASE, name)
    assert (caught.value.code, caught.value.hint, caught.value.option) == (
        "unknown-component",
        hint,
        "components",
    )


def test_biases_and_norms_have_their_own_words() -> None:
    found = sites(BASE, BASE, "unet", biases=True)
    assert {site.key: (site.suffix, site.shape) for site in found.found if len(site.shape) == 1} == {
        f"{UNET}.proj_in.bias": (".diff_b", (20,)),
        f"{UNET}.norm.weight": (".w_norm", (20,)),
        f"{UNET}.norm.bias": (".b_norm", (20,)),
    }
    assert not any(key.startswith("model.") for key in found.others)


# --- what does not fit ------------------------------------------------------------------


def less(key: str) -> CheckpointSpec:
    return checkpoint({name: shape for name, shape in SMALL.items() if name != key}, "sd1")


def test_what_one_lacks_is_told_with_who() -> None:
    key = f"{UNET}.proj_in.weight"
    for one, two, who in ((BASE, less(key), "base"), (less(key), BASE, "tuned")):
        found = sites(one, two)
        assert found.alone == {key: f"not in '{who}'"}
        assert key not in keys(found)
        assert key not in (*found.others, *found.strangers)


def test_what_is_no_module_and_is_lacking_is_no_error() -> None:
    found = sites(BASE, less("first_stage_model.decoder.conv_in.bias"))
    assert found.strangers == ("first_stage_model.decoder.conv_in.bias",)
    assert not found.alone


def test_other_shapes_are_told_with_both() -> None:
    key = f"{UNET}.transformer_blocks.0.attn1.to_q.weight"
    other = checkpoint({**SMALL, key: (20, 24), "first_stage_model.decoder.conv_in.bias": (6,)}, "sd1")
    found = sites(other, BASE)
    assert found.misfits == {key: "[20, 24] in 'tuned', [20, 20] in 'base'"}
    assert found.strangers == ("first_stage_model.decoder.conv_in.bias",)


def test_a_1x1_kernel_and_a_matrix_are_one_weight() -> None:
    flat = checkpoint({**SMALL, f"{UNET}.proj_in.weight": (20, 20)}, "sd1")
    for one, two in ((flat, BASE), (BASE, flat)):
        (site,) = (site for site in sites(one, two).found if site.key == f"{UNET}.proj_in.weight")
        assert site.shape == (20, 20, 1, 1)


def test_what_cannot_be_read_as_numbers_is_told_by_its_format() -> None:
    key = f"{UNET}.proj_in.weight"
    packed = CheckpointSpec(
        "sd1", {**BASE.tensors, key: TensorSpec("U8", (20, 20, 1, 1))}, BASE.keys, frozen={key: "NVFP4"}
    )
    assert sites(packed, BASE).frozen == {key: "NVFP4 in 'tuned'"}
    eight = CheckpointSpec("sd1", {**BASE.tensors, key: TensorSpec("I8", (20, 20, 1, 1))}, BASE.keys)
    assert sites(BASE, eight).frozen == {key: "I8 in 'base'"}


@pytest.mark.parametrize("family", ["sd1", None])
def test_a_weight_that_is_only_there_in_pieces_is_told_too(family: str | None) -> None:
    key = f"{UNET}.proj_in.weight"
    packed = key.replace(".weight", ".qweight")
    tensors = {packed: TensorSpec("I32", (20, 5))}
    spec = CheckpointSpec(family, tensors, {packed: (Place(packed),)}, frozen={key: "GPTQ or AWQ"})
    assert sites(spec, spec).frozen == {key: "GPTQ or AWQ in 'tuned'"}


def test_a_weight_of_which_both_lack_rows_is_no_module() -> None:
    key = f"{PREFIX}.attn.in_proj_weight"
    tensors = {"v": TensorSpec("F16", (4, 4))}
    spec = CheckpointSpec("sdxl", tensors, {key: (Place("v", (8, 12)),)})
    assert sites(spec, spec) == Sites((), strangers=(key,))


def test_rows_that_do_not_divide_are_of_no_shape_of_the_family() -> None:
    spec = checkpoint({f"{PREFIX}.attn.in_proj_weight": (13, 4)}, "sdxl")
    found = sites(spec, spec)
    assert found.misfits == {f"{PREFIX}.attn.in_proj_weight": "13 rows do not divide into 3 parts"}
    assert not found.found


def test_scales_of_fp8_are_no_numbers_by_themselves() -> None:
    scale = f"{UNET}.proj_in.scale_weight"
    spec = CheckpointSpec(
        "sd1",
        {**BASE.tensors, scale: TensorSpec("F32", ())},
        {**BASE.keys, scale: (Place(scale),)},
        companions=frozenset({scale}),
    )
    assert scale not in (*sites(spec, BASE).strangers, *sites(spec, spec).others)


@pytest.mark.parametrize(
    ("one", "two", "code"), [("sd1", "sdxl", "family-mismatch"), (None, "sd1", "family-unknown")]
)
def test_two_families_have_no_difference(one: str | None, two: str, code: str) -> None:
    specs = [CheckpointSpec(name, BASE.tensors, BASE.keys) for name in (one, two)]
    with pytest.raises(RecipeError) as caught:
        sites(*specs)
    assert caught.value.code == code


# --- unknown families -------------------------------------------------------------------

LAYER = "model.layers.0"
LLAMA: Shapes = {
    "model.embed_tokens.weight": (11, 4),
    "model.layers.0.self_attn.q_proj.weight": (4, 4),
    "model.layers.0.self_attn.q_proj.bias": (4,),
    "model.layers.0.input_layernorm.weight": (4,),
    "model.layers.0.conv.weight": (4, 2, 3, 3),
    "lm_head.weight": (11, 4),
    "experts.gate_up": (2, 4, 4),
}
UNKNOWN = CheckpointSpec(
    None, {k: TensorSpec("BF16", s) for k, s in LLAMA.items()}, {key: (Place(key),) for key in LLAMA}
)


def test_of_an_unknown_model_every_matrix_goes_by_its_path_as_peft_has_it() -> None:
    found = sites(UNKNOWN, UNKNOWN)
    assert {site.key: (site.component, site.spelling.stem, site.spelling.up) for site in found.found} == {
        key: ("", f"base_model.model.{key.removesuffix('.weight')}", ".lora_B.weight")
        for key in ("model.embed_tokens.weight", f"{LAYER}.self_attn.q_proj.weight", f"{LAYER}.conv.weight")
    }
    assert set(found.others) == LLAMA.keys() - set(keys(found))


def test_of_an_unknown_model_what_has_one_axis_is_kept_where_it_is_asked_for() -> None:
    found = sites(UNKNOWN, UNKNOWN, biases=True).found
    assert {site.key: site.suffix for site in found if len(site.shape) == 1} == {
        "model.layers.0.self_attn.q_proj.bias": ".diff_b",
        "model.layers.0.input_layernorm.weight": ".diff",
    }


def test_an_unknown_model_has_no_components() -> None:
    with pytest.raises(RecipeError) as caught:
        sites(UNKNOWN, UNKNOWN, "unet")
    assert caught.value.hint == "the family of the checkpoints is not known"


def test_a_site_is_a_value() -> None:
    first, second = (sites(BASE, BASE).found[0] for _ in range(2))
    assert first == second
    assert isinstance(first, Site)
