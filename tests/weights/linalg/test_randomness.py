"""The random bits are the same on every machine and in every version."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest
import torch

from lorapipe.weights.linalg.randomness import near_normal, permutation, raw_bits, rotation, uniform
from tests.weights.samples import to_numpy

MASK = (1 << 64) - 1


def philox(key: int, count: int) -> list[int]:
    """Philox 4x64 with 10 rounds, written out from the paper (numpy counts from 1)."""
    words: list[int] = []
    for counter in range(1, count // 4 + 2):
        k0, k1 = key & MASK, key >> 64
        c0, c1, c2, c3 = counter, 0, 0, 0
        for _ in range(10):
            p0, p1 = c0 * 0xD2E7470EE14C6C93, c2 * 0xCA5A826395121157
            c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & MASK, (p0 >> 64) ^ c3 ^ k1, p0 & MASK
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
        words += [c0, c1, c2, c3]
    return words[:count]


@pytest.mark.parametrize(("seed", "name"), [(0, "a.weight"), (7, "in_proj_weight[0:768]"), (-1, "é")])
def test_the_stream_is_that_of_the_paper(seed: int, name: str) -> None:
    key = int.from_bytes(sha256(f"{seed} {name}".encode()).digest()[:16], "little")
    assert [int(word) for word in raw_bits(seed, name, 10)] == philox(key, 10)


def test_seed_and_name_both_matter() -> None:
    streams = [raw_bits(s, n, 4).tolist() for s, n in [(0, "a"), (1, "a"), (0, "b"), (10, "a"), (1, "0 a")]]
    assert len({tuple(stream) for stream in streams}) == 5


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_a_rotation_is_orthogonal(size: int) -> None:
    q = to_numpy(rotation(3, "m", size))
    np.testing.assert_allclose(q @ q.T, np.eye(size), atol=1e-14)


def test_near_normal_numbers_are_sums_of_the_words_parts() -> None:
    words = philox(int.from_bytes(sha256(b"3 m").digest()[:16], "little"), 6)
    sums = [sum((w >> shift) & 0xFFFF for shift in (0, 16, 32, 48)) - 2 * 0xFFFF for w in words]
    np.testing.assert_array_equal(to_numpy(near_normal(3, "m", 2, 3)), np.array(sums, float).reshape(2, 3))
    many = to_numpy(near_normal(0, "m", 200, 200)) / (0xFFFF / np.sqrt(3))
    assert abs(many.mean()) < 0.02
    assert many.std() == pytest.approx(1.0, abs=0.02)
    assert np.abs(np.corrcoef(many[:5])[np.triu_indices(5, 1)]).max() < 0.3


def test_a_rotation_follows_from_integers() -> None:
    """The matrix before its QR, from the words alone, and the R that makes it unique."""
    words = np.array(philox(int.from_bytes(sha256(b"3 m").digest()[:16], "little"), 36), dtype=object)
    sums = [sum((int(w) >> shift) & 0xFFFF for shift in (0, 16, 32, 48)) - 2 * 0xFFFF for w in words]
    matrix = np.array(sums, dtype=np.float64).reshape(6, 6)
    upper = to_numpy(rotation(3, "m", 6)).T @ matrix
    np.testing.assert_allclose(np.tril(upper, -1), 0, atol=1e-9)
    assert (np.diag(upper) > 0).all()


def test_a_rotation_mixes_every_direction() -> None:
    q = to_numpy(rotation(0, "m", 64))
    assert np.abs(q).max() < 0.7
    assert abs(q.mean()) < 0.01


def test_a_permutation_has_every_index_once() -> None:
    order = permutation(0, "m", 50)
    assert sorted(order.tolist()) == list(range(50))
    assert order.tolist() != list(range(50))
    assert order.dtype == torch.int64


def test_uniform_numbers_are_the_upper_53_bits_of_the_words() -> None:
    found = to_numpy(uniform(7, "m", 1000))
    assert [int(number * 2**53) for number in found] == [int(word) >> 11 for word in raw_bits(7, "m", 1000)]
    assert found.dtype == np.float64
    assert found.min() >= 0.0
    assert found.max() < 1.0


def test_uniform_numbers_fill_their_range_evenly() -> None:
    """Of 20000 in ten parts: chi squared of 9 degrees is below 27.9 in 999 of 1000."""
    counts, _ = np.histogram(to_numpy(uniform(1, "m", 20000)), bins=10, range=(0, 1))
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9
