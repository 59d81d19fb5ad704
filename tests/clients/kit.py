"""What the tests against other programs share: models with random weights, merges, comparisons."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

import lorapipe

if TYPE_CHECKING:
    from torch import Tensor, nn

State = Mapping[str, "Tensor"]

EXACT = 1e-11
"""Of programs that add in float64, as we do: the order of the sums is all that may differ."""

SINGLE = 3e-6
"""Of programs that compute a part in float32, whatever the type of the weights."""


@dataclass(frozen=True)
class Client:
    """lorapipe through its public calls, in a folder of the test's own."""

    folder: Path

    def checkpoint(self, state: State, name: str = "base.safetensors") -> Path:
        """A checkpoint of one file."""
        path = self.folder / name
        save_file({key: value.contiguous().clone() for key, value in state.items()}, path)
        return path

    def merged(
        self,
        checkpoint: Path | str,
        adapter: Path | str,
        weight: float = 1.0,
        *,
        load: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Tensor]:
        """The checkpoint with the adapter merged into it: load, merge, save, read again."""
        base = lorapipe.load(checkpoint, as_="checkpoint")
        lora = lorapipe.load(adapter, as_="lora", **(load or {}))
        value = lorapipe.merge_into_checkpoint(base, [(lora, weight)], **options)
        if str(checkpoint).endswith("/"):
            return read(lorapipe.save(value, to=f"{self.folder}/merged/"))
        return read(lorapipe.save(value, to=self.folder / "merged.safetensors"))

    def saved(
        self, adapter: Path | str, to: str, load: Mapping[str, Any] | None = None, **options: Any
    ) -> Path:
        """The adapter as we write it: load, save."""
        value = lorapipe.load(adapter, as_="lora", **(load or {}))
        return lorapipe.save(value, to=f"{self.folder}/{to}", **options)


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, or of a folder: its files' names stand before their keys."""
    if path.is_file():
        return load_file(path)
    files = sorted(path.rglob("*.safetensors"))
    assert files, f"{path} has no safetensors"
    return {key: value for file in files for key, value in load_file(file).items()}


def randomise(
    module: nn.Module, seed: int = 0, spread: float = 0.3, only: Callable[[str], bool] | None = None
) -> None:
    """Give every parameter random values; fresh adapters are zero, and zero agrees with everything."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if only is None or only(name):
                value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64) * spread)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the module's tensors; shared ones once, under their first name, as files have them."""
    seen: set[int] = set()
    found = {}
    for key, value in module.state_dict(keep_vars=True).items():
        if id(value) not in seen:
            seen.add(id(value))
            found[key] = value.detach().clone()
    return found


def twin(module: nn.Module) -> Any:
    """A copy that another program may change."""
    return copy.deepcopy(module)


def assert_same(ours: State, theirs: State, base: State, tolerance: float = EXACT) -> None:
    """Every tensor that they have is ours, in parts of how far they moved it.

    Measured by the change, not by the weight: a wrong strength shows however small it is.
    """
    assert set(theirs) <= set(ours), f"we have no {sorted(set(theirs) - set(ours))[:5]}"
    moved = 0
    for key, expected in theirs.items():
        before = base[key].double()
        found, wanted = ours[key].double(), expected.double()
        assert found.shape == wanted.shape, f"{key}: {tuple(found.shape)} against {tuple(wanted.shape)}"
        change = (wanted - before).abs().max().item() if wanted.numel() else 0.0
        error = (found - wanted).abs().max().item() if wanted.numel() else 0.0
        if change == 0.0:
            assert error == 0.0, f"{key}: we changed by {error}, they did not"
            continue
        moved += 1
        floor = torch.finfo(base[key].dtype).eps * before.abs().max().item()
        assert error <= tolerance * change + floor, (
            f"{key}: off by {error / change:.3g} of the change {change:.3g}"
        )
    assert moved, "the program changed nothing, so nothing was compared"
