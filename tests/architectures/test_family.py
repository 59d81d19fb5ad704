"""Lookups of the real families: facts from the models, written here."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest

import lorapipe
from lorapipe.architectures import Target, families, family
from lorapipe.errors import RecipeError

UNET = "model.diffusion_model."
SD2_TE = "cond_stage_model.model.transformer.resblocks."
TE2 = "conditioner.embedders.1.model."


@pytest.mark.parametrize(
    ("name", "components", "groups", "modules"),
    [
        # kohya's counts with convolutions, and four embeddings and convolutions at the U-Net's ends
        ("sd1", ("unet", "te"), ("unet", "te"), 350 + 4),
        ("sd2", ("unet", "te"), ("unet", "te"), 416 + 4),
        # also add_embedding's two, and text_projection
        ("sdxl", ("unet", "te1", "te2"), ("unet", "te", "te"), 1052 + 4 + 2 + 1),
        # kohya's 304 and 8, the final layer's two, of CLIP 12 times 6 and a projection, of T5 24 times 7
        ("flux1", ("dit", "te1", "te3"), ("unet", "te", "te"), 312 + 2 + 73 + 168),
        # kohya's 228 and 2, the final layer, what guides it: 2 and 5 times 2
        ("chroma", ("dit", "te3"), ("unet", "te"), 230 + 1 + 12 + 168),
        # kohya's 263, the embeddings (image, text, twice two) and the final layer's two; three text encoders
        ("sd3", ("dit", "te1", "te2", "te3"), ("unet", "te", "te", "te"), 263 + 6 + 2 + 73 + 193 + 168),
        # musubi's 320, seven at the ends and of the refiner 5 and twice 5, the final layer's two
        ("hunyuan-video", ("dit", "te2"), ("unet", "te"), 320 + 7 + 5 + 10 + 2 + 72),
    ],
)
def test_components_groups_and_module_counts(
    name: str, components: tuple[str, ...], groups: tuple[str, ...], modules: int
) -> None:
    known = family(name)
    assert known.components == components
    assert tuple(map(known.group, components)) == groups
    trained = [t for t in known.targets() if t.kind.startswith(("linear", "conv"))]
    assert len([t for t in trained if known.spell(t, "kohya") is not None]) == modules
    assert repr(known) == f"<Family {name}: {', '.join(components)}>"


@pytest.mark.parametrize(
    ("name", "stem", "target"),
    [
        (
            "sd1",
            "lora_unet_down_blocks_0_attentions_0_proj_in",
            Target("unet", UNET + "input_blocks.1.1.proj_in.weight", kind="conv1x1"),
        ),
        (
            "sd1",
            "unet.up_blocks.2.upsamplers.0.conv",
            Target("unet", UNET + "output_blocks.8.2.conv.weight", kind="conv3x3"),
        ),
        (
            "sd1",
            "unet.up_blocks.0.upsamplers.0.conv",  # no attention on the lowest level, so it stands second
            Target("unet", UNET + "output_blocks.2.1.conv.weight", kind="conv3x3"),
        ),
        (
            "sd1",
            "lora_te_text_model_encoder_layers_11_mlp_fc2",
            Target("te", "cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc2.weight"),
        ),
        (
            "sd2",
            "lora_te_text_model_encoder_layers_22_self_attn_q_proj",
            Target("te", SD2_TE + "22.attn.in_proj_weight", ((0, 1, 3),)),
        ),
        (
            "sd2",
            "text_encoder.text_model.encoder.layers.0.mlp.fc1",
            Target("te", SD2_TE + "0.mlp.c_fc.weight"),
        ),
        (
            "sdxl",
            "lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_k",
            Target("unet", UNET + "input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight"),
        ),
        (
            "sdxl",
            "lora_unet_down_blocks_2_attentions_1_transformer_blocks_9_attn2_to_k",
            Target("unet", UNET + "input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight"),
        ),
        (
            "sdxl",
            "lora_te2_text_model_encoder_layers_31_self_attn_v_proj",
            Target("te2", TE2 + "transformer.resblocks.31.attn.in_proj_weight", ((2, 3, 3),)),
        ),
        ("sdxl", "text_encoder_2.text_projection", Target("te2", TE2 + "text_projection", transpose=True)),
        ("sdxl", "lora_te2_text_projection", Target("te2", TE2 + "text_projection", transpose=True)),
    ],
)
def test_a_name_finds_its_module(name: str, stem: str, target: Target) -> None:
    assert family(name).lookup(stem) == target


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("sd1", "lora_te1_text_model_encoder_layers_0_mlp_fc1"),  # SDXL's
        ("sd1", "lora_unet_input_blocks_1_1_proj_in"),  # the SGM path is SDXL's alone
        ("sd1", "lora_unet_down_blocks_3_attentions_0_proj_in"),  # the lowest level has no attention
        ("sd1", "lora_unet_down_blocks_0_resnets_0_conv_shortcut"),  # as wide out as in
        ("sd1", "lora_unet_down_blocks_3_downsamplers_0_conv"),
        ("sd2", "lora_te_text_model_encoder_layers_23_mlp_fc1"),  # in the file, never trained
        ("sdxl", "lora_unet_input_blocks_4_1_transformer_blocks_2_attn1_to_q"),  # two blocks deep there
        ("sdxl", "lora_unet_down_blocks_2_downsamplers_0_conv"),
        ("sdxl", ""),
        ("sdxl", "LORA_UNET_OUT_2"),
    ],
)
def test_a_name_of_nothing_finds_nothing(name: str, stem: str) -> None:
    assert family(name).lookup(stem) is None


@pytest.mark.parametrize(
    ("module", "tensor", "kind"),
    [
        ("conv1", "in_layers.2", "conv3x3"),
        ("time_emb_proj", "emb_layers.1", "linear"),
        ("conv2", "out_layers.3", "conv3x3"),
        ("conv_shortcut", "skip_connection", "conv1x1"),
    ],
)
def test_a_resnets_layers_stand_where_ldm_keeps_them(module: str, tensor: str, kind: str) -> None:
    for name, place, block in (
        ("sd1", "down_blocks.1.resnets.0", "input_blocks.4.0"),
        ("sd2", "up_blocks.3.resnets.2", "output_blocks.11.0"),
        ("sdxl", "up_blocks.2.resnets.1", "output_blocks.7.0"),
    ):
        target = Target("unet", f"{UNET}{block}.{tensor}.weight", kind=kind)
        assert family(name).lookup(f"unet.{place}.{module}") == target


def test_openclips_fused_rows_are_q_k_v_in_this_order() -> None:
    for name, stem in (
        ("sd2", "lora_te_text_model_encoder_layers_4"),
        ("sdxl", "lora_te2_text_model_encoder_layers_4"),
    ):
        found = [family(name).lookup(f"{stem}_self_attn_{part}_proj") for part in "qkv"]
        assert [t.rows(16) for t in found if t is not None] == [((0, 16),), ((16, 32),), ((32, 48),)]
        assert len({t.key for t in found if t is not None}) == 1


@pytest.mark.parametrize("prefix", ["text_encoder.", "text_encoder_2."])
def test_newer_transformers_leave_the_text_model_level_out(prefix: str) -> None:
    known = family("sdxl")
    long = known.lookup(prefix + "text_model.encoder.layers.3.self_attn.out_proj")
    assert long is not None
    assert known.lookup(prefix + "encoder.layers.3.self_attn.out_proj") == long
    assert known.spell(long, "diffusers") == prefix + "text_model.encoder.layers.3.self_attn.out_proj"


@pytest.mark.parametrize(
    ("naming", "stem"),
    [
        ("kohya", "lora_unet_output_blocks_2_2_conv"),
        ("kohya-diffusers", "lora_unet_up_blocks_0_upsamplers_0_conv"),
        ("diffusers", "unet.up_blocks.0.upsamplers.0.conv"),
    ],
)
def test_sdxl_has_three_namings_of_one_module(naming: str, stem: str) -> None:
    known = family("sdxl")
    target = Target("unet", UNET + "output_blocks.2.2.conv.weight", kind="conv3x3")
    assert known.lookup(stem) == target
    assert known.spell(target, naming) == stem


def test_a_naming_that_a_family_has_not_gives_none() -> None:
    known = family("sd1")
    assert known.spell(known.targets()[0], "kohya-diffusers") is None
    assert known.spell(known.targets()[0], "xlabs") is None
    assert known.spell(Target("unet", "elsewhere"), "kohya") is None


def test_targets_stand_in_the_models_own_order() -> None:
    keys = [t.key.removeprefix(UNET) for t in family("sd1").targets()]
    heads = list(dict.fromkeys(key.split(".")[0] for key in keys))
    assert heads == ["time_embed", "input_blocks", "middle_block", "output_blocks", "out", "cond_stage_model"]
    blocks = [int(key.split(".")[1]) for key in keys if key.startswith("input_blocks")]
    assert blocks == sorted(blocks)


@pytest.mark.parametrize(
    ("name", "stem", "features"),
    [
        ("sd1", "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k", (1280, 768)),
        ("sd2", "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k", (1280, 1024)),
        ("sdxl", "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k", (1280, 2048)),
        ("sd1", "unet.up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj", (2560, 320)),
        ("sdxl", "lora_te2_text_model_encoder_layers_0_mlp_fc1", (5120, 1280)),
        ("sd1", "unet.conv_in", (None, None)),
    ],
)
def test_published_sizes_are_claimed_where_they_tell_something(
    name: str, stem: str, features: tuple[int | None, int | None]
) -> None:
    known = family(name)
    target = known.lookup(stem)
    assert target is not None
    assert known.features(target) == features


CROSS_ATTENTION = ("CrossAttention", "Attention", "GEGLU")


def test_a_positional_unet_counts_the_blocks_as_the_first_trainer_met_them() -> None:
    # diffusers 0.11.1: ff stands between the attentions, and the middle block is registered last.
    known = family("sd1")
    names = [known.spell(t, "diffusers") for t in known.positions("unet", CROSS_ATTENTION)]
    first = "unet.down_blocks.0.attentions.0.transformer_blocks.0."
    leaves = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj",
              "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"]  # fmt: skip
    assert len(names) == 144
    assert names[:9] == [first + leaf for leaf in leaves]
    assert names[54] == "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    assert names[-9:] == ["unet.mid_block.attentions.0.transformer_blocks.0." + leaf for leaf in leaves]


def test_the_order_of_the_class_names_does_not_matter() -> None:
    known = family("sd1")
    assert known.positions("unet", CROSS_ATTENTION) == known.positions("unet", CROSS_ATTENTION[::-1])


def test_classes_choose_what_is_counted() -> None:
    known = family("sd1")
    gates = [known.spell(t, "diffusers") or "" for t in known.positions("unet", ("GEGLU",))]
    assert len(gates) == 16
    assert all(name.endswith("ff.net.0.proj") for name in gates)


def test_an_extended_file_counts_attention_before_the_resnets_of_its_block() -> None:
    known = family("sd1")
    names = [
        known.spell(t, "diffusers") for t in known.positions("unet", (*CROSS_ATTENTION, "ResnetBlock2D"))
    ]
    assert len(names) == 224  # counted on diffusers' own class
    assert names[18:22] == [
        "unet.down_blocks.0.resnets.0." + leaf for leaf in ("conv1", "time_emb_proj", "conv2")
    ] + ["unet.down_blocks.0.resnets.1.conv1"]


def test_a_positional_text_encoder_counts_k_v_q_out_layer_by_layer() -> None:
    known = family("sd1")
    names = [known.spell(t, "diffusers") for t in known.positions("text_encoder", ("CLIPAttention",))]
    leaves = ("k_proj", "v_proj", "q_proj", "out_proj")
    assert names == [
        f"text_encoder.text_model.encoder.layers.{n}.self_attn.{leaf}" for n in range(12) for leaf in leaves
    ]


@pytest.mark.parametrize(
    ("name", "model", "classes", "message"),
    [
        ("sd1", "unet", ("Linear",), "no place is known for modules of class 'Linear' in SD1.x"),
        ("sd1", "vae", ("Attention",), "SD1.x has no positional LoRA files of 'vae'"),
        ("sdxl", "unet", ("Attention",), "SDXL has no positional LoRA files of 'unet'"),
    ],
)
def test_positions_that_no_table_places_are_errors(
    name: str, model: str, classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        family(name).positions(model, classes)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("name", "model", "hint"),
    [
        ("sd1", "unet", "known are Attention, CrossAttention, GEGLU, ResnetBlock2D"),
        ("sd2", "vae", "such files were made for unet, text_encoder"),
        ("sdxl", "unet", "such files are older than the family"),
    ],
)
def test_the_hint_says_which_positions_there_are(name: str, model: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        family(name).positions(model, ("Linear",))
    assert caught.value.hint == hint


def test_loading_and_looking_up_are_quick() -> None:
    script = (
        "import json, sys, time, lorapipe.architectures as a\n"
        "stems = json.loads(sys.argv[1]); t = time.process_time()\n"
        "found = [a.family('sdxl').lookup(stem) for stem in stems]\n"
        "print(time.process_time() - t)"
    )
    known = family("sdxl")
    stems = [stem for t in known.targets() if (stem := known.spell(t, "kohya")) is not None][:1000]
    # A fresh process, as in a command: 10 ms, with room for a slow machine.
    out = subprocess.run(
        [sys.executable, "-c", script, json.dumps(stems)],
        capture_output=True,
        text=True,
        check=True,
        cwd=_root(),
    )
    assert float(out.stdout) < 0.15
    start = perf_counter()
    assert all(known.lookup(stem) for stem in stems)
    assert perf_counter() - start < 0.05


def test_no_code_asks_for_a_family_by_name() -> None:
    """What differs between families is data: a comparison with a name would be a branch beside the tables."""
    package = _root() / "lorapipe"
    names = set(families())
    found = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        and any(
            isinstance(c, ast.Constant) and c.value in names
            for side in node.comparators
            for c in ast.walk(side)
        )
    ]
    assert found == []


def _root() -> Path:
    return Path(lorapipe.__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("name", "component", "spelling", "bare"),
    [
        ("sd1", "unet", "model.diffusion_model.out.2.weight", "out.2.weight"),
        ("sd1", "unet", "diffusion_model.out.2", "out.2"),
        ("sd1", "unet", "lora_unet_conv_out", "lora_unet_conv_out"),
        ("sd1", "te", "cond_stage_model.transformer.text_model.x", "text_model.x"),
        ("flux1", "dit", "double_blocks.0.img_attn.qkv.weight", "double_blocks.0.img_attn.qkv.weight"),
        ("flux1", "dit", "transformer.proj_out", "proj_out"),
        ("wan", "dit", "base_model.model.blocks.0.ffn.0", "blocks.0.ffn.0"),
    ],
)
def test_a_name_behind_the_path_to_its_model(name: str, component: str, spelling: str, bare: str) -> None:
    assert family(name).behind(component, spelling) == bare
