"""The formats of adapters, one module each, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FORMS"]

FORMS: Mapping[str, str] = {
    "LoRA": "lorapipe.formats.forms.lora",
    "LoRA of an embedding": "lorapipe.formats.forms.embedding",
    "Tucker LoRA": "lorapipe.formats.forms.tucker",
    "LoHa": "lorapipe.formats.forms.loha",
    "LoKr": "lorapipe.formats.forms.lokr",
    "full difference": "lorapipe.formats.forms.full",
}
"""Modules with a ``FORM``, by the format's name. The first whose tensors a module has is its format."""
