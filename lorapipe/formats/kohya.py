"""Files that write a module as a stem and suffixes: ``<stem>.lora_up.weight``.

A further spelling of the same thing is one row of ``SPELLINGS``; a further kind of
adapter leaves ``_UNSUPPORTED`` when its structure has come to be.
(Names: kohya-ss/sd-scripts 48d368f ``networks/lora.py``; KohakuBlueleaf/LyCORIS f49d30d
``lycoris/modules``; huggingface/peft 5d602fd ``tuners``.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lorapipe.formats.factors import Contents, Extra, Factors
from lorapipe.formats.problems import Problems
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import TensorSpec

__all__ = ["SPELLINGS", "Suffixes", "has_adapter_names", "read_names"]

_TELLING = re.compile(
    r"[._](lora_(up|down|mid|A|B|embedding_A|magnitude_vector)|lora\.(up|down)|lora_linear_layer\.(up|down)"
    r"|hada_w[12]_[ab]|lokr_w[12](_[ab])?|dora_scale|oft_(blocks|diag|R))(\.|$)"
)

_READ = "lorapipe reads LoRA and LoCon as kohya's trainer writes them"

BUNDLED = "bundle_emb."
"""Prefix of textual-inversion embeddings that a LoRA file carries."""


@dataclass(frozen=True, slots=True)
class Suffixes:
    """What a file writes behind a module's stem for its three tensors."""

    up: str
    down: str
    alpha: str


SPELLINGS = (Suffixes(".lora_up.weight", ".lora_down.weight", ".alpha"),)

_UNSUPPORTED: Mapping[str, tuple[str, ...]] = {
    "PEFT names (lora_A, lora_B)": (
        ".lora_A.weight", ".lora_B.weight", ".lora_A.default.weight", ".lora_B.default.weight", ".lora_A",
        ".lora_B", ".lora_B.bias", ".lora_embedding_A", ".lora_embedding_B",
    ),
    "diffusers names (lora.up, lora.down)": (
        ".lora.up.weight", ".lora.down.weight", "_lora.up.weight", "_lora.down.weight",
        ".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight",
    ),
    "LoHa": (".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2"),
    "LoKr": (
        ".lokr_w1", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t1",
        ".lokr_t2",
    ),
    "DoRA": (".dora_scale", ".lora_magnitude_vector", ".lora_magnitude_vector.weight"),
    "Tucker cores (lora_mid)": (".lora_mid.weight",),
    "OFT": (".oft_blocks", ".oft_diag", ".oft_R.weight"),
    "IA3": (".on_input",),
    "GLoRA": (".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight", ".bm.weight"),
    "full differences": (".diff", ".diff_b"),
    "norms": (".w_norm", ".b_norm"),
    "full weights": (".set_weight", ".reshape_weight"),
}  # fmt: skip
"""Kinds that are known and refused by name: what a file would lose must not be lost in silence."""


def has_adapter_names(names: Iterable[str]) -> bool:
    """Whether any name is that of an adapter's tensor, of a supported kind or not.

    Suffixes as general as ``.alpha``, ``.diff`` or ``.a1.weight`` say nothing alone.
    """
    return any(_TELLING.search(name) for name in names)


def read_names(source: TensorSource, problems: Problems) -> Contents:
    """The modules of a file, in the order in which it has them, and its embeddings."""
    parts: dict[str, dict[str, str]] = {}
    extras: dict[str, Extra] = {}
    unsupported: set[str] = set()
    for name, spec in source.tensors.items():
        role = _role(name)
        if role is not None:
            parts.setdefault(role[0], {})[role[1]] = name
        elif name.startswith(BUNDLED):
            extras[name] = Extra(name, spec)
        else:
            unsupported |= _refuse(name, problems)
    modules = (
        _factors(stem, tensors, source.tensors, problems)
        for stem, tensors in parts.items()
        # Its remaining tensors, an alpha say, are no fault of their own.
        if stem not in unsupported
    )
    return Contents(tuple(m for m in modules if m is not None), extras, source.metadata)


def _role(name: str) -> tuple[str, str] | None:
    """(stem, up | down | alpha) of a tensor, or ``None``."""
    for row in SPELLINGS:
        for suffix, role in ((row.up, "up"), (row.down, "down"), (row.alpha, "alpha")):
            if name.endswith(suffix) and len(name) > len(suffix):
                return name[: -len(suffix)], role
    return None


def _refuse(name: str, problems: Problems) -> set[str]:
    """Note a tensor that cannot be read; the stem of its module, where one can tell."""
    for kind, suffixes in _UNSUPPORTED.items():
        for suffix in suffixes:
            if name.endswith(suffix):
                message = f"{{n}} tensor{{s}} of {kind}, not supported yet"
                problems.say("unsupported-kind", message, name, _READ)
                return {name[: -len(suffix)]}
    problems.add("unknown-tensors", name)
    return set()


def _factors(
    stem: str, parts: Mapping[str, str], tensors: Mapping[str, TensorSpec], problems: Problems
) -> Factors | None:
    up, down, alpha = parts.get("up"), parts.get("down"), parts.get("alpha")
    if alpha is not None and tensors[alpha].size != 1:
        problems.add("alpha-not-scalar", f"{alpha} {list(tensors[alpha].shape)}")
    if up is not None and down is not None:
        return Factors(stem, up, down, alpha)
    if up is not None:
        problems.add("up-without-down", stem)
    elif down is not None:
        problems.add("down-without-up", stem)
    else:
        problems.add("alpha-without-factors", stem)
    return None
