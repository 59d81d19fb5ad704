"""What the name of an adapter's tensor says: which module it is of, and its role there.

The spellings of roles are those of the formats (:data:`lorapipe.formats.forms.FORMS`), as
one table. What stands before the role is the module's stem, whose spelling is a matter
of the model family; only what is the same in every family is undone here.
(Names: kohya-ss/sd-scripts 48d368f ``networks``; KohakuBlueleaf/LyCORIS f49d30d
``lycoris/modules``; huggingface/peft 0.21.2 ``tuners``; comfyanonymous/ComfyUI ec93dca
``comfy/lora.py``; huggingface/diffusers 0.42.1 ``loaders``.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from importlib import import_module
from typing import NamedTuple

from lorapipe.formats.adapters.unsupported import unsupported_method
from lorapipe.formats.forms import FORMS
from lorapipe.formats.forms.form import AdapterForm

__all__ = [
    "ALPHA",
    "BIASES",
    "BUNDLED",
    "SCALE",
    "WRAPPER",
    "Named",
    "forms",
    "has_adapter_names",
    "plain_stem",
    "read_name",
]

ALPHA, SCALE = ".alpha", ".scale"
"""Every format's strength: divided by the rank, or (AUTOMATIC1111) as it is."""

BUNDLED = "bundle_emb."
"""Prefix of textual-inversion embeddings that a LoRA file carries."""

BIASES = frozenset({".diff_b", ".b_norm", ".lora_B.bias"})
"""What a bias gains: it stands beside the tensors of its weight, and is a module of its own."""

_WEIGHT = ".weight"
_GENERAL = frozenset({_WEIGHT, ".bias", SCALE, ".up.weight", ".down.weight"})
"""Roles that any tensor's name may end with: they count where another one tells the module."""

_SHARED = BIASES | {ALPHA, ".diff", ".rescale", *(f".{g}.weight" for g in ("a1", "a2", "b1", "b2", "bm"))}
"""Roles that a checkpoint's tensor may have, too: alone they do not make a file an adapter."""

_BARE = frozenset({".lora_up.weight", ".lora_down.weight"})
"""What ``.up.weight`` and ``.down.weight`` mean in a file that has nothing else."""

# A raw state dict of PEFT has the adapter's name between the role and `.weight`; saved files do not.
_ADAPTER_NAME = re.compile(
    r"(\.(?:lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|hada_[wt][12](?:_[ab])?|lokr_[wt][12](?:_[ab])?"
    r"|ia3_l|oft_R|boft_[Rs]))\.(?!weight$|bias$)[^.]+(\.weight|\.bias)?$"
)
# The single blocks' have no number, and would lose their `_lora` to the suffix.
_XLABS = re.compile(r"\.processor\.(?:qkv|proj)_lora[12]?(\.(?:up|down)\.weight)$")
_PROCESSOR = re.compile(r"\.processor\.(?=(?:to_[qkv]|to_out|add_[qkv]_proj|to_add_out)$)")
WRAPPER = "base_model.model."
"""What PEFT puts before the path of every module."""

_PREFIXES = {
    "oft_unet_": "lora_unet_",
    "lora_unet__": "lora_unet_",
    "lora_unet_clip_l_transformer_": "lora_te1_",
    "lora_unet_clip_g_transformer_": "lora_te2_",
}

_REMEMBERED = 1 << 16
"""Names of which is kept what they say: the LoRAs of one model have the same ones."""


# A tuple: a file has thousands, and these are made three times as fast.
class Named(NamedTuple):
    """A tensor's name taken apart: its module's ``stem``, the ``suffix`` as written, and its ``role``.

    ``sure`` is false of a suffix that any tensor's name may have.
    """

    stem: str
    role: str
    suffix: str
    sure: bool = True


@cache
def forms() -> tuple[AdapterForm, ...]:
    """All formats, in the order in which they are tried."""
    return tuple(import_module(module).FORM for module in FORMS.values())


@cache
def _table() -> Mapping[str, tuple[tuple[str, str], ...]]:
    """What a name ends with, as :func:`_ending` has it -> the suffixes that end so, with their roles.

    The longest stands first.
    """
    roles = {ALPHA: ALPHA, SCALE: SCALE, ".w_norm": ".diff", **{bias: bias for bias in BIASES}}
    for form in forms():
        for role, others in form.roles.items():
            for suffix in (role, *others):
                if roles.setdefault(suffix, role) != role:
                    raise ValueError(f"{suffix} would be both {roles[suffix]} and {role}")
    found: dict[str, list[tuple[str, str]]] = {}
    for suffix in sorted(roles, key=len, reverse=True):
        found.setdefault(_ending(suffix), []).append((suffix, roles[suffix]))
    return {ending: tuple(rows) for ending, rows in found.items()}


def _ending(name: str) -> str:
    """The last part of a name; two where that is ``.weight``, with which most names end."""
    last = name.rfind(".")
    if last > 0 and name.endswith(_WEIGHT):
        last = max(name.rfind(".", 0, last), 0)
    return name[last:] if last >= 0 else name


@lru_cache(_REMEMBERED)
def read_name(name: str) -> Named | None:
    """A tensor's name as stem and role, or ``None`` where it is that of no format.

    >>> read_name("x.to_q.lora_A.default.weight")
    Named(stem='x.to_q', role='.lora_down.weight', suffix='.lora_A.weight', sure=True)
    """
    named = _by_suffix(name)
    if named is None or not named.sure:
        saved = _ADAPTER_NAME.sub(lambda found: found[1] + (found[2] or ""), name)
        named = _by_suffix(saved) if saved != name else named
    return named


def _by_suffix(name: str) -> Named | None:
    table = _table()
    rows = table.get(_ending(name)) or (table.get(_WEIGHT, ()) if name.endswith(_WEIGHT) else ())
    if ".processor." in name and (own := _XLABS.search(name)) is not None:
        role = next(role for suffix, role in rows if suffix == own[1])
        return Named(name[: -len(own[1])], role, own[1])
    for suffix, role in rows:
        if name.endswith(suffix) and name != suffix:
            return Named(name[: -len(suffix)], role, suffix, suffix not in _GENERAL)
    return None


def has_adapter_names(names: Iterable[str]) -> bool:
    """Whether any name is that of an adapter's tensor, of a supported sort or not.

    Suffixes as general as ``.alpha`` or ``.diff`` say nothing, unless no name has another.
    """
    gains = others = False
    for name in names:
        named = read_name(name)
        if named is not None and named.sure and named.role not in _SHARED:
            return True
        if named is None and unsupported_method(name) is not None:
            return True
        of_adapter = named is not None and (named.sure or named.role in _BARE)
        gains = gains or (of_adapter and named is not None and named.role != ALPHA)
        others = others or not (of_adapter or name.startswith(BUNDLED))
    return gains and not others


@lru_cache(_REMEMBERED)
def plain_stem(stem: str) -> str:
    """A stem without what wrappers, attention processors and slips of trainers add to it.

    >>> plain_stem("base_model.model.model.layers.0.mlp.up_proj")
    'model.layers.0.mlp.up_proj'
    >>> plain_stem("unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out")
    'unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0'
    >>> plain_stem("lora_unet_proj_out_")
    'lora_unet_proj_out'
    """
    if WRAPPER in stem:
        stem = stem.replace(WRAPPER, "", 1)
    if ".processor." in stem:
        plain = _PROCESSOR.sub(".", stem)
        stem = f"{plain}.0" if plain != stem and plain.endswith(".to_out") else plain
    for wrong, right in _PREFIXES.items():
        if stem.startswith(wrong):
            stem = right + stem.removeprefix(wrong)
    return stem.rstrip("_") or stem
