"""Names that programs give the modules, as they are in files: facts, written here.

Those of the trainers' own lists are in ``test_layouts.py``; these are the others'.
"""

from __future__ import annotations

import pytest

from lorapipe.architectures import Target, family, recognise_adapter

Q, K, V = (((i, i + 1, 3),) for i in range(3))
SWAPPED = ((1, 2, 2), (0, 1, 2))
DOUBLE, SINGLE = "double_blocks.7.", "single_blocks.21."
JOINT = "model.diffusion_model.joint_blocks."
CLIP = "text_encoders.clip_l.transformer.text_model.encoder.layers.3."
T5 = "text_encoders.t5xxl.transformer.encoder.block.5."


def dit(key: str, parts: tuple[tuple[int, int, int], ...] = (), kind: str = "linear") -> Target:
    return Target("dit", key, parts, kind=kind)


FLUX = [
    # kohya's sd-scripts
    ("lora_unet_double_blocks_7_img_attn_qkv", dit(DOUBLE + "img_attn.qkv.weight")),
    ("lora_unet_single_blocks_21_linear1", dit(SINGLE + "linear1.weight")),
    ("lora_te1_text_model_encoder_layers_3_mlp_fc1", Target("te1", CLIP + "mlp.fc1.weight")),
    (
        "lora_te3_encoder_block_5_layer_0_SelfAttention_q",
        Target("te3", T5 + "layer.0.SelfAttention.q.weight"),
    ),
    # diffusers, ai-toolkit
    ("transformer.transformer_blocks.7.attn.to_k", dit(DOUBLE + "img_attn.qkv.weight", K)),
    ("transformer.transformer_blocks.7.attn.add_v_proj", dit(DOUBLE + "txt_attn.qkv.weight", V)),
    ("transformer.single_transformer_blocks.21.attn.to_v", dit(SINGLE + "linear1.weight", ((2, 3, 7),))),
    ("transformer.single_transformer_blocks.21.proj_mlp", dit(SINGLE + "linear1.weight", ((3, 7, 7),))),
    ("transformer.single_transformer_blocks.21.proj_out", dit(SINGLE + "linear2.weight")),
    ("transformer.norm_out.linear", dit("final_layer.adaLN_modulation.1.weight", SWAPPED)),
    ("text_encoder.text_model.encoder.layers.3.mlp.fc1", Target("te1", CLIP + "mlp.fc1.weight")),
    ("text_encoder.encoder.layers.3.mlp.fc1", Target("te1", CLIP + "mlp.fc1.weight")),
    # ComfyUI
    ("diffusion_model.double_blocks.7.txt_attn.qkv", dit(DOUBLE + "txt_attn.qkv.weight")),
    ("diffusion_model.final_layer.adaLN_modulation.1", dit("final_layer.adaLN_modulation.1.weight")),
    (CLIP + "mlp.fc1", Target("te1", CLIP + "mlp.fc1.weight")),
    # xlabs, of blocks' processors
    ("double_blocks.7.processor.qkv_lora1", dit(DOUBLE + "img_attn.qkv.weight")),
    ("double_blocks.7.processor.qkv_lora2", dit(DOUBLE + "txt_attn.qkv.weight")),
    ("double_blocks.7.processor.proj_lora1", dit(DOUBLE + "img_attn.proj.weight")),
    ("diffusion_model.double_blocks.7.processor.proj_lora2", dit(DOUBLE + "txt_attn.proj.weight")),
    ("single_blocks.21.processor.qkv_lora", dit(SINGLE + "linear1.weight", ((0, 3, 7),))),
    ("single_blocks.21.processor.proj_lora", dit(SINGLE + "linear2.weight")),
    # BFL's own (control, depth and canny LoRAs), norms included
    ("img_in", dit("img_in.weight")),
    ("single_blocks.21.norm.key_norm", dit(SINGLE + "norm.key_norm.scale", kind="norm")),
    # OneTrainer, with diffusers' paths and in OMI's names
    ("lora_transformer_transformer_blocks_7_attn_to_q", dit(DOUBLE + "img_attn.qkv.weight", Q)),
    (
        "lora_te2_encoder_block_5_layer_1_DenseReluDense_wo",
        Target("te3", T5 + "layer.1.DenseReluDense.wo.weight"),
    ),
    ("transformer.double_blocks.7.img_attn.qkv.2", dit(DOUBLE + "img_attn.qkv.weight", V)),
    ("transformer.single_blocks.21.linear1.3", dit(SINGLE + "linear1.weight", ((3, 7, 7),))),
    ("transformer.img_in.proj", dit("img_in.weight")),
    ("transformer.final_layer.adaLN_modulation.1", dit("final_layer.adaLN_modulation.1.weight")),
    ("clip_l.text_model.encoder.layers.3.mlp.fc1", Target("te1", CLIP + "mlp.fc1.weight")),
    ("t5.encoder.block.5.layer.0.SelfAttention.q", Target("te3", T5 + "layer.0.SelfAttention.q.weight")),
    # SimpleTuner's LyCORIS
    ("lycoris_single_transformer_blocks_21_attn_to_q", dit(SINGLE + "linear1.weight", ((0, 1, 7),))),
    # diffusion-pipe, DiffSynth-Studio, PEFT
    ("transformer.double_blocks.7.img_attn.qkv", dit(DOUBLE + "img_attn.qkv.weight")),
    ("transformer_blocks.7.ff_context.net.0.proj", dit(DOUBLE + "txt_mlp.0.weight")),
    ("base_model.model.transformer_blocks.7.norm1.linear", dit(DOUBLE + "img_mod.lin.weight")),
]

SD3 = [
    ("lora_unet_joint_blocks_4_x_block_attn2_qkv", dit(JOINT + "4.x_block.attn2.qkv.weight")),
    (
        "lora_te2_text_model_encoder_layers_30_mlp_fc2",
        Target("te2", "text_encoders.clip_g.transformer.text_model.encoder.layers.30.mlp.fc2.weight"),
    ),
    ("lora_te1_text_projection", Target("te1", "text_encoders.clip_l.transformer.text_projection.weight")),
    (
        "lora_unet_clip_g_transformer_text_model_encoder_layers_0_mlp_fc1",
        Target("te2", "text_encoders.clip_g.transformer.text_model.encoder.layers.0.mlp.fc1.weight"),
    ),
    ("transformer.transformer_blocks.4.attn.add_q_proj", dit(JOINT + "4.context_block.attn.qkv.weight", Q)),
    ("transformer.transformer_blocks.4.attn2.to_v", dit(JOINT + "4.x_block.attn2.qkv.weight", V)),
    ("transformer.transformer_blocks.4.attn2.to_out.0", dit(JOINT + "4.x_block.attn2.proj.weight")),
    (
        "transformer.transformer_blocks.4.norm1_context.linear",
        dit(JOINT + "4.context_block.adaLN_modulation.1.weight"),
    ),
    (
        "transformer.transformer_blocks.23.norm1_context.linear",
        dit(JOINT + "23.context_block.adaLN_modulation.1.weight", SWAPPED),
    ),
    (
        "transformer.norm_out.linear",
        dit("model.diffusion_model.final_layer.adaLN_modulation.1.weight", SWAPPED),
    ),
    ("transformer.pos_embed.proj", dit("model.diffusion_model.x_embedder.proj.weight", kind="conv")),
    (
        "transformer.transformer_blocks.4.attn.norm_added_k",
        dit(JOINT + "4.context_block.attn.ln_k.weight", kind="norm"),
    ),
    ("base_model.model.transformer_blocks.4.ff.net.2", dit(JOINT + "4.x_block.mlp.fc2.weight")),
    (
        "lora_transformer_transformer_blocks_4_attn_to_add_out",
        dit(JOINT + "4.context_block.attn.proj.weight"),
    ),
    ("lycoris_transformer_blocks_4_attn_to_q", dit(JOINT + "4.x_block.attn.qkv.weight", Q)),
    ("transformer.joint_blocks.4.x_block.attn.qkv.1", dit(JOINT + "4.x_block.attn.qkv.weight", K)),
    ("diffusion_model.joint_blocks.4.x_block.attn.qkv", dit(JOINT + "4.x_block.attn.qkv.weight")),
]

REFINER = "txt_in.individual_token_refiner.blocks.1."
HUNYUAN = [
    # musubi-tuner, its FramePack
    ("lora_unet_double_blocks_7_img_attn_qkv", dit(DOUBLE + "img_attn_qkv.weight")),
    ("lora_unet_double_blocks_7_txt_mlp_fc2", dit(DOUBLE + "txt_mlp.fc2.weight")),
    ("lora_unet_single_transformer_blocks_21_proj_mlp", dit(SINGLE + "linear1.weight", ((3, 7, 7),))),
    # diffusers
    (
        "transformer.context_embedder.token_refiner.refiner_blocks.1.attn.to_k",
        dit(REFINER + "self_attn_qkv.weight", K),
    ),
    (
        "transformer.context_embedder.time_text_embed.timestep_embedder.linear_2",
        dit("txt_in.t_embedder.mlp.2.weight"),
    ),
    ("transformer.x_embedder.proj", dit("img_in.proj.weight", kind="conv")),
    ("transformer.norm_out.linear", dit("final_layer.adaLN_modulation.1.weight", SWAPPED)),
    # diffusion-pipe, ComfyUI
    ("transformer.double_blocks.7.img_attn_qkv", dit(DOUBLE + "img_attn_qkv.weight")),
    ("transformer.single_blocks.21.modulation.linear", dit(SINGLE + "modulation.linear.weight")),
    ("diffusion_model.double_blocks.7.img_mlp.fc1", dit(DOUBLE + "img_mlp.fc1.weight")),
    # OneTrainer
    ("lora_transformer_single_transformer_blocks_21_attn_to_q", dit(SINGLE + "linear1.weight", ((0, 1, 7),))),
    ("transformer.double_blocks.7.txt_attn_qkv.0", dit(DOUBLE + "txt_attn_qkv.weight", Q)),
    ("transformer.double_blocks.7.img_mlp.fc0", dit(DOUBLE + "img_mlp.fc1.weight")),
    ("lora_te2_text_model_encoder_layers_3_mlp_fc1", Target("te2", CLIP + "mlp.fc1.weight")),
]

CHROMA = [
    (
        "lora_unet_distilled_guidance_layer_layers_2_in_layer",
        dit("distilled_guidance_layer.layers.2.in_layer.weight"),
    ),
    (
        "transformer.distilled_guidance_layer.layers.2.linear_2",
        dit("distilled_guidance_layer.layers.2.out_layer.weight"),
    ),
    ("transformer.transformer_blocks.7.attn.to_out.0", dit(DOUBLE + "img_attn.proj.weight")),
    ("lora_te_encoder_block_5_layer_0_SelfAttention_k", Target("te3", T5 + "layer.0.SelfAttention.k.weight")),
]

FLUX2 = [
    ("lora_unet_double_blocks_7_img_mlp_0", dit(DOUBLE + "img_mlp.0.weight")),
    ("lora_unet_single_blocks_21_linear1", dit(SINGLE + "linear1.weight")),
    ("transformer.transformer_blocks.7.attn.to_q", dit(DOUBLE + "img_attn.qkv.weight", Q)),
    ("transformer.single_transformer_blocks.21.attn.to_qkv_mlp_proj", dit(SINGLE + "linear1.weight")),
    ("transformer.single_transformer_blocks.21.attn.to_out", dit(SINGLE + "linear2.weight")),
    ("diffusion_model.single_stream_modulation.lin", dit("single_stream_modulation.lin.weight")),
]

LDM = "model.diffusion_model.input_blocks.4.1."
SDXL = [
    ("lycoris_down_blocks_1_attentions_0_proj_in", Target("unet", LDM + "proj_in.weight")),
    ("unet.input_blocks.4.1.proj_in", Target("unet", LDM + "proj_in.weight")),  # OMI
    ("diffusion_model.input_blocks.4.1.proj_in", Target("unet", LDM + "proj_in.weight")),
    ("base_model.model.down_blocks.1.attentions.0.proj_in", Target("unet", LDM + "proj_in.weight")),
    ("down_blocks.1.attentions.0.proj_in", Target("unet", LDM + "proj_in.weight")),
    ("lora_unet_input_blocks_4_1_norm", Target("unet", LDM + "norm.weight", kind="norm")),
    (
        "lora_unet_down_blocks_1_resnets_0_norm1",
        Target("unet", "model.diffusion_model.input_blocks.4.0.in_layers.0.weight", kind="norm"),
    ),
    ("lora_unet_conv_norm_out", Target("unet", "model.diffusion_model.out.0.weight", kind="norm")),
    ("lora_unet_out_0", Target("unet", "model.diffusion_model.out.0.weight", kind="norm")),
    (
        "lora_te2_text_model_final_layer_norm",
        Target("te2", "conditioner.embedders.1.model.ln_final.weight", kind="norm"),
    ),
    (
        "clip_g.text_model.encoder.layers.9.self_attn.v_proj",
        Target("te2", "conditioner.embedders.1.model.transformer.resblocks.9.attn.in_proj_weight", V),
    ),
    (
        "text_encoder.text_model.embeddings.token_embedding",
        Target(
            "te1",
            "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
            kind="embedding",
        ),
    ),
]


@pytest.mark.parametrize(
    ("name", "stem", "target"),
    [
        (name, *pair)
        for name, pairs in (
            ("flux1", FLUX),
            ("sd3", SD3),
            ("hunyuan-video", HUNYUAN),
            ("chroma", CHROMA),
            ("flux2-dev", FLUX2),
            ("flux2-klein-9b", FLUX2),
            ("sdxl", SDXL),
        )
        for pair in pairs
    ],
)
def test_a_name_in_the_wild_finds_its_module(name: str, stem: str, target: Target) -> None:
    assert family(name).lookup(stem) == target
    assert name in recognise_adapter([stem], {}, {}).candidates


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("flux1", "lora_unet_double_blocks_19_img_attn_qkv"),  # 19 of them, counted from 0
        ("flux1", "transformer.transformer_blocks.7.attn2.to_q"),
        ("flux1", "lora_unet_double_blocks_7_img_attn_to_q"),  # a trainer's name with diffusers' leaf
        ("flux1", "transformer.transformer_blocks.7.img_attn.qkv"),
        ("chroma", "lora_unet_double_blocks_7_img_mod_lin"),
        ("chroma", "transformer.norm_out.linear"),  # without weights there
        ("sd3", "lora_unet_joint_blocks_23_context_block_mlp_fc1"),  # nothing reads the last one's text
        ("sd3", "lora_unet_joint_blocks_13_x_block_attn2_qkv"),  # the first thirteen have it
        ("sd35-large", "lora_unet_joint_blocks_0_x_block_attn2_qkv"),
        ("hunyuan-video", "diffusion_model.double_blocks.7.img_attn.qkv"),  # FLUX.1's, too
        ("hunyuan-video", "lora_te1_text_model_encoder_layers_3_mlp_fc1"),  # CLIP is the second there
        ("sdxl", "lora_unet_input_blocks_4_1_norm_w"),
    ],
)
def test_a_name_that_no_program_gives_finds_nothing(name: str, stem: str) -> None:
    assert family(name).lookup(stem) is None


@pytest.mark.parametrize(
    ("name", "key", "target"),
    [
        ("flux1", "model.diffusion_model.img_in.weight", dit("img_in.weight")),
        (
            "flux1",
            "transformer/transformer_blocks.7.attn.norm_q.weight",
            dit(DOUBLE + "img_attn.norm.query_norm.scale", kind="norm"),
        ),
        ("flux1", "transformer_blocks.7.attn.to_k.bias", dit(DOUBLE + "img_attn.qkv.bias", K, "bias")),
        (
            "flux1",
            "text_encoder_2/encoder.block.5.layer.0.SelfAttention.q.weight",
            Target("te3", T5 + "layer.0.SelfAttention.q.weight"),
        ),
        ("sd3", "joint_blocks.0.x_block.attn.qkv.weight", dit(JOINT + "0.x_block.attn.qkv.weight")),
        (
            "sd3",
            "transformer/transformer_blocks.23.norm1_context.linear.bias",
            dit(JOINT + "23.context_block.adaLN_modulation.1.bias", SWAPPED, "bias"),
        ),
        ("sd3", "transformer/pos_embed.pos_embed", dit("model.diffusion_model.pos_embed", kind="parameter")),
        # what ComfyUI saves of HunyuanVideo
        (
            "hunyuan-video",
            "model.model.double_blocks.7.img_attn.qkv.weight",
            dit(DOUBLE + "img_attn_qkv.weight"),
        ),
        (
            "hunyuan-video",
            "model.model.double_blocks.7.img_attn.norm.query_norm.scale",
            dit(DOUBLE + "img_attn_q_norm.weight", kind="norm"),
        ),
        (
            "hunyuan-video",
            "module.txt_in.c_embedder.linear_1.bias",
            dit("txt_in.c_embedder.linear_1.bias", kind="bias"),
        ),
        (
            "sd1",
            "cond_stage_model.transformer.encoder.layers.0.mlp.fc1.weight",
            Target("te", "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"),
        ),
        (
            "sd2",
            "cond_stage_model.model.transformer.resblocks.23.attn.in_proj_bias",
            Target("te", "cond_stage_model.model.transformer.resblocks.23.attn.in_proj_bias", kind="bias"),
        ),
        (
            "sd2",
            "text_encoder/text_model.encoder.layers.22.self_attn.k_proj.bias",
            Target("te", "cond_stage_model.model.transformer.resblocks.22.attn.in_proj_bias", K, kind="bias"),
        ),
        (
            "sdxl",
            "text_encoder_2/text_projection.weight",
            Target("te2", "conditioner.embedders.1.model.text_projection", transpose=True),
        ),
        (
            "sdxl",
            "text_encoder/encoder.layers.0.layer_norm2.bias",
            Target(
                "te1",
                "conditioner.embedders.0.transformer.text_model.encoder.layers.0.layer_norm2.bias",
                kind="bias",
            ),
        ),
        ("sdxl", "first_stage_model.encoder.conv_in.weight", None),
        ("sdxl", "model_ema.diffusion_modelinput_blocks00weight", None),
        ("sdxl", "vae/encoder.conv_in.weight", None),
        ("sdxl", "alphas_cumprod", None),
    ],
)
def test_a_tensor_in_the_wild_has_its_place(name: str, key: str, target: Target | None) -> None:
    assert family(name).place(key) == target
