"""Which rows of a weight a name means, in every naming of a family."""

from __future__ import annotations

import pytest

from lorapipe.architectures import family
from lorapipe.formats.layouts.naming import Name, groups, height, names_on, naming_of, own_names
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec, Spelling

FLUX, LUMINA, SDXL = family("flux1"), family("lumina2"), family("sdxl")
QKV = "double_blocks.0.img_attn.qkv.weight"
LINEAR1 = "single_blocks.3.linear1.weight"
HEAD = "final_layer.adaLN_modulation.1.weight"


def group(
    key: str, *rows: tuple[int, int] | int, stem: str = "", component: str = "dit"
) -> dict[ModuleId, ModuleSpec]:
    """Modules on a key: ranges of its rows, or the height of the whole."""
    found = {}
    for one in rows:
        module = ModuleId(component, key, None if isinstance(one, int) else one)
        size = one if isinstance(one, int) else one[1] - one[0]
        found[module] = ModuleSpec((size, 8), 2, Spelling(stem))
    return found


@pytest.mark.parametrize(
    ("known", "key", "rows", "wanted"),
    [
        (FLUX, QKV, [24], 24),
        (FLUX, QKV, [(8, 16)], 24),
        (FLUX, QKV, [(0, 8), (16, 24)], 24),
        (FLUX, LINEAR1, [(0, 8)], 56),
        (FLUX, LINEAR1, [(24, 56)], 56),
        (LUMINA, "layers.0.attention.qkv.weight", [(0, 6)], 10),
        (LUMINA, "layers.0.attention.qkv.weight", [(8, 10)], 10),
        (FLUX, HEAD, [(8, 16), (0, 8)], 16),
        (SDXL, "unknown.weight", [(0, 8)], None),
        (None, QKV, [(0, 8)], None),
        (None, QKV, [7], 7),
    ],
)
def test_a_weights_height_follows_from_its_modules(
    known: object, key: str, rows: list[tuple[int, int] | int], wanted: int | None
) -> None:
    assert height(known, group(key, *rows)) == wanted  # type: ignore[arg-type]  # a family or none


def test_a_fused_weight_is_one_module_to_kohya_and_several_to_diffusers() -> None:
    fused = group(QKV, 24)
    assert names_on(FLUX, "kohya", fused) == (Name("lora_unet_double_blocks_0_img_attn_qkv", ((0, 24),)),)
    assert names_on(FLUX, "diffusers", fused) == tuple(
        Name(f"transformer.transformer_blocks.0.attn.to_{which}", ((start, start + 8),))
        for which, start in zip("qkv", (0, 8, 16), strict=True)
    )


def test_parts_of_unequal_size_are_told_by_the_family() -> None:
    found = names_on(LUMINA, "diffusers", group("layers.0.attention.qkv.weight", (0, 6)))
    assert [name.ranges for name in found] == [((0, 6),), ((6, 8),), ((8, 10),)]


def test_a_permuted_module_has_its_rows_in_its_own_order() -> None:
    (name,) = names_on(FLUX, "diffusers", group(HEAD, 16))
    assert (name.stem, name.ranges) == ("transformer.norm_out.linear", ((8, 16), (0, 8)))


def test_transposed_modules_and_kinds_are_told() -> None:
    key = "conditioner.embedders.1.model.text_projection"
    (name,) = names_on(SDXL, "kohya", group(key, 8, component="te2"))
    assert (name.stem, name.transposed) == ("lora_te2_text_projection", True)
    (name,) = names_on(family("sd1"), "kohya", group(SD1_PROJ, 8, component="unet"))
    assert name.kind == "conv1x1"


SD1_PROJ = "model.diffusion_model.input_blocks.1.1.proj_in.weight"


def test_a_naming_that_has_no_such_module_has_no_names() -> None:
    assert names_on(FLUX, "no-such-naming", group(QKV, 24)) == ()
    assert names_on(FLUX, "kohya", group("first_stage_model.x.weight", 24)) == ()
    assert names_on(FLUX, "diffusers", group(QKV, 25)) == ()


def test_a_name_holds_what_is_in_one_of_its_ranges() -> None:
    name = Name("m", ((8, 16), (0, 8)))
    assert [name.holds(*rows) for rows in ((8, 12), (0, 8), (4, 12))] == [True, True, False]


def test_own_names_are_those_of_the_file() -> None:
    parts = {**group(QKV, (0, 8), stem="a"), **group(QKV, (8, 24), stem="b")}
    assert own_names(FLUX, parts) == (Name("a", ((0, 8),)), Name("b", ((8, 24),)))
    assert own_names(FLUX, {**parts, **group(QKV, (24, 32))}) is None
    query = "transformer.transformer_blocks.0.attn.to_q"
    assert own_names(FLUX, group(QKV, (0, 8), stem=query)) == (Name(query, ((0, 8),)),)


def test_modules_of_one_name_are_one_in_the_familys_order() -> None:
    halves = group(HEAD, (0, 8), (8, 16), stem="transformer.norm_out.linear")
    assert own_names(FLUX, halves) == (Name("transformer.norm_out.linear", ((8, 16), (0, 8))),)
    assert own_names(None, halves) == (Name("transformer.norm_out.linear", ((0, 8), (8, 16))),)


def test_a_part_of_a_module_of_several_stands_for_all_of_it() -> None:
    """Rows that are not there are zeros: the name still means the whole."""
    stem = "transformer.norm_out.linear"
    assert own_names(FLUX, group(HEAD, (0, 8), stem=stem)) == (Name(stem, ((8, 16), (0, 8))),)


def test_modules_are_grouped_by_the_weight_that_they_are_on() -> None:
    first, second = group(QKV, (0, 8)), group(LINEAR1, 56)
    later = group(QKV, (8, 16))
    spec = AdapterSpec("flux1", {**first, **second, **later}, "F16")
    assert [list(found) for found in groups(spec)] == [[*first, *later], [*second]]


def test_the_naming_is_that_of_the_first_name_that_tells() -> None:
    unet = [t for t in SDXL.targets() if t.component == "unet" and SDXL.spell(t, "kohya-diffusers")][:2]
    (text,) = [t for t in SDXL.targets() if t.component == "te1"][:1]
    stems = [SDXL.spell(text, "kohya"), SDXL.spell(unet[0], "kohya-diffusers"), SDXL.spell(unet[1], "kohya")]
    assert naming_of(SDXL, [stem for stem in stems if stem]) == "kohya-diffusers"
    assert naming_of(SDXL, ["no_such_module", SDXL.spell(unet[0], "diffusers") or ""]) == "diffusers"
    assert naming_of(SDXL, []) is None
    assert naming_of(SDXL, ["text_encoder.encoder.layers.0.mlp.fc1"]) is None
