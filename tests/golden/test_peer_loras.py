"""kohya-ss/sd-scripts 48d368f on LoRA + LoRA: what it computes, and what lorapipe does instead.

The peer's strengths are wrong, so its outputs are not matched: each test states the
exact relation between its output and lorapipe's, on its own files.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lorapipe.build.run import Options, build
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench
from .numbers import deltas, factors, ranks, relative

Shared = Callable[[str], Path]


def build_steps(bench: Bench, shared: Shared, golden: str, steps: str) -> Path:
    """Run a recipe of these steps on copies of a golden's inputs; the last step saves out.safetensors."""
    for path in shared(f"golden/{golden}").glob("[abc].safetensors"):
        shutil.copy(path, bench.folder)
    built = build(load_recipe(bench.recipe(steps)), Options(workers=1))
    return built.outputs[-1].path


def loads(names: str) -> str:
    return "".join(f"{name}: {{load: {name}.safetensors}}\n" for name in names)


@pytest.mark.parametrize(
    ("golden", "ratios"),
    [
        ("concat_sd15", {"a": 1.0, "b": -1.0}),
        ("concat_ratio_shuffle_sd15", {"a": 0.5, "b": -2.0}),
    ],
)
def test_the_peers_concat_squares_ratios_and_divides_by_the_grown_rank(
    bench: Bench, shared: Shared, golden: str, ratios: Mapping[str, float]
) -> None:
    terms = ", ".join(f"{name}: {ratio}" for name, ratio in ratios.items())
    out = build_steps(
        bench,
        shared,
        golden,
        loads("ab") + f"s: {{concat: {{{terms}}}}}\no: {{save: s, to: out.safetensors, dtype: fp32}}",
    )

    peer, ours = deltas(shared(f"golden/{golden}/expected.safetensors")), deltas(out)
    files = {name: shared(f"golden/{golden}/{name}.safetensors") for name in ratios}
    given = {name: (deltas(path), ranks(path)) for name, path in files.items()}
    assert set(peer) == set(ours)
    for stem in ours:
        present = [name for name in ratios if stem in given[name][0]]
        exact = sum(ratios[name] * given[name][0][stem] for name in present)
        total = sum(given[name][1][stem] for name in present)
        squared = sum(
            ratios[name] * abs(ratios[name]) * given[name][1][stem] / total * given[name][0][stem]
            for name in present
        )
        assert relative(ours[stem], exact) < 1e-6
        assert relative(peer[stem], squared) < 1e-5


def test_the_peers_merge_adds_factors_lorapipe_adds_deltas(bench: Bench, shared: Shared) -> None:
    ratios = {"a": 0.6, "b": 0.8}
    out = build_steps(
        bench,
        shared,
        "merge_sd15",
        loads("ab") + "s: {concat: {a: 0.6, b: 0.8}}\no: {save: s, to: out.safetensors, dtype: fp32}",
    )

    given = {name: factors(shared(f"golden/merge_sd15/{name}.safetensors")) for name in ratios}
    peer, ours = deltas(shared("golden/merge_sd15/expected.safetensors")), deltas(out)
    assert set(peer) == set(ours)
    for stem in ours:
        present = [name for name in ratios if stem in given[name]]
        up, down, base = _factor_sum([given[name][stem] for name in present], [ratios[n] for n in present])
        exact = sum(
            ratios[n]
            * given[n][stem][2]
            / given[n][stem][1].shape[0]
            * (given[n][stem][0] @ given[n][stem][1])
            for n in present
        )
        assert relative(ours[stem], exact) < 1e-6
        assert relative(peer[stem], base / down.shape[0] * (up @ down)) < 1e-5
        assert relative(peer[stem], exact) > 0.1


@pytest.mark.parametrize(
    ("golden", "ratios"),
    [
        ("merge_sd15", {"a": 0.6, "b": 0.8}),
        ("merge_three_noalpha_sd15", {"a": -0.7, "b": 1.0, "c": 0.5}),
    ],
)
def test_the_peers_merge_is_made_again_by_adding_factors(
    bench: Bench, shared: Shared, golden: str, ratios: Mapping[str, float]
) -> None:
    """A ratio r of the peer's is a weight of r * |r|."""
    weights = ", ".join(f"{name}: {ratio * abs(ratio)}" for name, ratio in ratios.items())
    out = build_steps(
        bench,
        shared,
        golden,
        loads("".join(ratios))
        + f"s: {{combine: {{{weights}}}, method: linear-factors}}\n"
        + "o: {save: s, to: out.safetensors, dtype: fp32}",
    )

    peer, ours = deltas(shared(f"golden/{golden}/expected.safetensors")), deltas(out)
    assert set(peer) == set(ours)
    for stem in ours:
        assert relative(ours[stem], peer[stem]) < 1e-6


def _factor_sum(
    terms: list[tuple[np.ndarray, np.ndarray, float]], ratios: list[float]
) -> tuple[np.ndarray, np.ndarray, float]:
    """sum |s| up and sum s down with s = sqrt(alpha / alpha_0) * ratio, and alpha_0."""
    base = terms[0][2]
    scales = [np.sqrt(alpha / base) * ratio for (_, _, alpha), ratio in zip(terms, ratios, strict=True)]
    up = sum(abs(s) * u for s, (u, _, _) in zip(scales, terms, strict=True))
    down = sum(s * d for s, (_, d, _) in zip(scales, terms, strict=True))
    return up, down, base


def test_a_module_that_one_file_has_comes_out_at_its_ratio_not_its_square(
    bench: Bench, shared: Shared
) -> None:
    out = build_steps(
        bench,
        shared,
        "merge_sd15",
        loads("ab") + "s: {concat: {a: 0.6, b: 0.8}}\no: {save: s, to: out.safetensors, dtype: fp32}",
    )

    ratios = {"a": 0.6, "b": 0.8}
    given = {name: deltas(shared(f"golden/merge_sd15/{name}.safetensors")) for name in ratios}
    peer, ours = deltas(shared("golden/merge_sd15/expected.safetensors")), deltas(out)
    alone = {stem: "a" if stem in given["a"] else "b" for stem in given["a"].keys() ^ given["b"].keys()}
    assert set(alone.values()) == {"a", "b"}
    for stem, name in alone.items():
        assert relative(ours[stem], ratios[name] * given[name][stem]) < 1e-6
        assert relative(peer[stem], ratios[name] ** 2 * given[name][stem]) < 1e-5


def test_a_fixed_resize_is_the_peers_where_the_peer_is_exact(bench: Bench, shared: Shared) -> None:
    # The peer's conv rank means every 4-D module, 1x1 kernels included.
    out = build_steps(
        bench,
        shared,
        "resize_fixed_sd15",
        loads("a")
        + "s: {svd-resize: a, rank: 4, conv-rank: 3, conv1x1-rank: 3}\n"
        + "o: {save: s, to: out.safetensors, dtype: fp32}",
    )

    peer, ours = deltas(shared("golden/resize_fixed_sd15/expected.safetensors")), deltas(out)
    assert ranks(out) == ranks(shared("golden/resize_fixed_sd15/expected.safetensors"))
    for stem in ours:
        assert relative(ours[stem], peer[stem]) < 1e-5


def test_an_svd_merge_is_never_further_from_the_true_sum_than_the_peers(bench: Bench, shared: Shared) -> None:
    # The peer clamps both factors at a quantile; lorapipe does not.
    out = build_steps(
        bench,
        shared,
        "svd_merge_sd15",
        loads("ab")
        + "s: {concat: {a: 0.8, b: 0.6}}\nr: {svd-resize: s, rank: 4, conv-rank: 2}\n"
        + "o: {save: r, to: out.safetensors, dtype: fp32}",
    )

    folder = "golden/svd_merge_sd15"
    ratios = {"a": 0.8, "b": 0.6}
    given = {name: deltas(shared(f"{folder}/{name}.safetensors")) for name in ratios}
    peer, ours = deltas(shared(f"{folder}/expected.safetensors")), deltas(out)
    assert ranks(out) == ranks(shared(f"{folder}/expected.safetensors"))
    for stem in ours:
        exact = sum(ratios[n] * given[n][stem] for n in ratios if stem in given[n])
        best = np.linalg.svd(exact, compute_uv=False)[ranks(out)[stem] :]
        error = np.linalg.norm(ours[stem] - exact)
        assert error <= np.linalg.norm(peer[stem] - exact)
        assert error <= 1.0001 * np.linalg.norm(best) + 1e-6 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("golden", "options", "conv", "rule", "value"),
    [
        ("resize_sv_ratio_sd15", "{sv-ratio: 6.0}", 8, "ratio", 6.0),
        ("resize_sv_cumulative_sd15", "{sv-cumulative: 0.7}", 5, "sum", 0.7),
        ("resize_sv_fro_sd15", "{sv-fro: 0.9}", 8, "squares", 0.9),
    ],
)
def test_the_peers_dynamic_rank_is_ours_and_one_more(
    bench: Bench, shared: Shared, golden: str, options: str, conv: int, rule: str, value: float
) -> None:
    asked = f"rank: 8, conv-rank: {conv}, conv1x1-rank: {conv}, dynamic: {options}"
    out = build_steps(
        bench,
        shared,
        golden,
        loads("a") + f"s: {{svd-resize: a, {asked}}}\no: {{save: s, to: out.safetensors, dtype: fp32}}",
    )

    given = deltas(shared(f"golden/{golden}/a.safetensors"))
    peer, ours, found = ranks(shared(f"golden/{golden}/expected.safetensors")), ranks(out), deltas(out)
    assert set(ours) == set(given)
    wide = {stem for stem, down in _downs(shared(f"golden/{golden}/a.safetensors")).items() if down == 4}
    for stem, exact in given.items():
        s = np.linalg.svd(exact, compute_uv=False)
        by_rule = _by_rule(s, rule, value)
        cap = min(conv if stem in wide else 8, 12, len(s))
        assert ours[stem] == min(by_rule, cap)
        assert peer[stem] == min(min(by_rule, len(s) - 1) + 1, cap)
        best = np.linalg.norm(s[ours[stem] :])
        assert np.linalg.norm(found[stem] - exact) <= 1.0001 * best + 1e-6 * np.linalg.norm(exact)


def _by_rule(s: np.ndarray, rule: str, value: float) -> int:
    """The rules by search, as the goldens' READMEs state them."""
    if rule == "ratio":
        return int((s > s[0] / value).sum())
    weights, due = (s, value) if rule == "sum" else (s**2, value**2)
    return next(n for n in range(1, len(s) + 1) if weights[:n].sum() >= due * weights.sum())


def _downs(path: Path) -> dict[str, int]:
    """How many axes each module's down has."""
    suffix = ".lora_down.weight"
    return {n.removesuffix(suffix): t.ndim for n, t in load_file(path).items() if n.endswith(suffix)}


# --- block weights --------------------------------------------------------------------------

_LISTS = {
    "a": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
    "b": [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2],
}
_SLOTS = [0, 2, 3, 5, 6, 8, 9, 13, *range(17, 26)]
"""The enabled ones of 26 in a list of 17: text encoder, 12 down, middle, 12 up."""


def _slot(stem: str) -> int:
    """A module's slot as the golden's README counts it."""
    if stem.startswith("lora_te"):
        return 0
    if "mid_block" in stem:
        return 13
    found = re.search(r"(down|up)_blocks_(\d+)_([a-z]+)_(\d+)", stem)
    assert found is not None
    i, j = int(found[2]), int(found[4])
    if found[1] == "down":
        return 1 + 3 * (i + 1) if found[3] == "downsamplers" else 2 + 3 * i + j
    return 14 + 3 * i + (2 if found[3] == "upsamplers" else j)


def test_a_block_weighted_sum_is_exact_and_a_merge_never_further_from_it_than_the_peers(
    bench: Bench, shared: Shared
) -> None:
    golden, ratios = "svd_merge_lbw_sd15", {"a": 1.0, "b": 0.5}
    scales = "".join(
        f"w{name}: {{scale: {name}, by: {ratio}, blocks: {{list: {_LISTS[name]}, default: 1}}}}\n"
        for name, ratio in ratios.items()
    )
    steps = loads("ab") + scales + "s: {concat: [wa, wb]}\n"
    save = "{save: %s, to: %s.safetensors, dtype: fp32}\n"
    whole = build_steps(bench, shared, golden, steps + "o: " + save % ("s", "whole"))
    small = build_steps(
        bench, shared, golden, steps + "r: {svd-resize: s, rank: 8}\n" + "o: " + save % ("r", "small")
    )

    given = {name: deltas(shared(f"golden/{golden}/{name}.safetensors")) for name in ratios}
    peer = deltas(shared(f"golden/{golden}/expected.safetensors"))
    summed, cut = deltas(whole), deltas(small)
    assert set(summed) == set(cut) == set(peer)
    assert ranks(small) == ranks(shared(f"golden/{golden}/expected.safetensors"))
    slots = {stem: _slot(stem) for stem in summed}
    assert len(set(slots.values())) > 5
    for stem, slot in slots.items():
        weights = {n: _LISTS[n][_SLOTS.index(slot)] if slot in _SLOTS else 1.0 for n in ratios}
        exact = sum(ratios[n] * weights[n] * given[n][stem] for n in ratios if stem in given[n])
        assert relative(summed[stem], exact) < 1e-6
        error = np.linalg.norm(cut[stem] - exact)
        assert error <= np.linalg.norm(peer[stem] - exact)
        best = np.linalg.norm(np.linalg.svd(exact, compute_uv=False)[8:])
        assert error <= 1.0001 * best + 1e-6 * np.linalg.norm(exact)


# --- DyLoRA ---------------------------------------------------------------------------------


@pytest.mark.parametrize("components", [2, 4, 6])
def test_a_dylora_slice_is_the_peers_tensor_for_tensor(bench: Bench, shared: Shared, components: int) -> None:
    out = build_steps(
        bench,
        shared,
        "dylora_sd15",
        f"a: {{load: a.safetensors}}\ns: {{dylora-slice: a, components: {components}}}\n"
        "o: {save: s, to: out.safetensors}",
    )

    ours, expected = load_file(out), shared(f"golden/dylora_sd15/expected-{components:04}.safetensors")
    peer = load_file(expected)
    assert ours.keys() == peer.keys()
    for name, tensor in peer.items():
        assert ours[name].dtype == tensor.dtype
        if name.endswith(".alpha"):
            assert float(ours[name]) == float(tensor)
        else:
            assert torch.equal(ours[name], tensor)
    with safe_open(out, "pt") as file, safe_open(expected, "pt") as other:
        assert file.metadata()["ss_network_dim"] == other.metadata()["ss_network_dim"] == str(components)
        alphas = [float(one.metadata()["ss_network_alpha"]) for one in (file, other)]
        assert alphas == [4.0, 4.0]
