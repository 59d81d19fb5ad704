"""The two hashes by which web UIs know a LoRA file, as kohya's trainer computes them.

They are over a file of the same tensors that has no metadata but those that begin with
``ss_``: ``sshs_model_hash`` over its data, ``sshs_legacy_hash`` over 64 KiB from 1 MiB on, header
and all. (kohya-ss/sd-scripts 48d368f ``library/train_util.py``: ``precalculate_safetensors_hashes``.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from lorapipe.formats.containers.output import TensorData, in_step
from lorapipe.formats.containers.safetensors_writer import header_bytes
from lorapipe.weights.specs import TensorSpec

__all__ = ["model_hashes"]

_FROM, _LENGTH = 0x100000, 0x10000


def model_hashes(
    specs: Mapping[str, TensorSpec], data: TensorData, metadata: Mapping[str, str]
) -> dict[str, str]:
    """``sshs_model_hash`` and ``sshs_legacy_hash`` of the file that ``specs`` and ``data`` make.

    ``specs`` are in the order in which the safetensors library writes them, ``metadata`` what
    the file will have. One piece of data is in memory at a time.
    """
    header = header_bytes(specs, {key: text for key, text in metadata.items() if key.startswith("ss_")})
    whole, window = hashlib.sha256(), hashlib.sha256(_overlap(header, 0))
    position = len(header)
    for _, pieces in in_step(specs, data):
        for piece in pieces:
            view = memoryview(piece).cast("B")
            whole.update(view)
            window.update(_overlap(view, position))
            position += view.nbytes
    return {"sshs_model_hash": whole.hexdigest(), "sshs_legacy_hash": window.hexdigest()[:8]}


def _overlap(piece: bytes | memoryview, position: int) -> bytes | memoryview:
    """What of a piece that stands at ``position`` the legacy hash is over."""
    return piece[max(_FROM - position, 0) : max(_FROM + _LENGTH - position, 0)]
