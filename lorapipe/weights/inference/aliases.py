"""What a LoRA of an unknown family may call the weights of a checkpoint.

No table says how such names are made, so the checkpoint's own keys are taken, and written
in every way in which trainers write paths: without the wrapper around the model, with
underscores for dots, behind a trainer's prefix. A name that could mean two keys means none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["Aliases"]

_TRAINERS = (
    "lora_unet_", "lora_transformer_", "lora_prior_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_te3_",
    "lora_", "lycoris_unet_", "lycoris_", "model.diffusion_model.", "diffusion_model.", "transformer.",
    "unet.", "text_encoder.", "text_encoder_2.",
)  # fmt: skip
"""What stands before a module's path in a LoRA."""

_WRAPPERS = ("model.diffusion_model.", "diffusion_model.", "transformer.", "unet.", "net.", "model.")
"""What stands before it in a checkpoint."""


class Aliases:
    """The keys of a checkpoint by what a LoRA may call them.

    >>> known = Aliases(["model.diffusion_model.mid.0.q.weight", "out.q_k.weight", "out_q.k.weight"])
    >>> known.find("lora_unet_mid_0_q")
    ('model.diffusion_model.mid.0.q.weight',)
    >>> known.find("lora_unet_out_q_k")
    ('out.q_k.weight', 'out_q.k.weight')
    """

    __slots__ = ("_exact", "_paths", "_underscored")

    def __init__(self, keys: Iterable[str]) -> None:
        self._exact = frozenset(keys)
        self._paths: dict[str, list[str]] = {}
        self._underscored: dict[str, list[str]] = {}
        for key in sorted(self._exact):
            for path in _stored(key):
                self._paths.setdefault(path, []).append(key)
                underscored = _with_underscores(path)
                if key not in self._underscored.setdefault(underscored, []):
                    self._underscored[underscored].append(key)

    def find(self, name: str) -> tuple[str, ...]:
        """The keys that ``name`` may mean; one if it is plain which. ``name`` may be a key or a module's."""
        if name in self._exact:
            return (name,)
        paths = list(_named(name))
        for table, written in ((self._paths, paths), (self._underscored, map(_with_underscores, paths))):
            for path in written:
                if path in table:
                    return tuple(table[path])
        return ()


def _stored(key: str) -> Iterator[str]:
    """A key, and what is left of it without a folder or a wrapper."""
    yield key
    path = key.rpartition("/")[2]
    if path != key:
        yield path
    for wrapper in _WRAPPERS:
        if path.startswith(wrapper):
            yield path.removeprefix(wrapper)


def _named(name: str) -> Iterator[str]:
    """A LoRA's name as that of a tensor, and what is left of it without a trainer's prefix."""
    tensor = name if name.endswith((".weight", ".bias")) else f"{name}.weight"
    yield name
    yield tensor
    for prefix in _TRAINERS:
        if tensor.startswith(prefix):
            yield tensor.removeprefix(prefix)


def _with_underscores(path: str) -> str:
    """Dots as underscores, up to what says which tensor of the module it is."""
    for end in (".weight", ".bias"):
        if path.endswith(end):
            return path.removesuffix(end).replace(".", "_") + end
    return path.replace(".", "_")
