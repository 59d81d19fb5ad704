"""The peer's own output on small LoRAs: its relation to the true sum, and ours to it.

The peer's strengths are wrong (see each README beside the data); what is tested is the
exact relation between its file and the sum that lorapipe makes of the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import concat
from lorapipe.weights.algebra.resize import resize
from lorapipe.weights.algebra.shuffle import shuffle
from lorapipe.weights.filing.saving import saved_tensors
from lorapipe.weights.inference.ranks import Ranks
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec, Spelling
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import LowRank
from tests.weights.samples import NAMES, Matrix, error, loaded, sum_of

Shared = Callable[[str], Path]


def lora(tensors: dict[str, torch.Tensor]) -> Adapter:
    """A kohya file as an adapter, its names verbatim."""
    modules: dict[ModuleId, Delta] = {}
    for name, up in tensors.items():
        if name.endswith(".lora_up.weight"):
            of = name.removesuffix(".lora_up.weight")
            down = tensors[f"{of}.lora_down.weight"]
            rank = down.shape[0]
            alpha = tensors.get(f"{of}.alpha", torch.tensor(float(rank)))
            factors = LowRank(up.reshape(-1, rank), down.reshape(rank, -1))
            shape = (up.shape[0], *down.shape[1:])
            modules[ModuleId("", of)] = Delta(shape, (Term(float(alpha) / rank, factors),))
    specs = {m: ModuleSpec(d.shape, d.rank, Spelling(m.key)) for m, d in modules.items()}
    dtypes = {NAMES[d.terms[0].structure.load().up.dtype] for d in modules.values()}
    return Adapter(AdapterSpec(None, specs, dtypes.pop() if len(dtypes) == 1 else "F32"), modules)


def files(shared: Shared, folder: str, *names: str) -> list[dict[str, torch.Tensor]]:
    return [load_file(shared(f"golden/{folder}/{name}.safetensors")) for name in names]


def of_file(value: Adapter, dtype: str = "F32") -> dict[str, Matrix]:
    return loaded({t.name: t.make().tensor for t in saved_tensors(value, dtype)})


def strengths(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, float]]:
    """Rank and alpha of each module of a file."""
    found = {}
    for name, down in tensors.items():
        if name.endswith(".lora_down.weight"):
            of = name.removesuffix(".lora_down.weight")
            found[of] = (down.shape[0], float(tensors.get(f"{of}.alpha", torch.tensor(float(down.shape[0])))))
    return found


@pytest.mark.parametrize(
    ("folder", "ratios"), [("concat_sd15", (1.0, -1.0)), ("concat_ratio_shuffle_sd15", (0.5, -2.0))]
)
def test_peers_concat_is_our_sum_with_ratios_squared_and_ranks_forgotten(
    shared: Shared, folder: str, ratios: tuple[float, float]
) -> None:
    """Each input's delta comes out times |ratio_i| * rank_i / R_total."""
    a, b, peer = files(shared, folder, "a", "b", "expected")
    parts = [loaded(a), loaded(b)]
    ranks = [strengths(a), strengths(b)]
    ours = of_file(concat([(n, w, lora(f)) for n, w, f in zip("ab", ratios, (a, b), strict=True)]))
    theirs = loaded(peer)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        held = [
            (w, part[name], rank[name][0])
            for w, part, rank in zip(ratios, parts, ranks, strict=True)
            if name in part
        ]
        total = sum(rank for _, _, rank in held)
        assert error(ours[name], [(w, matrix) for w, matrix, _ in held]) < 1e-6
        assert error(theirs[name], [(w * abs(w) * rank / total, matrix) for w, matrix, rank in held]) < 1e-6


def test_our_shuffle_of_the_peers_inputs_is_the_true_sum(shared: Shared) -> None:
    a, b = files(shared, "concat_ratio_shuffle_sd15", "a", "b")
    both = concat([("a", 0.5, lora(a)), ("b", -2.0, lora(b))])
    parts = [(0.5, loaded(a)), (-2.0, loaded(b))]
    for mode in ("rotate", "permute"):
        for name, matrix in of_file(shuffle(both, 0, mode)).items():
            assert error(matrix, [(w, part[name]) for w, part in parts if name in part]) < 1e-6


@pytest.mark.parametrize(
    ("folder", "ratios"),
    [("merge_sd15", {"a": 0.6, "b": 0.8}), ("merge_three_noalpha_sd15", {"a": -0.7, "b": 1.0, "c": 0.5})],
)
def test_peers_merge_adds_factors_where_we_add_deltas(
    shared: Shared, folder: str, ratios: dict[str, float]
) -> None:
    """``(sum |s_i| U_i)(sum s_i D_i)``, s_i = sqrt(alpha_i / alpha_0) * ratio_i: cross terms."""
    inputs = dict(zip(ratios, files(shared, folder, *ratios), strict=True))
    (peer,) = files(shared, folder, "expected")
    theirs = loaded(peer)
    ours = of_file(concat([(n, w, lora(inputs[n])) for n, w in ratios.items()]))
    worst = 0.0
    for name in theirs:
        held = [(w, inputs[n]) for n, w in ratios.items() if f"{name}.lora_up.weight" in inputs[n]]
        alphas = [strengths(f)[name] for _, f in held]
        s = [np.sqrt(alpha / alphas[0][1]) * w for (w, _), (_, alpha) in zip(held, alphas, strict=True)]
        up = sum_of(
            (abs(si), f[f"{name}.lora_up.weight"].double().flatten(1).numpy())
            for si, (_, f) in zip(s, held, strict=True)
        )
        down = sum_of(
            (si, f[f"{name}.lora_down.weight"].double().flatten(1).numpy())
            for si, (_, f) in zip(s, held, strict=True)
        )
        rank, alpha = alphas[0]
        terms = [(w, loaded(f)[name]) for w, f in held]
        assert np.linalg.norm(theirs[name] - alpha / rank * up @ down) < 1e-5 * np.linalg.norm(theirs[name])
        assert error(ours[name], terms) < 1e-6
        worst = max(worst, error(theirs[name], terms))
    assert worst > 0.5


def test_resize_to_a_fixed_rank_is_the_peers_delta(shared: Shared) -> None:
    """Without clamp and offset the peer's truncation is the optimum too (conv-rank: all 4-D)."""
    a, peer = files(shared, "resize_fixed_sd15", "a", "expected")
    ours = of_file(resize(lora(a), Ranks(4, conv=3, conv1x1=3)).adapter)
    theirs = loaded(peer)
    assert ours.keys() == theirs.keys()
    for name, matrix in theirs.items():
        np.testing.assert_allclose(ours[name], matrix, atol=1e-5 * np.abs(matrix).max())


@pytest.mark.parametrize(
    "folder", ["resize_sv_ratio_sd15", "resize_sv_cumulative_sd15", "resize_sv_fro_sd15"]
)
def test_at_the_peers_own_rank_our_truncation_is_at_least_as_good(shared: Shared, folder: str) -> None:
    a, peer = files(shared, folder, "a", "expected")
    value, source, theirs = lora(a), loaded(a), loaded(peer)
    for name, (rank, _) in strengths(peer).items():
        module = ModuleId("", name)
        alone = Adapter(
            AdapterSpec(None, {module: value.spec.modules[module]}, "F32"), {module: value.modules[module]}
        )
        ours = of_file(resize(alone, Ranks(rank)).adapter)[name]
        assert (
            error(ours, [(1.0, source[name])]) <= 1.0001 * error(theirs[name], [(1.0, source[name])]) + 1e-7
        )


def test_our_resized_sum_is_no_worse_than_the_peers_clamped_one(shared: Shared) -> None:
    a, b, peer = files(shared, "svd_merge_sd15", "a", "b", "expected")
    both = concat([("a", 0.8, lora(a)), ("b", 0.6, lora(b))])
    ours, theirs = of_file(resize(both, Ranks(4, conv=2)).adapter), loaded(peer)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        terms = [(w, loaded(f)[name]) for w, f in ((0.8, a), (0.6, b)) if f"{name}.lora_up.weight" in f]
        assert error(ours[name], terms) <= error(theirs[name], terms) + 1e-7
