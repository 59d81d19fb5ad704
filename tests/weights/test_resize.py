"""svd-resize is the best approximation of its rank, and touches nothing that fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.delta import Delta, LowRank, Term
from lorapipe.weights.inference import Ranks
from lorapipe.weights.resize import resize

from .samples import CONV, LINEAR, POINT, SHAPES, TEXT, Matrix, adapter, adapter_of, delta, dense


def optimum(matrix: Matrix, rank: int) -> float:
    """The least Frobenius error of a rank: the norm of the singular values beyond it."""
    return float(np.linalg.norm(np.linalg.svd(matrix, compute_uv=False)[rank:]))


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_error_is_that_of_the_best_truncation(rank: int) -> None:
    value = adapter_of({m: delta(shape, (0.7, 3), (-0.4, 4)) for m, shape in SHAPES.items()})
    small = resize(value, Ranks(rank)).adapter
    for module in SHAPES:
        best = optimum(dense(value.modules[module]), rank)
        found = np.linalg.norm(dense(small.modules[module]) - dense(value.modules[module]))
        assert best > 0
        assert found <= 1.0001 * best


def test_ranks_go_by_kernel() -> None:
    value = adapter(rank=5)
    small = resize(value, Ranks(4, conv=2, conv1x1=3)).adapter
    assert {m: d.rank for m, d in small.modules.items()} == {LINEAR: 4, CONV: 2, POINT: 3, TEXT: 4}


def test_a_module_within_its_target_is_the_same_object() -> None:
    value = adapter(rank=4)
    resized = resize(value, Ranks(4, conv=2))
    assert resized.adapter.modules[LINEAR] is value.modules[LINEAR]
    assert resized.adapter.modules[CONV] is not value.modules[CONV]
    assert resized.energy[LINEAR] == 1.0


def test_a_rank_above_the_full_one_is_capped_without_loss() -> None:
    value = adapter_of({TEXT: delta((7, 11), (1.0, 20), (0.5, 20))})
    small = resize(value, Ranks(100))
    assert small.adapter.modules[TEXT].rank == 7
    np.testing.assert_allclose(dense(small.adapter.modules[TEXT]), dense(value.modules[TEXT]), atol=1e-12)
    assert small.energy[TEXT] == pytest.approx(1.0)


def test_energy_is_retained_energy() -> None:
    value = adapter_of({LINEAR: delta((12, 10), (1.0, 6))})
    matrix = dense(value.modules[LINEAR])
    kept = resize(value, Ranks(3)).energy[LINEAR]
    assert kept == pytest.approx(1 - optimum(matrix, 3) ** 2 / np.linalg.norm(matrix) ** 2, rel=1e-12)


def test_the_result_has_coefficient_one_and_the_compute_dtype() -> None:
    (term,) = resize(adapter(rank=4, s=0.3), Ranks(2)).adapter.modules[LINEAR].terms
    assert (term.coefficient, term.factors.up.dtype) == (1.0, torch.float64)
    (term,) = resize(adapter(rank=4, s=0.3), Ranks(2), compute="float32").adapter.modules[LINEAR].terms
    assert term.factors.up.dtype == torch.float32


def test_the_shape_of_the_kernel_stays() -> None:
    assert resize(adapter(rank=4), Ranks(2)).adapter.modules[CONV].shape == (9, 5, 3, 3)


def test_extras_pass() -> None:
    value = adapter(extras={"e": torch.ones(2)})
    assert resize(value, Ranks(2)).adapter.extras["e"] is value.extras["e"]


def test_errors_name_the_module() -> None:
    bad = Delta((4, 4), (Term(1.0, LowRank(torch.full((4, 3), float("nan")), torch.ones(3, 4))),))
    with pytest.raises(BuildError) as caught:
        resize(adapter_of({LINEAR: bad}), Ranks(2))
    assert str(caught.value) == "error: attn.to_q.weight: NaN or Inf in the factors"


def test_work_is_spread_by_the_callers_map() -> None:
    seen: list[object] = []

    def each(function, items):  # type: ignore[no-untyped-def]  # a Protocol with type variables of its own
        for item in items:
            seen.append(item)
            yield function(item)

    resize(adapter(), Ranks(2), each=each)
    assert seen == list(SHAPES)
