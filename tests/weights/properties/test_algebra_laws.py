"""Scale and concat are the operations of a vector space, to float64's last digits."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import concat, scale
from lorapipe.weights.algebra.measure import norm
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.structures.delta import Delta
from tests.weights.samples import Matrix, dense, to_numpy

from .strategies import LAWS, adapters, deltas, weights


def matrices(value: Adapter) -> dict[ModuleId, Matrix]:
    return {module: dense(of_module) for module, of_module in value.modules.items()}


def same(first: Adapter, second: Adapter) -> None:
    a, b = matrices(first), matrices(second)
    assert a.keys() == b.keys()
    for module in a:
        size = max(float(np.abs(a[module]).max()), 1.0)
        np.testing.assert_allclose(a[module], b[module], rtol=0, atol=1e-12 * size)


@LAWS
@given(deltas(), weights)
def test_scaling_is_linear(value: Delta, by: float) -> None:
    np.testing.assert_allclose(dense(value.scaled(by)), by * dense(value), rtol=1e-9, atol=1e-12)


@LAWS
@given(deltas())
def test_dense_and_norm_agree_with_numpy(value: Delta) -> None:
    expected = dense(value)
    size = max(float(np.linalg.norm(expected)), 1.0)
    np.testing.assert_allclose(
        to_numpy(value.dense(value.terms[0].structure.up.double().dtype)), expected, atol=1e-12 * size
    )
    np.testing.assert_allclose(norm(value), np.linalg.norm(expected), atol=1e-12 * size)


@LAWS
@given(adapters(), adapters(), weights, weights)
def test_scale_then_concat_equals_weighted_concat(a: Adapter, b: Adapter, v: float, w: float) -> None:
    same(concat([("a", v, a), ("b", w, b)]), concat([("a", 1.0, scale(a, v)), ("b", 1.0, scale(b, w))]))


@LAWS
@given(adapters(), adapters(), adapters(), weights)
def test_concat_associates(a: Adapter, b: Adapter, c: Adapter, w: float) -> None:
    flat = concat([("a", 1.0, a), ("b", w, b), ("c", 1.0, c)])
    left = concat([("ab", 1.0, concat([("a", 1.0, a), ("b", w, b)])), ("c", 1.0, c)])
    right = concat([("a", 1.0, a), ("bc", 1.0, concat([("b", w, b), ("c", 1.0, c)]))])
    same(flat, left)
    same(flat, right)
    for module, of_module in flat.modules.items():
        for other in (left, right):
            found = [(t.coefficient, t.structure) for t in other.modules[module].terms]
            assert found == [(t.coefficient, t.structure) for t in of_module.terms]


@LAWS
@given(adapters(), adapters(), weights)
def test_concat_commutes_in_what_it_means(a: Adapter, b: Adapter, w: float) -> None:
    same(concat([("a", 1.0, a), ("b", w, b)]), concat([("b", w, b), ("a", 1.0, a)]))


@LAWS
@given(adapters(), weights)
def test_a_lora_less_itself_is_nothing(a: Adapter, w: float) -> None:
    for of_module in concat([("a", w, a), ("b", -w, a)]).modules.values():
        size = sum(norm(Delta(of_module.shape, (term,))) for term in of_module.terms)
        assert norm(of_module) <= 1e-14 * max(size, 1.0) * 10


@LAWS
@given(adapters(), adapters(), weights, weights)
def test_what_is_made_keeps_its_spec(a: Adapter, b: Adapter, v: float, w: float) -> None:
    joined = concat([("a", v, a), ("b", w, b)])
    joined.check(joined.spec)
    scaled = scale(joined, v)
    scaled.check(joined.spec)
