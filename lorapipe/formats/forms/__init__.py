"""The formats of adapters, one module each, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FORMS"]

FORMS: Mapping[str, str] = {
    "DoRA": "lorapipe.formats.forms.dora",
    "PEFT DoRA": "lorapipe.formats.forms.peft_dora",
    "PEFT DoRA of an embedding": "lorapipe.formats.forms.peft_embedding_dora",
    "padded LoRA": "lorapipe.formats.forms.padded",
    "LoRA": "lorapipe.formats.forms.lora",
    "LoRA of an embedding": "lorapipe.formats.forms.embedding",
    "Tucker LoRA": "lorapipe.formats.forms.tucker",
    "LoHa": "lorapipe.formats.forms.loha",
    "LoKr": "lorapipe.formats.forms.lokr",
    "full difference": "lorapipe.formats.forms.full",
    "full weight": "lorapipe.formats.forms.full_weight",
    "OFT": "lorapipe.formats.forms.oft",
    "kohya OFT": "lorapipe.formats.forms.kohya_oft",
    "old OFT": "lorapipe.formats.forms.old_oft",
    "PEFT OFT": "lorapipe.formats.forms.peft_oft",
    "PEFT BOFT": "lorapipe.formats.forms.peft_boft",
    "IA3": "lorapipe.formats.forms.ia3",
    "PEFT IA3": "lorapipe.formats.forms.peft_ia3",
    "GLoRA": "lorapipe.formats.forms.glora",
}
"""Modules with a ``FORM``, by the format's name. The first whose tensors a module has is its format."""
