"""Layouts of LoRA files: which naming, which words, which formats of modules each can hold.

``kohya`` is what kohya's trainers and LyCORIS write, ``comfy`` what ComfyUI reads of the
family, ``diffusers`` and ``peft`` are those of these libraries. (kohya-ss/sd-scripts 48d368f
``networks``; KohakuBlueleaf/LyCORIS f49d30d; comfyanonymous/ComfyUI ec93dca ``comfy/lora.py``,
``comfy/weight_adapter``; huggingface/diffusers 0.42.1 ``loaders``; huggingface/peft 0.21.2.)

A file of diffusers' names has no alphas: its readers ignore them (U-Nets), refuse them (most
transformers) or honour them (Flux). What all of them read alike is a file whose alphas are
its ranks, and so a coefficient goes into a factor wherever no bit is lost by that. Where
one would be, the header says the alphas (``lora_adapter_metadata``): diffusers reads
that, and nobody else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from lorapipe.formats.forms import embedding, lora
from lorapipe.weights.inference.cuts import NOWHERE
from lorapipe.weights.inference.filed import ALPHA, DOWN, KOHYA, UP, Words
from lorapipe.weights.specs import Form, Spelling, TensorSpec

__all__ = [
    "BIAS",
    "EMBEDDED_DOWN",
    "EMBEDDED_UP",
    "KEEP",
    "LAYOUTS",
    "MAGNITUDES",
    "PEFT_BIAS",
    "PEFT_PREFIX",
    "SET",
    "Layout",
    "kept_words",
    "respelled",
]

KEEP = "keep"

PEFT_PREFIX = "base_model.model."
"""What PEFT puts before a module's path."""

BIAS, PEFT_BIAS = ".diff_b", ".lora_B.bias"
"""What a bias gains; to PEFT it is a bias of the factor B, and scaled as that is."""

SET = ".set_weight"
"""A whole parameter: to PEFT one of ``modules_to_save``, under its own name."""

_SCALE, _MAGNITUDE = ".dora_scale", ".lora_magnitude_vector"
MAGNITUDES = frozenset({_SCALE, _MAGNITUDE})
"""A DoRA's magnitude, as kohya and as PEFT call it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a program's files are written.

    ``namings`` are the family's, the first that a component has being taken. ``holds`` are the
    beginnings of the roles that the program reads, beside alpha. ``program`` is its name in
    messages; its names with dots begin with one of ``begins``. ``extras`` says whether
    embeddings may stand beside the modules; ``unets`` are the namings of families with a U-Net,
    if others: ComfyUI reads kohya's names of these, as everybody does.
    """

    namings: tuple[str, ...]
    words: Words
    holds: tuple[str, ...]
    program: str
    begins: tuple[str, ...] = ()
    extras: bool = True
    unets: tuple[str, ...] = ()

    def names_by(self, components: Collection[str]) -> tuple[str, ...]:
        """The namings of a family of these components, the preferred one first."""
        return self.unets if self.unets and "unet" in components else self.namings

    def takes(self, stem: str) -> bool:
        """Whether a name of an unknown model is of this layout's sort."""
        return stem.startswith(self.begins) or (self.words.alpha and "." not in stem)


_LORA = (".lora_up.", ".lora_down.", *sorted(MAGNITUDES))
_BIASED = (*_LORA, BIAS)
_SAVED = (*_BIASED, SET, ".base_layer.")
_COMFY = (
    *_LORA, ".lora_mid.", ".hada_", ".lokr_", ".oft_blocks", ".rescale", ".diff", ".w_norm", ".b_norm",
    ".set_weight", ".reshape_weight", ".a1.", ".a2.", ".b1.", ".b2.",
)  # fmt: skip
_LYCORIS = (*_COMFY, ".oft_diag", ".bm.", ".weight", ".on_input")

_KOHYA = replace(KOHYA, suffixes=MappingProxyType({_MAGNITUDE: _SCALE}))
_PEFT = MappingProxyType({UP: ".lora_B.weight", DOWN: ".lora_A.weight", _SCALE: _MAGNITUDE, BIAS: PEFT_BIAS})
_FOLDED = Words(_PEFT, alpha=False, folds=True)

_COMFY_BEGINS = ("diffusion_model.", "text_encoders.")
_DIFFUSERS_BEGINS = ("unet.", "transformer.", "text_encoder")

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "kohya": Layout(("kohya",), _KOHYA, _LYCORIS, "kohya's layout"),
        "comfy": Layout(
            ("comfy", "kohya"), _KOHYA, _COMFY, "ComfyUI", _COMFY_BEGINS, unets=("kohya", "comfy")
        ),
        "diffusers": Layout(("diffusers",), _FOLDED, _BIASED, "diffusers", _DIFFUSERS_BEGINS, extras=False),
        "peft": Layout(("diffusers",), Words(_PEFT, alpha=False), _SAVED, "PEFT's LoRA", extras=False),
    }
)
"""The layouts by name, but for ``keep``."""

EMBEDDED_UP, EMBEDDED_DOWN = embedding.FORM.roles
"""PEFT's names for the factors of an embedding's LoRA."""

_PAIRS = MappingProxyType(
    dict(zip((UP, *lora.FORM.roles[UP]), (DOWN, *lora.FORM.roles[DOWN]), strict=True))
    | {EMBEDDED_UP: EMBEDDED_DOWN}
)
"""What stands for ``down`` in a file, by what stands for ``up``."""

_WITH_ALPHA = ("lora_", "lycoris_", *_COMFY_BEGINS)
"""Beginnings of names whose readers know alphas whatever the factors are called: kohya's and ComfyUI's."""


def kept_words(spelling: Spelling) -> Words:
    """The words of the file that a module came from.

    >>> kept_words(Spelling("unet.mid_block.proj_in", up=".lora_B.weight")).suffix(".lora_down.weight")
    '.lora_A.weight'
    """
    peft = {BIAS: PEFT_BIAS} if spelling.up.startswith(".lora_B") else {}
    suffixes = MappingProxyType({UP: spelling.up, DOWN: _PAIRS[spelling.up], **peft})
    alpha = spelling.up.startswith(".lora_up") or spelling.stem.startswith(_WITH_ALPHA)
    return Words(suffixes, alpha, folds=not alpha)


def respelled(form: Form, shape: tuple[int, ...], layout: Layout) -> Form | None:
    """The form as a layout writes it, for a module of ``shape`` ``[O, I, *k]``; ``None`` if it cannot.

    A DoRA's magnitude is ``[O, 1, ...]`` to kohya, ``[O]`` or ``[1, O, 1, ...]`` to PEFT, which
    knows none along the inputs.
    """
    tensors = []
    for role, tensor in form.tensors:
        if role == ALPHA:
            if layout.words.alpha:
                tensors.append((role, tensor))
        elif not role.startswith(layout.holds):
            return None
        elif role in MAGNITUDES:
            inputs = form.cuts == NOWHERE
            if inputs and layout.words.suffix(role) != role:
                return None
            tensors.append((role, tensor if inputs else _magnitude(tensor, shape, layout.words.suffix(role))))
        else:
            tensors.append((role, tensor))
    return replace(form, tensors=tuple(tensors))


def _magnitude(tensor: TensorSpec, shape: tuple[int, ...], suffix: str) -> TensorSpec:
    ones = (1,) * (len(shape) - 1)
    if suffix == _SCALE:
        return TensorSpec(tensor.dtype, (shape[0], *ones))
    return TensorSpec(tensor.dtype, (1, shape[0], *ones[1:]) if len(shape) > 2 else (shape[0],))
