"""What is in a checkpoint, and which of it a LoRA changes: the tables beside this file, expanded."""

from __future__ import annotations

import itertools
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Module", "Tensor", "modules", "shrunk", "tensors"]

_FOLDER = Path(__file__).parent / "layouts"
_FAMILIES = {"sd15": "sd1", "sdxl": "sdxl"}
_EMBEDDINGS = ("time_embed", "label_emb", "text_projection")
_ATTENTION = ("transformer_blocks", "proj_in", "proj_out")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a checkpoint. ``dtype`` as safetensors writes it: ``F16``, ``I64``."""

    key: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Module:
    """One module of a LoRA: kohya's name (a Llama's: its path), its own shape, and the tensor it belongs to.

    ``rows`` is the half-open range of the tensor's rows that the module takes, ``None`` for
    all; ``key`` names the tensor in the checkpoint.
    """

    stem: str
    shape: tuple[int, ...]
    key: str
    rows: tuple[int, int] | None


def tensors(layout: str, *, divide: int = 1, every: int = 1) -> dict[str, Tensor]:
    """The tensors of ``sd15``, ``sdxl`` or ``llama``, by key, in the order of their names.

    ``divide`` makes each axis that much smaller (a model for tests, with all names);
    ``every`` takes one tensor in so many, drawn by its name (a smaller checkpoint of real
    tensors; those for 8 are among those for 4).
    """
    found: dict[str, Tensor] = {}
    for line in (_FOLDER / f"{layout}.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern, dtype, shape = line.split(" ")
            axes = () if shape == "-" else tuple(int(axis) for axis in shape.split("x"))
            found |= {key: Tensor(key, dtype, shrunk(axes, divide)) for key in _expand(pattern)}
    drawn = sorted(found, key=lambda key: zlib.crc32(key.encode()))[: -(-len(found) // every)]
    return {key: found[key] for key in sorted(drawn)}


def shrunk(shape: tuple[int, ...], divide: int) -> tuple[int, ...]:
    """The shape with its axes divided; a kernel's own axes stay, and no axis vanishes."""
    return tuple(axis if axis <= 4 else -(-axis // divide) for axis in shape)


def modules(layout: str, kind: str, *, divide: int = 1, every: int = 1) -> list[Module]:
    """The modules of a LoRA for that layout, in the order of their names.

    ``kind`` is ``attention``, what kohya trains by default (264 modules of SD 1.5, 986 of
    SDXL), or ``convolution``, with the convolutions too (352 modules of SD 1.5), or
    ``projections``, the seven of each layer of a Llama. With ``every`` only those whose
    tensor is in the smaller checkpoint.
    """
    if kind == "projections":
        return _projections(tensors(layout, divide=divide, every=every))
    # Names are lorapipe's own table: whether it is right is what tests/architectures holds it to.
    from lorapipe.architectures import family

    known = tensors(layout, divide=divide, every=every)
    names = family(_FAMILIES[layout])
    found = []
    for target in names.targets():
        stem = names.spell(target, "kohya") if target.kind in _TRAINED else None
        if target.key not in known or stem is None or not _wanted(target.component, target.key, kind):
            continue
        shape = known[target.key].shape
        rows = None
        if target.parts:
            ((first, last, parts),) = target.parts
            rows = (shape[0] * first // parts, shape[0] * last // parts)
            shape = (rows[1] - rows[0], *shape[1:])
        found.append(Module(stem, shape, target.key, rows))
    return sorted(found, key=lambda module: module.stem)


def _projections(known: dict[str, Tensor]) -> list[Module]:
    found = [tensor for key, tensor in known.items() if key.endswith("_proj.weight")]
    return [Module(tensor.key.removesuffix(".weight"), tensor.shape, tensor.key, None) for tensor in found]


_TRAINED = ("linear", "conv1x1", "conv3x3")


def _wanted(component: str, key: str, kind: str) -> bool:
    if any(name in key for name in _EMBEDDINGS):
        return False
    return kind == "convolution" or component != "unet" or any(name in key for name in _ATTENTION)


def _expand(pattern: str) -> list[str]:
    pieces = [_values(piece) for piece in re.split(r"(\{[^}]*\})", pattern)]
    return ["".join(chosen) for chosen in itertools.product(*pieces)]


def _values(piece: str) -> list[str]:
    if not piece.startswith("{"):
        return [piece]
    values: list[str] = []
    for item in piece[1:-1].split(","):
        first, dots, last = item.partition("..")
        values += [str(n) for n in range(int(first), int(last) + 1)] if dots else [item]
    return values
