"""combine, and what peft's add_weighted_adapter makes of the same two adapters, from its files on.

Its methods that end in ``_svd`` work on deltas, as ours do. Weights are equal where signs are elected:
peft elects before it weighs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lorapipe
from tests.weights.algebra.methods.peers import peft as peers
from tests.weights.algebra.methods.peers import recorded

from .kit import SINGLE, Client, assert_same, randomise, read, state_of, twin
from .peft_models import base_model, trained_by

DENSITY = 0.4

CASES: list[tuple[str, tuple[float, float], dict[str, Any], dict[str, Any]]] = [
    ("linear", (0.7, -0.4), {}, {"method": "linear-factors"}),
    ("linear", (1.0, 1.0), {}, {"method": "linear-factors"}),
    ("svd", (0.7, -0.4), {"svd_rank": 3}, {"method": "sum", "rank": 3}),
    ("ties_svd", (0.5, 0.5), {"svd_rank": 3}, {"method": "ties", "rank": 3}),
    ("ties_svd", (1.0, 1.0), {"svd_rank": 6}, {"method": "ties", "rank": 6}),
    (
        "ties_svd",
        (1.0, 1.0),
        {"svd_rank": 6, "majority_sign_method": "frequency"},
        {"method": "ties", "rank": 6, "elect": "frequency"},
    ),
    ("magnitude_prune_svd", (0.7, -0.4), {"svd_rank": 5}, {"method": "magnitude-prune", "rank": 5}),
]


@pytest.mark.parametrize("model", ["llama", "convs"])
@pytest.mark.parametrize(("kind", "weights", "theirs", "ours"), CASES)
def test_combine_is_pefts_add_weighted_adapter(
    client: Client,
    model: str,
    kind: str,
    weights: tuple[float, float],
    theirs: dict[str, Any],
    ours: dict[str, Any],
) -> None:
    import peft

    targets = {"llama": ["q_proj", "v_proj", "down_proj"], "convs": ["stem", "point", "last"]}[model]
    base = base_model(model)
    wrapped = peft.get_peft_model(twin(base), peft.LoraConfig(r=4, lora_alpha=6, target_modules=targets), "a")
    wrapped.add_adapter("b", peft.LoraConfig(r=4, lora_alpha=2, target_modules=targets))
    for seed, name in ((2, "a"), (3, "b")):
        wrapped.set_adapter(name)
        randomise(wrapped, seed=seed, only=trained_by(wrapped))
    wrapped.save_pretrained(client.folder / "adapters")
    thin = "density" if "ties" in kind or "prune" in kind else None
    options = {**theirs, **({thin: DENSITY} if thin else {})}
    wrapped.add_weighted_adapter(["a", "b"], list(weights), "c", combination_type=kind, **options)
    wrapped.set_adapter("c")
    merged = state_of(wrapped.merge_and_unload())

    pair = [lorapipe.load(f"{client.folder}/adapters/{name}/", as_="lora") for name in "ab"]
    said = {**ours, **({thin: DENSITY} if thin else {})}
    combined = lorapipe.combine(list(zip(pair, weights, strict=True)), **said)
    checkpoint = lorapipe.load(client.checkpoint(state_of(base)), as_="checkpoint")
    out: Path = lorapipe.save(
        lorapipe.merge_into_checkpoint(checkpoint, combined), to=client.folder / "merged.safetensors"
    )
    assert_same(read(out), merged, state_of(base), SINGLE)  # its weights are float32


def test_what_was_recorded_is_what_peft_makes_today() -> None:
    made = peers()
    assert made.keys() == recorded("peft").keys()
    for method, array in made.items():
        np.testing.assert_allclose(array, recorded("peft")[method], atol=1e-6, err_msg=method)
