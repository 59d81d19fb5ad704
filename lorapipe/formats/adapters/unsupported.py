"""Adapters that are known by the names of their tensors, and refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Unsupported", "unsupported", "unsupported_method"]

_METHODS: Mapping[str, tuple[str, ...]] = {
    "AdaLoRA": ("lora_E", "ranknum"),
    "AdaMSS": ("adamss_A", "adamss_B"),
    "BEFT": ("beft_bias",),
    "Bone": ("bone_block",),
    "C3A": ("c3a_kernel",),
    "DEFT": ("deft_P", "deft_R"),
    "DeLoRA": ("delora_A", "delora_B", "delora_lambda"),
    "FourierFT": ("fourierft_spectrum",),
    "FRoD": ("frod_lambda_l", "frod_lambda_s_values"),
    "GraLoRA": ("gralora_A", "gralora_B", "gralora_A_general", "gralora_B_general"),
    "HiRA": ("hira_A", "hira_B", "hira_embedding_A", "hira_embedding_B"),
    "HRA": ("hra_u",),
    "Lily": ("lily_A", "lily_B", "lily_router"),
    "LN tuning": ("ln_tuning_layers",),
    "MiSS": ("miss_block",),
    "OFT of an embedding": ("oft_embedding_R",),
    "OSF": ("osf_svd_params",),
    "PEANuT": ("peanut_A", "peanut_B", "peanut_encoders", "peanut_decoders"),
    "PEFT's GLoRA": ("glora_A", "glora_B", "glora_C", "glora_D", "glora_E"),
    "Poly": ("poly_lora_A", "poly_lora_B", "poly_router"),
    "prompt tuning": ("prompt_embeddings",),
    "PSOFT": ("psoft_R",),
    "PVeRA": ("pvera_lambda_b", "pvera_lambda_d"),
    "RandLoRA": ("randlora_lambda", "randlora_gamma"),
    "RoAd": ("road_theta", "road_alpha"),
    "SHiRA": ("shira_weight", "shira_indices"),
    "Supertuning": ("supertuning_values", "supertuning_lora_A", "supertuning_lora_B"),
    "T-LoRA": ("lambda_layer",),
    "TinyLoRA": ("tinylora_v",),
    "trainable tokens": ("trainable_tokens_delta",),
    "UniLoRA": ("unilora_theta_d",),
    "VB-LoRA": ("vblora_logits_A", "vblora_logits_B", "vblora_vector_bank"),
    "VeRA": ("vera_lambda_b", "vera_lambda_d", "vera_A", "vera_B"),
    "WaveFT": ("waveft_spectrum",),
    "Control-LoRA": ("lora_controlnet",),
}
"""Methods by their tensors (huggingface/peft 0.21.2, ``adapter_layer_names``)."""

_PARTS = {part: kind for kind, parts in _METHODS.items() for part in parts}

_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "Nunchaku's packed LoRA": (".lora_up", ".lora_down"),
    "T-LoRA": (".p_layer.weight", ".q_layer.weight"),
    "a quantised LoRA": (
        ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", ".SCB", ".weight_format", ".qweight",
        ".qzeros", ".wscales", ".weight_scale", ".scale_weight", ".smooth",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unsupported:
    """What a tensor is of, as people call it, and the stem of its module where one can tell."""

    kind: str
    stem: str


def unsupported(name: str) -> Unsupported | None:
    """The sort of adapter that a name in an adapter's file is of, where it is one that is not read.

    >>> unsupported("base_model.model.x.vera_lambda_b")
    Unsupported(kind='VeRA', stem='base_model.model.x')
    """
    for kind, suffixes in _SUFFIXES.items():
        for suffix in suffixes:
            if name.endswith(suffix):
                return Unsupported(kind, name[: -len(suffix)])
    return unsupported_method(name)


def unsupported_method(name: str) -> Unsupported | None:
    """As :func:`unsupported`, by names that no tensor of a checkpoint has."""
    parts = name.split(".")
    for place in range(len(parts) - 1, max(len(parts) - 4, -1), -1):
        kind = _PARTS.get(parts[place])
        if kind is not None:
            return Unsupported(kind, ".".join(parts[:place]))
    return None
