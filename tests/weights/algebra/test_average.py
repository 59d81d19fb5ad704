"""Averages of factors, against sums made apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError, RecipeError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.average import average
from lorapipe.weights.algebra.combine import concat, scale
from lorapipe.weights.inference.averaging import average_spec
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.structure import LowRank

from ..samples import LINEAR, SHAPES, adapter, adapter_of, dense, sum_of, to_numpy

WEIGHTS = (0.2, 0.3, 0.5)


def run(count: int = 3, *, dtype: torch.dtype = torch.float32, s: float = 0.25) -> list[Adapter]:
    return [adapter(4, s, seed=10 * number, dtype=dtype) for number in range(count)]


def terms(values: list[Adapter]) -> list[tuple[str, float, Adapter]]:
    return [(f"s{n}", w, value) for n, (w, value) in enumerate(zip(WEIGHTS, values, strict=True))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_factors_are_the_weighted_sums(dtype: torch.dtype) -> None:
    values = run(dtype=dtype)
    found = average(terms(values))
    for module in SHAPES:
        loaded = [value.modules[module].terms[0].structure.load() for value in values]
        up = sum_of(zip(WEIGHTS, (to_numpy(f.up) for f in loaded), strict=True))
        down = sum_of(zip(WEIGHTS, (to_numpy(f.down) for f in loaded), strict=True))
        delta = found.delta(module)
        np.testing.assert_allclose(dense(delta), 0.25 * up @ down, rtol=1e-12, atol=1e-12)
        assert delta.rank == 4
    found.check(average_spec([(name, value.spec) for name, _, value in terms(values)]))


def test_it_differs_from_the_average_of_deltas_by_the_covariance_of_the_factors() -> None:
    values = run()
    factors, deltas = average(terms(values)), concat(terms(values))
    for module in SHAPES:
        loaded = [value.delta(module).terms[0].structure.load() for value in values]
        ups, downs = ([to_numpy(getattr(f, side)) for f in loaded] for side in ("up", "down"))
        up, down = sum_of(zip(WEIGHTS, ups, strict=True)), sum_of(zip(WEIGHTS, downs, strict=True))
        covariance = sum_of((w, (u - up) @ (d - down)) for w, u, d in zip(WEIGHTS, ups, downs, strict=True))
        apart = dense(deltas.delta(module)) - dense(factors.delta(module))
        np.testing.assert_allclose(apart, 0.25 * covariance, atol=1e-12)


def test_equal_checkpoints_average_to_themselves() -> None:
    value = adapter(4, 0.25)
    found = average([("a", 0.25, value), ("b", 0.25, value), ("c", 0.5, value)])
    for module in SHAPES:
        np.testing.assert_allclose(dense(found.delta(module)), dense(value.delta(module)), rtol=1e-13)


def test_nothing_is_read_before_it_is_used() -> None:
    reads: list[int] = []

    def lazily(value: Adapter) -> Adapter:
        def held(delta: Delta) -> Delta:
            (term,) = delta.terms
            inner = term.structure.load()

            def read() -> LowRank:
                reads.append(1)
                return inner

            return Delta(delta.shape, (Term(term.coefficient, Lazy(inner.shape, inner.rank, read)),))

        modules = {module: held(value.delta(module)) for module in value.modules}
        return Adapter(value.spec, modules, value.extras)

    found = average(terms([lazily(value) for value in run()]))
    assert reads == []
    found.delta(LINEAR).stacked(torch.float64)
    assert len(reads) == 3


def test_compute_decides_the_type() -> None:
    for compute, dtype in (("float64", torch.float64), ("float32", torch.float32)):
        loaded = average(terms(run()), compute=compute).delta(LINEAR).terms[0].structure.load()
        assert loaded.up.dtype == loaded.down.dtype == dtype


def test_another_alpha_in_one_of_them_is_an_error() -> None:
    values = [*run(2), adapter(4, 0.5, seed=20)]
    with pytest.raises(BuildError) as caught:
        average(terms(values))
    assert caught.value.code == "strengths-differ"
    assert caught.value.module == str(LINEAR)
    assert "'s2' has another alpha or another strength here than 's0'" in str(caught.value)
    with pytest.raises(BuildError):
        average(terms([*run(2), scale(adapter(4, 0.25, seed=20), -1.0)]))


def test_sums_of_one_shape_are_averaged_term_by_term() -> None:
    pairs = [(adapter(2, seed=n), adapter(3, seed=n + 50)) for n in range(3)]
    sums = [concat([("x", 0.5, a), ("y", -2.0, b)]) for a, b in pairs]
    found = average(terms(sums))
    first = average(terms([a for a, _ in pairs]))
    second = average(terms([b for _, b in pairs]))
    for module in SHAPES:
        wanted = 0.5 * dense(first.delta(module)) - 2.0 * dense(second.delta(module))
        np.testing.assert_allclose(dense(found.delta(module)), wanted, atol=1e-12)


def test_other_runs_are_refused() -> None:
    with pytest.raises(RecipeError, match="rank"):
        average([("a", 0.5, adapter(4)), ("b", 0.5, adapter(5))])
    with pytest.raises(RecipeError, match="not of one training run"):
        average([("a", 0.5, adapter(4)), ("b", 0.5, adapter_of({LINEAR: adapter(4).delta(LINEAR)}))])
