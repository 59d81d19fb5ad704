"""What other programs make of three small deltas: run by tests/clients, recorded in peers.json.

python -m tests.weights.algebra.methods.peers    writes the record anew (needs mergekit and peft)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch

__all__ = [
    "DENSITY",
    "EPSILON",
    "GAMMA",
    "RECORD",
    "WEIGHTS",
    "coins",
    "deltas",
    "mergekit",
    "peft",
    "recorded",
]

RECORD = Path(__file__).with_name("peers.json")
DENSITY, GAMMA, EPSILON = 0.6, 0.1, 0.2
WEIGHTS = (1.0, 0.5, 0.25)

Matrix = npt.NDArray[np.float64]


def deltas() -> list[Matrix]:
    """Three matrices ``[5, 7]`` of mean square 1, correlated, no two magnitudes alike."""
    rng = np.random.default_rng(20)
    common = rng.standard_normal((5, 7))
    return [common + rng.standard_normal((5, 7)) for _ in range(3)]


def coins() -> list[Matrix]:
    """Random numbers from 0 to below 1 for each delta, as any generator may draw them."""
    rng = np.random.default_rng(21)
    return [rng.random((5, 7)) for _ in range(3)]


def drawn() -> Any:
    """``torch.bernoulli`` of our coins, whose next one each call takes."""
    numbers = iter(coins())

    def bernoulli(chances: torch.Tensor) -> torch.Tensor:
        return (torch.from_numpy(next(numbers)) < chances).to(chances.dtype)

    return mock.patch("torch.bernoulli", bernoulli)


def mergekit() -> dict[str, Matrix]:
    """By method what arcee-ai/mergekit makes of the deltas, on a base of zeros."""
    from mergekit import sparsify
    from mergekit.merge_methods.generalized_task_arithmetic import get_mask
    from mergekit.merge_methods.karcher import karcher_merge_tensors
    from mergekit.merge_methods.nuslerp import nuslerp
    from mergekit.merge_methods.sce import sce_mask, sce_weight
    from mergekit.merge_methods.slerp import slerp

    given = [torch.from_numpy(delta) for delta in deltas()]
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)[:, None, None]
    made: dict[str, torch.Tensor] = {}

    def consensus(thinned: list[torch.Tensor], method: Any) -> torch.Tensor:
        weighted = torch.stack(thinned) * weights
        mask = get_mask(weighted, method=method)
        divisor = (weights * mask).sum(dim=0)
        divisor[divisor == 0] = 1
        total: torch.Tensor = (weighted * mask).sum(dim=0) / divisor
        return total

    trimmed = [sparsify.magnitude(delta, DENSITY) for delta in given]
    made["ties"], made["ties frequency"] = consensus(trimmed, "sum"), consensus(trimmed, "count")
    made["magnitude-prune"] = (torch.stack(trimmed) * weights).sum(dim=0)
    middle = [sparsify.magnitude_outliers(delta, DENSITY, gamma=GAMMA) for delta in given]
    made["breadcrumbs"] = (torch.stack(middle) * weights).sum(dim=0)
    with drawn():
        made["della masks"] = torch.stack(
            [sparsify.della_magprune(delta, DENSITY, EPSILON) != 0 for delta in given]
        )
    made["slerp"] = slerp(torch.tensor([0.3], dtype=torch.float64), given[0][None], given[1][None])[0]
    made["nuslerp"] = nuslerp(0.5 / 1.5, given[0], given[1], flatten=True)
    shares = [weight / sum(WEIGHTS) for weight in WEIGHTS]
    made["karcher"] = karcher_merge_tensors(given, shares, max_iter=200, tol=1e-12)
    stacked = torch.stack(given)
    stacked = stacked * sce_mask(stacked, DENSITY)
    erased = sce_weight(stacked)[:, None, None] * get_mask(stacked, method="sum")
    made["sce"] = (stacked * erased).sum(dim=0) / erased.sum(dim=0).clamp(min=1e-6)
    return {name: tensor.to(torch.float64).numpy() for name, tensor in made.items()}


def peft() -> dict[str, Matrix]:
    """By method what huggingface/peft makes of the deltas, weights in them where signs are elected."""
    from peft.utils import merge_utils as peer

    given = [torch.from_numpy(delta) for delta in deltas()]
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    ones = torch.ones(3, dtype=torch.float64)
    weighted = [delta * weight for delta, weight in zip(given, weights, strict=True)]
    made = {
        "ties": peer.ties(weighted, ones, DENSITY, "total"),
        "ties frequency": peer.ties(weighted, ones, DENSITY, "frequency"),
        "magnitude-prune": peer.magnitude_prune(given, weights, DENSITY),
    }
    with drawn():
        made["dare-linear"] = peer.dare_linear(given, weights, DENSITY)
    with drawn():
        made["dare-ties"] = peer.dare_ties(weighted, ones, DENSITY)
    return {name: tensor.numpy() for name, tensor in made.items()}


def recorded(program: str) -> Mapping[str, Matrix]:
    """What was recorded of a program's run, by method."""
    found = json.loads(RECORD.read_text(encoding="utf-8"))[program]
    return {name: np.array(values) for name, values in found["made"].items()}


def write() -> None:
    """Run the programs, and record what they make, a method a line, with their versions."""
    programs = []
    for program, run in (("mergekit", mergekit), ("peft", peft)):
        lines = [f'"{name}": {json.dumps(array.round(12).tolist())}' for name, array in run().items()]
        made = ",\n  ".join(lines)
        programs.append(f'"{program}": {{"version": "{version(program)}", "made": {{\n  {made}}}}}')
    RECORD.write_text("{" + ",\n".join(programs) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    write()
