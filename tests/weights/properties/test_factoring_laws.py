"""Resize and shuffle change factors, never the delta by more than they say."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.weights.algebra.resize import resize
from lorapipe.weights.algebra.shuffle import shuffle
from lorapipe.weights.inference.ranks import Ranks
from lorapipe.weights.linalg.svd import compact_svd
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.structures.delta import Delta
from tests.weights.samples import Matrix, adapter_of, dense, saved_module, to_numpy

from .strategies import LAWS, deltas, seeds

MODULE = ModuleId("unet", "block.weight")


def size(value: Delta) -> float:
    """The norms of the terms, added: what rounding is relative to."""
    return sum(float(np.linalg.norm(dense(Delta(value.shape, (term,))))) for term in value.terms)


def close(found: Matrix, value: Delta, tolerance: float) -> None:
    assert np.linalg.norm(found - dense(value)) <= tolerance * size(value)


@LAWS
@given(deltas())
def test_resize_at_full_rank_keeps_the_delta(value: Delta) -> None:
    close(dense(resize(adapter_of({MODULE: value}), Ranks(1000)).adapter.modules[MODULE]), value, 1e-13)


@LAWS
@given(deltas(), st.integers(1, 6))
def test_resize_is_within_1_0001_of_the_optimal_error(value: Delta, rank: int) -> None:
    resized = resize(adapter_of({MODULE: value}), Ranks(rank))
    best = float(np.linalg.norm(np.linalg.svd(dense(value), compute_uv=False)[rank:]))
    found = float(np.linalg.norm(dense(resized.adapter.modules[MODULE]) - dense(value)))
    assert found <= 1.0001 * best + 1e-13 * size(value)
    kept = 1 - (best / max(float(np.linalg.norm(dense(value))), 1e-300)) ** 2
    assert abs(resized.energy[MODULE] - kept) < 1e-9


@LAWS
@given(deltas(), st.integers(1, 6), st.integers(1, 6))
def test_resizing_twice_is_resizing_to_the_lower_rank(value: Delta, first: int, second: int) -> None:
    lower = min(first, second)
    s = compact_svd(value).s
    gap = len(s) <= lower or float(s[lower - 1] - s[lower]) > 1e-6 * float(s[0])
    once = resize(adapter_of({MODULE: value}), Ranks(lower)).adapter
    twice = resize(resize(adapter_of({MODULE: value}), Ranks(first)).adapter, Ranks(second)).adapter
    if gap:  # equal singular values have no order
        difference = dense(once.modules[MODULE]) - dense(twice.modules[MODULE])
        assert np.linalg.norm(difference) <= 1e-6 * size(value)


@LAWS
@given(deltas(), seeds, st.sampled_from(["rotate", "permute"]))
def test_shuffle_keeps_the_delta(value: Delta, seed: int, mode: str) -> None:
    shuffled = shuffle(adapter_of({MODULE: value}), seed, mode)
    close(dense(shuffled.modules[MODULE]), value, 1e-13)
    shuffled.check(shuffled.spec)


@LAWS
@given(deltas(), st.booleans())
def test_a_saved_module_is_its_delta(value: Delta, transpose: bool) -> None:
    transposed = transpose and value.shape[2:] in {(), (1, 1)}  # only matrices have a transpose
    saved = saved_module(value, "F32", transposed=transposed)
    rank = saved.down.shape[0]
    found = saved.alpha / rank * to_numpy(saved.up).reshape(-1, rank) @ to_numpy(saved.down).reshape(rank, -1)
    close(found.T if transposed else found, value, 1e-6)
