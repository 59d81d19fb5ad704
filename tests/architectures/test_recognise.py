"""Recognition by names first, sizes next, metadata last."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.architectures import (
    Family,
    Recognised,
    families,
    family,
    nearest,
    other_families,
    recognise_adapter,
    recognise_checkpoint,
)

ATTN2 = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
SD12 = Recognised(None, ("sd1", "sd2"))


def only(name: str) -> Recognised:
    return Recognised(name, (name,))


def stems_of(name: str, naming: str = "kohya", component: str | None = None) -> list[str]:
    known = family(name)
    spelled = (known.spell(t, naming) for t in known.targets() if component in (None, t.component))
    return [stem for stem in spelled if stem is not None]


def by_name(stems: Iterable[str]) -> Recognised:
    return recognise_adapter(stems, {}, {})


@pytest.mark.parametrize("naming", ["kohya", "kohya-diffusers", "diffusers"])
def test_sdxl_is_known_by_its_names_in_each_naming(naming: str) -> None:
    assert by_name(stems_of("sdxl", naming)) == only("sdxl")


def test_sd2_is_known_by_the_layers_that_sd1_has_not() -> None:
    assert by_name(stems_of("sd2")) == only("sd2")


def test_sd1_and_sd2_share_their_names() -> None:
    assert by_name(stems_of("sd1", component="unet")) == SD12
    assert by_name([stem for stem in stems_of("sd1") if "layers_11_" not in stem]) == SD12


def test_all_layers_of_sd1s_text_encoder_are_sd1s() -> None:
    assert by_name(stems_of("sd1", component="te")) == only("sd1")
    assert by_name(stems_of("sd1")) == only("sd1")


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_subset_of_a_model_has_the_model_among_its_candidates(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(families()))
    naming = data.draw(st.sampled_from(["kohya", "diffusers"]))
    subset = data.draw(st.sets(st.sampled_from(stems_of(name, naming)), min_size=1, max_size=30))
    assert name in by_name(subset).candidates


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_true_sizes_find_the_family_of_any_subset_with_a_text_width(data: st.DataObject) -> None:
    known = family(data.draw(st.sampled_from(["sd1", "sd2", "sdxl"])))
    target = known.lookup("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v")
    assert target is not None
    named = [t for t in known.targets() if known.spell(t, "diffusers") is not None]
    subset = data.draw(st.sets(st.sampled_from(named), max_size=20)) | {target}
    widths = {known.spell(t, "diffusers") or "": sizes(known.features(t)) for t in subset}
    assert recognise_adapter(widths, widths, {}) == only(known.name)


def sizes(features: tuple[int | None, int | None], divisor: int = 1) -> tuple[int, int]:
    out, columns = features
    return (out or 64) // divisor, (columns or 64) // divisor


@pytest.mark.parametrize(
    ("width", "name"),
    [((320, 768), "sd1"), ((320, 1024), "sd2"), ((40, 96), "sd1"), ((20, 48), "sd1"), ((40, 128), "sd2")],
)
def test_the_width_of_the_text_embedding_tells_them_apart_in_full_and_in_small(
    width: tuple[int, int], name: str
) -> None:
    assert recognise_adapter([ATTN2], {ATTN2: width}, {}) == only(name)


@pytest.mark.parametrize("width", [(320, 2048), (320, 100), (7, 7), (640, 1536)])
def test_a_width_of_neither_family_decides_nothing(width: tuple[int, int]) -> None:
    assert recognise_adapter([ATTN2], {ATTN2: width}, {}) == SD12


def test_a_width_that_fits_both_families_decides_nothing() -> None:
    stem = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    # 128 is an eighth of SD2's text width and a sixth of SD1's.
    assert recognise_adapter([stem], {stem: (128, 128)}, {}) == SD12
    assert recognise_adapter([stem], {stem: (1024, 1024)}, {}) == only("sd2")


def test_a_small_width_that_fits_one_family_by_a_whole_factor_finds_it() -> None:
    stem = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    assert recognise_adapter([stem], {stem: (96, 96)}, {}) == only("sd1")


def test_the_published_size_is_better_evidence_than_a_fraction_of_it() -> None:
    stem = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    assert by_name([stem]).candidates == ("sd1", "sd2", "sdxl")
    # SDXL's level is 640 wide, that of SD1 and SD2 twice as wide.
    assert recognise_adapter([stem], {stem: (640, 640)}, {}) == only("sdxl")


def test_sizes_must_be_smaller_by_one_factor_throughout() -> None:
    other = ATTN2.replace("attn2_to_k", "attn1_to_q")
    assert recognise_adapter([ATTN2, other], {ATTN2: (40, 96), other: (40, 40)}, {}) == only("sd1")
    assert recognise_adapter([ATTN2, other], {ATTN2: (40, 96), other: (20, 20)}, {}) == SD12


def test_widths_never_overrule_names() -> None:
    stems = stems_of("sdxl")
    widths = dict.fromkeys(stems, (768, 768))
    assert recognise_adapter(stems, widths, {}) == only("sdxl")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"ss_base_model_version": "sd_v1"}, only("sd1")),
        ({"ss_base_model_version": "sd_v2_v"}, only("sd2")),
        ({"ss_base_model_version": "sd_v2", "ss_v2": "False"}, only("sd2")),  # the first key that tells
        ({"ss_v2": "True"}, only("sd2")),
        ({"ss_v2": "False"}, only("sd1")),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, only("sd2")),
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, only("sd1")),
        ({"baseModel": "SD 1.5"}, only("sd1")),
        ({"base_model": "stabilityai/stable-diffusion-2-1"}, only("sd2")),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, SD12),  # names neither
        ({"ss_base_model_version": ""}, SD12),
        ({}, SD12),
    ],
)
def test_metadata_decides_what_names_and_sizes_leave_open(
    metadata: dict[str, str], expected: Recognised
) -> None:
    assert recognise_adapter([ATTN2], {}, metadata) == expected


def test_sizes_count_for_more_than_metadata() -> None:
    assert recognise_adapter([ATTN2], {ATTN2: (320, 1024)}, {"ss_v2": "False"}) == only("sd2")


def test_a_name_that_three_families_share_is_settled_by_its_metadata() -> None:
    stem = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    assert by_name([stem]).candidates == ("sd1", "sd2", "sdxl")
    assert recognise_adapter(
        [stem], {}, {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}
    ) == only("sdxl")
    assert recognise_adapter([stem], {}, {"ss_v2": "False"}) == Recognised(None, ("sd1", "sdxl"))


def test_nothing_known_gives_no_candidates() -> None:
    assert by_name([]) == Recognised(None, ())
    assert by_name(["model.layers.0.self_attn.q_proj", "transformer.blocks.1.attn"]) == Recognised(None, ())


def test_a_few_stray_names_do_not_hide_the_family() -> None:
    assert by_name([*stems_of("sdxl")[:97], "lora_unet_nothing", "x", "lora_te1_"]) == only("sdxl")


WITH_CLIP_L = {"flux1", "sd3", "sd35-large", "sdxl"}


def test_a_text_encoder_that_families_share_does_not_tell_them_apart() -> None:
    encoders = stems_of("sdxl", component="te1")
    assert set(by_name(encoders).candidates) == WITH_CLIP_L
    clip_g = stems_of("sdxl", component="te2")
    assert set(by_name([*encoders, *clip_g]).candidates) == WITH_CLIP_L - {"flux1"}
    metadata = {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}
    assert recognise_adapter(encoders, {}, metadata) == only("sdxl")


def test_the_model_beside_a_shared_text_encoder_tells() -> None:
    encoders = stems_of("sdxl", component="te1")
    assert by_name([*encoders, *stems_of("flux1", component="dit")]) == only("flux1")
    assert by_name([*encoders, *stems_of("sdxl", component="unet")[:40]]) == only("sdxl")
    foreign = [f"lora_unet_strange_blocks_{n}_attn_qkv" for n in range(19)]
    assert by_name([*encoders, *foreign]) == Recognised(None, ())
    dit = [f"transformer.strange_blocks.{n}.attn.to_q" for n in range(38)]
    assert by_name([*stems_of("sdxl", "diffusers", "te1"), *dit]) == Recognised(None, ())


def test_chroma_and_flux_are_told_apart_by_what_only_one_of_them_has() -> None:
    shared = [f"lora_unet_double_blocks_{n}_img_mlp_0" for n in range(18)]
    assert by_name(shared) == Recognised("flux1", ("chroma", "flux1"), ("chroma",))
    assert by_name([*shared, "lora_unet_double_blocks_0_img_mod_lin"]) == only("flux1")
    guided = "lora_unet_distilled_guidance_layer_layers_0_in_layer"
    assert by_name([*shared, guided]) == only("chroma")
    for metadata, name in (
        ({"ss_base_model_version": "flux1"}, "flux1"),
        ({"ss_base_model_version": "chroma"}, "chroma"),
        ({"modelspec.architecture": "Flux.1-dev/lora"}, "flux1"),
        ({"modelspec.architecture": "chroma/lora"}, "chroma"),
        ({"base_model": "lodestones/Chroma1-HD"}, "chroma"),
    ):
        assert recognise_adapter(shared, {}, metadata) == only(name)


@pytest.mark.parametrize("name", ["flux2-dev", "flux2-klein-4b", "flux2-klein-9b"])
def test_flux2_in_its_sizes_is_told_from_flux1_and_from_one_another(name: str) -> None:
    known = family(name)
    assert recognise_checkpoint(layout(known)) == only(name)
    for naming in known.namings:
        targets = [t for t in known.targets() if t.kind == "linear" and known.spell(t, naming) is not None]
        widths = {known.spell(t, naming) or "": sizes(known.features(t)) for t in targets}
        assert recognise_adapter(widths, widths, {}) == only(name), naming
        blocks = {stem: size for stem, size in widths.items() if "blocks" in stem and "_0" not in stem}
        assert recognise_adapter(blocks, blocks, {}) == only(name), naming


def test_all_blocks_of_the_shallower_model_are_that_models() -> None:
    """HunyuanVideo calls its attention as FLUX.1 does, is as wide, and a block deeper."""
    blocks = [f"lora_unet_double_blocks_{n}_img_attn_qkv" for n in range(20)]
    assert by_name(blocks) == only("hunyuan-video")
    assert by_name(blocks[:19]) == Recognised("flux1", ("chroma", "flux1"), ("chroma",))
    assert by_name(blocks[:18]) == Recognised(None, ("chroma", "flux1", "hunyuan-video"))
    named = {"ss_base_model_version": "hunyuan_video"}
    assert recognise_adapter(blocks[:19], {}, named) == only("hunyuan-video")


def test_the_two_sizes_of_sd3_are_told_apart_by_their_widths() -> None:
    stem = "transformer.transformer_blocks.0.attn.to_q"
    for width, name in ((1536, "sd3"), (2432, "sd35-large")):
        assert recognise_adapter([stem], {stem: (width, width)}, {}) == only(name)
    deep = "lora_unet_joint_blocks_30_x_block_attn_qkv"
    assert by_name([deep]) == only("sd35-large")
    second = "lora_unet_joint_blocks_3_x_block_attn2_qkv"
    assert by_name([second]) == only("sd3")


def layout(known: Family, divisor: int = 1) -> dict[str, tuple[int, ...]]:
    return {key: sizes(features, divisor) for key, features in known.tensors.items()}


@pytest.mark.parametrize("divisor", [1, 16])
@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_a_checkpoint_is_recognised_whole_and_by_its_unet_alone(name: str, divisor: int) -> None:
    shapes = layout(family(name), divisor)
    norms = {
        "model.diffusion_model.out.0.weight": (320,),
        "first_stage_model.encoder.conv_in.weight": (1, 3, 3, 3),
    }
    assert recognise_checkpoint(shapes | norms) == only(name)
    unet = {key: shape for key, shape in shapes.items() if key.startswith("model.diffusion_model.")}
    assert recognise_checkpoint(unet) == only(name)


def test_unets_of_sd1_and_sd2_without_their_sizes_cannot_be_told_apart() -> None:
    unet = [key for key in family("sd1").tensors if key.startswith("model.diffusion_model.")]
    assert recognise_checkpoint(dict.fromkeys(unet, ())) == SD12


def test_a_checkpoint_cut_down_to_one_text_layer_is_recognised() -> None:
    prefix = "conditioner.embedders.1.model."
    shapes = {
        prefix + "token_embedding.weight": (3088, 80),
        prefix + "positional_embedding": (77, 80),
        prefix + "transformer.resblocks.0.attn.in_proj_weight": (240, 80),
    }
    assert recognise_checkpoint(shapes) == only("sdxl")


def test_a_unet_of_another_depth_is_not_one_of_ours() -> None:
    # As in SDXL's refiner: the names are LDM's, most of the places are not.
    block = "model.diffusion_model.input_blocks.{}.1.transformer_blocks.{}.attn1.to_q.weight"
    shapes = {block.format(n, k): (768, 768) for n in (4, 5, 7, 8, 10, 11) for k in range(12)}
    assert recognise_checkpoint(shapes) == Recognised(None, ())


def test_norms_say_nothing_about_a_checkpoint() -> None:
    block = "model.diffusion_model.input_blocks.1.0."
    shapes: dict[str, tuple[int, ...]] = {
        block + "in_layers.0.weight": (320,),
        block + "in_layers.2.weight": (320, 320, 3, 3),
        block + "out_layers.0.weight": (320,),
    }
    assert recognise_checkpoint(shapes).candidates == ("sd1", "sd2", "sdxl")


def test_a_checkpoint_of_nothing_known_has_no_candidates() -> None:
    assert recognise_checkpoint({}) == Recognised(None, ())
    assert recognise_checkpoint({"strange_blocks.0.img_attn.qkv.weight": (9, 3)}) == Recognised(None, ())


def test_other_families_counts_the_names_that_each_knows_most_first() -> None:
    stems = [*stems_of("sd1", component="te")[:3], *stems_of("sdxl")[:5], "x"]
    assert list(other_families(stems).items()) == [("sdxl", 5), ("sd1", 3), ("sd2", 3)]
    assert other_families(["x"]) == {}


@pytest.mark.parametrize(
    ("name", "typo", "best"),
    [
        ("sdxl", "lora_unet_input_blocks_4_1_proj_inn", "lora_unet_input_blocks_4_1_proj_in"),
        ("sd1", "lora_unet_proj_out_", None),
        (
            "sd1",
            "lora_te_text_model_encoder_layers_12_mlp_fc1",
            "lora_te_text_model_encoder_layers_1_mlp_fc1",
        ),
        ("sd1", "unet.mid_block.attentions.0.proj_on", "unet.mid_block.attentions.0.proj_in"),
        ("sd2", "qqq", None),
    ],
)
def test_nearest_names_what_was_meant(name: str, typo: str, best: str | None) -> None:
    found = nearest(family(name), typo)
    assert len(found) <= 3
    assert all(family(name).lookup(stem) for stem in found)
    if best is not None:
        assert best in found
    elif typo == "qqq":
        assert found == ()


def test_nearest_gives_as_many_as_are_asked_for() -> None:
    assert len(nearest(family("sdxl"), "lora_unet_input_blocks_4_1_proj_inn", n=5)) == 5


def test_only_tables_that_may_fit_better_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(
        "lorapipe.architectures.recognise.family", lambda name: (read.append(name), family(name))[1]
    )
    recognise_checkpoint(layout(family("sdxl")))
    assert read == ["sdxl"]  # SD1 and SD2 know fewer of its names
    read.clear()
    recognise_adapter(stems_of("sdxl"), {}, {})
    assert read == ["sdxl"]
    read.clear()
    recognise_adapter([f"h.{n}.attn.c_attn" for n in range(12)], {}, {})
    recognise_checkpoint({"h.0.attn.c_attn.weight": (8, 24)})
    assert read == []


def test_recognition_of_a_whole_model_is_quick() -> None:
    stems = stems_of("sdxl")
    known = family("sdxl")
    widths = {stem: sizes(known.features(t)) for stem in stems if (t := known.lookup(stem))}
    start = perf_counter()
    recognise_adapter(stems, widths, {})
    recognise_checkpoint(layout(known))
    assert perf_counter() - start < 0.25  # some 15 ms; the rest is for a busy machine


def test_one_bare_name_among_strangers_makes_no_family() -> None:
    strangers = {f"blocks.{i}.to_q.weight": (8, 8) for i in range(9)}
    for name in ("conv_in.weight", "proj_out.weight", "img_in.weight"):
        assert recognise_checkpoint({name: (8, 8), **strangers}) == Recognised(None, ())


def test_a_part_of_a_checkpoint_is_not_taken_for_a_variants() -> None:
    """What a LoRA leaves open either model settles; a shard's other tensors are not known."""
    keys = layout(family("flux1"))
    part = {key: keys[key] for key in keys if key.startswith("double_blocks.3.") and "attn" in key}
    assert recognise_checkpoint(part).family is None
    assert {"chroma", "flux1"} <= set(recognise_checkpoint(part).candidates)
