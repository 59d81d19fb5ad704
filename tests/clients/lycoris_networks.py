"""Tiny models for lycoris-lora, and its answer: the file that it saves, what each module then gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .kit import randomise, state_of, twin

if TYPE_CHECKING:
    from lycoris.wrapper import LycorisNetwork


class Block(nn.Module):
    """Linear layers of three shapes and norms, as a transformer's block has."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.to_q = nn.Linear(8, 8, bias=False)
        self.up_proj = nn.Linear(8, 12)
        self.down_proj = nn.Linear(12, 8)


class Net(nn.Module):
    """A model of no known family, with underscores and dots in its names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(4, 8, 3, padding=1)
        self.group_norm = nn.GroupNorm(2, 8)
        self.point = nn.Conv2d(8, 12, 1)
        self.line = nn.Conv1d(4, 8, 3)
        self.deep = nn.Conv3d(4, 8, 3)
        self.blocks = nn.ModuleList([Block(), Block()])


@dataclass(frozen=True)
class Trained:
    """A network with random weights on a model, its file, and the model as it was."""

    network: LycorisNetwork
    plain: nn.Module
    file: Path
    base: dict[str, Tensor]

    def outputs(self, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
        """For every trained module: its path, what it gives untrained, trained, and with ``weights``."""
        merged = twin(self.plain)
        merged.load_state_dict(dict(weights), strict=True)
        paths = {f"lycoris_{path}".replace(".", "_"): path for path, _ in self.plain.named_modules()}
        for lora in self.network.loras:
            path = paths[lora.lora_name]
            before, after = self.plain.get_submodule(path), merged.get_submodule(path)
            x = _input(before).to(before.weight.dtype)
            with torch.no_grad():
                yield path, before(x), lora.forward(x), after(x)


def trained(
    folder: Path, *, dtype: torch.dtype = torch.float64, strength: float = 1.0, **options: Any
) -> Trained:
    """Let lycoris make a network, give it random values, save it, and put it on the model.

    ``dtype`` is that of model and network; OFT and BOFT invert in float32 and take no other.
    """
    from lycoris import create_lycoris

    plain = Net().to(dtype).eval()
    randomise(plain, seed=1)
    base = state_of(plain)
    chosen = {
        "linear_dim": 4,
        "linear_alpha": 2.0,
        "conv_dim": 2,
        "conv_alpha": 3.0,
        "warn_on_unmatched": False,
    }
    network = create_lycoris(twin(plain), strength, **{**chosen, **options})
    for lora in network.loras:
        # The network has them as a plain list until they are applied, so that its own to() reaches none.
        lora.to(dtype)
        randomise(lora, seed=len(lora.lora_name))
        if hasattr(lora, "rescale"):
            lora.rescale.data += 1.0
    network.apply_to()
    file = folder / "lycoris.safetensors"
    network.save_weights(str(file), None, {})
    return Trained(network.eval(), plain, file, base)


def agree(found: Trained, weights: Mapping[str, Tensor], tolerance: float) -> set[str]:
    """Every module gives with our weights what lycoris makes it give; returns what it trained."""
    paths = set()
    for path, before, theirs, ours in found.outputs(weights):
        change = (theirs - before).abs().max().item()
        assert change > 1e-6, f"{path}: lycoris changes nothing"
        error = (ours - theirs).abs().max().item()
        assert error <= tolerance * change + 1e-13, (
            f"{path}: off by {error / change:.3g} of the change {change:.3g}"
        )
        paths.add(path)
    return paths


def _input(module: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    shapes = {
        nn.Linear: lambda m: (5, m.in_features),
        nn.LayerNorm: lambda m: (5, *m.normalized_shape),
        nn.GroupNorm: lambda m: (2, m.num_channels, 4, 4),
        nn.Conv1d: lambda m: (2, m.in_channels, 6),
        nn.Conv2d: lambda m: (2, m.in_channels, 5, 5),
        nn.Conv3d: lambda m: (2, m.in_channels, 4, 4, 4),
    }
    return torch.randn(shapes[type(module)](module), generator=generator, dtype=torch.float64)
