"""svd-resize is the best approximation of its rank, and touches nothing that fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lorapipe.errors import BuildError, RecipeError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.resize import resize
from lorapipe.weights.inference.ranks import Dynamic, Ranks, fitted, least_size
from lorapipe.weights.inference.steps import resize_spec
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.structure import Loaded, LowRank
from tests.weights.samples import (
    CONV,
    LINEAR,
    POINT,
    SHAPES,
    TEXT,
    Away,
    Matrix,
    adapter,
    adapter_of,
    delta,
    dense,
)
from tests.weights.sorts import SORTS, full, loha, lokr, plain, summed


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
    assert (term.coefficient, term.structure.up.dtype) == (1.0, torch.float64)
    (term,) = resize(adapter(rank=4, s=0.3), Ranks(2), compute="float32").adapter.modules[LINEAR].terms
    assert term.structure.up.dtype == torch.float32


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


def spectrum(matrix: Matrix) -> list[float]:
    found: list[float] = np.linalg.svd(matrix, compute_uv=False).tolist()
    return found


@pytest.mark.parametrize(
    "rule",
    [("sv-ratio", 1.5), ("sv-cumulative", 0.7), ("sv-fro", 0.9), ("threshold", 6.0), ("quantile", 0.7)],
)
def test_a_rule_gives_each_module_the_rank_that_its_dense_values_give(rule: tuple[str, float]) -> None:
    value = adapter_of({m: delta(shape, (0.7, 3), (-0.4, 4)) for m, shape in SHAPES.items()})
    small = resize(value, Ranks(6, conv=3, dynamic=Dynamic(*rule))).adapter
    found = {m: d.rank for m, d in small.modules.items()}
    for module in SHAPES:
        values = spectrum(dense(value.modules[module]))[: min(7, *dense(value.modules[module]).shape)]
        by_rule = Dynamic(*rule).rank(values)
        assert found[module] == min(by_rule, 3 if module == CONV else 6)
        error = np.linalg.norm(dense(small.modules[module]) - dense(value.modules[module]))
        assert error <= 1.0001 * optimum(dense(value.modules[module]), found[module])
    assert len(set(found.values())) > 1
    assert not small.spec.bounded
    assert {m: known.rank for m, known in small.spec.modules.items()} == found


def test_a_module_of_which_a_rule_drops_nothing_is_the_same_object() -> None:
    value = adapter(rank=4)
    kept = resize(value, Ranks(4, dynamic=Dynamic("sv-fro", 1.0)))
    assert all(kept.adapter.modules[m] is value.modules[m] for m in SHAPES)
    assert set(kept.energy.values()) == {1.0}


def test_a_rule_drops_what_is_not_there() -> None:
    once = LowRank(torch.eye(6, 2), torch.eye(2, 5))
    value = adapter_of({LINEAR: Delta((6, 5), (Term(1.0, once), Term(2.0, once)))})
    assert resize(value, Ranks(4, dynamic=Dynamic("sv-fro", 1.0))).adapter.modules[LINEAR].rank == 2


def test_a_delta_of_zero_keeps_one_component_and_all_of_its_energy() -> None:
    zero = Delta((6, 5), (Term(1.0, LowRank(torch.zeros(6, 3), torch.ones(3, 5))),))
    for ranks in (Ranks(3, dynamic=Dynamic("sv-ratio", 9)), Ranks(3, max_size=10_000)):
        resized = resize(adapter_of({LINEAR: zero, TEXT: delta((7, 11), (1.0, 3))}), ranks)
        assert resized.adapter.modules[LINEAR].rank == 1
        assert resized.energy[LINEAR] == 1.0


@pytest.mark.parametrize(
    "ranks", [Ranks(2), Ranks(3, dynamic=Dynamic("sv-fro", 0.9)), Ranks(3, max_size=10**4)]
)
def test_loras_that_cancel_leave_nothing_to_resize(ranks: Ranks) -> None:
    once = delta((12, 10), (1.0, 3)), delta((7, 11), (1.0, 3))
    value = {m: one.joined(one.scaled(-1.0)) for m, one in zip((LINEAR, TEXT), once, strict=True)}
    with pytest.raises(BuildError, match="all of its deltas are 0") as caught:
        resize(adapter_of(value), ranks)
    assert caught.value.code == "nothing-left"


def test_a_size_is_shared_out_by_the_dense_values() -> None:
    value = adapter_of({m: delta(shape, (0.7, 3), (-0.4, 4)) for m, shape in SHAPES.items()})
    size = least_size(value.spec) + 700
    small = resize(value, Ranks(5, max_size=size))
    values = {m: spectrum(dense(value.modules[m]))[:5] for m in SHAPES}
    found = {m: d.rank for m, d in small.adapter.modules.items()}
    assert found == fitted(value.spec, size, values)
    assert len(set(found.values())) > 1
    for module in SHAPES:
        best, norm = optimum(dense(value.modules[module]), found[module]), np.linalg.norm(values[module])
        error = np.linalg.norm(dense(small.adapter.modules[module]) - dense(value.modules[module]))
        assert error <= 1.0001 * best
        assert norm > 0
        total = sum(s * s for s in spectrum(dense(value.modules[module])))
        assert small.energy[module] == pytest.approx(1 - best**2 / total, rel=1e-9)


def test_in_a_size_with_room_for_all_every_module_is_the_same_object() -> None:
    value = adapter(rank=4)
    kept = resize(value, Ranks(4, max_size=1 << 20)).adapter
    assert all(kept.modules[m] is value.modules[m] for m in SHAPES)


def test_a_rule_and_a_size_hold_together() -> None:
    value = adapter(rank=6)
    ranks = Ranks(5, dynamic=Dynamic("sv-fro", 0.8), max_size=1 << 20)
    by_rule = resize(value, Ranks(5, dynamic=Dynamic("sv-fro", 0.8))).adapter
    assert resize(value, ranks).adapter.spec == by_rule.spec


def test_a_size_without_room_for_rank_one_is_refused_before_any_work() -> None:
    value = adapter(rank=4)
    least = least_size(value.spec)
    assert {m.rank for m in resize(value, Ranks(4, max_size=least)).adapter.spec.modules.values()} == {1}
    with pytest.raises(RecipeError) as caught:
        resize(value, Ranks(4, max_size=least - 1))
    assert (caught.value.code, caught.value.option) == ("max-size-too-small", "max-size")
    assert str(least) in str(caught.value)


class Shapes(TorchDispatchMode):
    """Notes the number of elements of every tensor that torch makes."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # torch's own
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor):
                self.largest = max(self.largest, one.numel())
        return made


@pytest.mark.parametrize(
    "ranks",
    [Ranks(3), Ranks(7, dynamic=Dynamic("sv-fro", 0.8)), Ranks(7, max_size=9_000)],
    ids=["rank", "rule", "size"],
)
@pytest.mark.parametrize("condition", [1.0, 1e9], ids=["gram", "reflections"])
def test_no_delta_is_ever_formed(ranks: Ranks, condition: float) -> None:
    value = adapter_of({LINEAR: delta((90, 80), (1.0, 4), (0.5, 4)), CONV: delta((64, 20, 3, 3), (1.0, 8))})
    for known in value.modules.values():
        known.terms[0].structure.load().up[:, 0] /= condition
        known.terms[0].structure.load().up[:, 1] += known.terms[0].structure.load().up[:, 2] * condition
    with Shapes() as seen:
        resize(value, ranks)
    # The largest thing is a whole factor: its down, [8, 180]. A delta has 90 x 80 or 64 x 180.
    assert seen.largest == 8 * 180


@pytest.mark.parametrize(
    "ranks", [Ranks(2), Ranks(3, dynamic=Dynamic("sv-fro", 0.8)), Ranks(4, max_size=3200)], ids=str
)
def test_factors_put_away_are_the_same_when_they_are_read_again(ranks: Ranks) -> None:
    value, away = adapter(rank=6), Away()
    kept, apart = resize(value, ranks).adapter, resize(value, ranks, put_away=away).adapter
    assert len(away.kept) == len(SHAPES)
    assert apart.spec == kept.spec
    apart.check(kept.spec)
    for module in SHAPES:
        assert np.array_equal(dense(apart.delta(module)), dense(kept.delta(module)))


# --- structures that are not two factors ------------------------------------------------


def of(*deltas: Delta) -> Adapter:
    """A LoRA with these deltas on modules of their own; a bias among them is named so."""
    modules = {
        ModuleId("unet", f"m{i}.{'weight' if d.columns > 1 else 'bias'}"): d for i, d in enumerate(deltas)
    }
    specs = {
        m: ModuleSpec(d.shape, d.rank, Spelling(f"m{i}"), None if d.plain else Form("a format"))
        for i, (m, d) in enumerate(modules.items())
    }
    return Adapter(AdapterSpec("sd1", specs, "F32"), modules)


@pytest.mark.parametrize("sort", [sort for sort in SORTS if sort != "bias"])
@pytest.mark.parametrize("rank", [1, 3, 99])
def test_every_structure_becomes_the_nearest_lora_of_its_rank(sort: str, rank: int) -> None:
    sample = SORTS[sort](11, torch.float32)
    resized = resize(of(sample.delta(-0.5)), Ranks(rank))
    ((module, value),) = resized.adapter.modules.items()
    resized.adapter.check(resize_spec(of(sample.delta(-0.5)).spec, Ranks(rank)))
    assert resized.adapter.spec.modules[module].form is None
    assert isinstance(value.terms[0].structure, LowRank)
    matrix = -0.5 * sample.matrix
    assert value.rank == min(rank, sample.structure.rank)
    found = np.linalg.norm(dense(value) - matrix)
    assert found <= 1.0001 * optimum(matrix, value.rank) + 1e-12 * np.linalg.norm(matrix)
    total = np.linalg.norm(matrix) ** 2
    assert resized.energy[module] == pytest.approx(1 - optimum(matrix, value.rank) ** 2 / total, abs=1e-9)


def test_a_sum_of_structures_becomes_the_nearest_lora_of_its_rank() -> None:
    value, matrix = summed(
        [(0.7, loha(12, 10)), (-0.4, lokr((2, 5), (6, 2))), (1.0, plain(12, 10)), (0.2, full(12, 10))]
    )
    small = next(iter(resize(of(value), Ranks(4)).adapter.modules.values()))
    assert np.linalg.norm(dense(small) - matrix) <= 1.0001 * optimum(matrix, 4)


@pytest.mark.parametrize(
    "ranks", [Ranks(6, dynamic=Dynamic("sv-fro", 0.9)), Ranks(6, max_size=3000)], ids=["rule", "size"]
)
def test_ranks_of_structures_may_follow_from_the_data(ranks: Ranks) -> None:
    value = of(
        loha(12, 10).delta(), lokr((2, 5), (6, 2)).delta(), delta((12, 10), (1.0, 3)), full(12, 1).delta()
    )
    made = resize(value, ranks).adapter
    made.check(resize_spec(value.spec, ranks))
    for sample, found in zip((loha(12, 10), lokr((2, 5), (6, 2))), made.modules.values(), strict=False):
        assert found.plain
        error = np.linalg.norm(dense(found) - sample.matrix)
        assert error <= 1.0001 * optimum(sample.matrix, found.rank) + 1e-12


def test_a_bias_passes_as_it_is() -> None:
    bias = Delta((12,), (Term(0.5, full(12, 1).structure), Term(2.0, full(12, 1, 1).structure)))
    for ranks in (Ranks(1), Ranks(8, dynamic=Dynamic("sv-fro", 0.5)), Ranks(8, max_size=10_000)):
        value = of(bias, loha(12, 10).delta())
        module = next(iter(value.modules))
        resized = resize(value, ranks)
        assert resized.adapter.modules[module] is bias
        assert resized.adapter.spec.modules[module] == value.spec.modules[module]
        assert resized.energy[module] == 1.0


def test_of_a_loha_no_matrix_is_formed_where_its_rank_is_low() -> None:
    with Shapes() as seen:
        resize(of(loha(90, 80, 3).delta()), Ranks(3))
    # The factors of rank 9 have 90 x 9; the delta would have 90 x 80.
    assert seen.largest == 90 * 9


def test_each_module_is_read_once() -> None:
    sample = lokr((2, 5), (6, 2))
    reads: list[int] = []

    def read() -> Loaded:
        reads.append(1)
        return sample.structure

    lazily = Delta((12, 10), (Term(1.0, Lazy((12, 10), sample.structure.rank, read, plain=False)),))
    resize(of(lazily), Ranks(3))
    assert len(reads) == 1


@pytest.mark.parametrize(
    "ranks", [Ranks(2), Ranks(3, dynamic=Dynamic("sv-fro", 0.8)), Ranks(4, max_size=4000)], ids=str
)
def test_what_is_nothing_stays_nothing_beside_what_is_resized(ranks: Ranks) -> None:
    nothing = delta((12, 10), (1.0, 0))
    value = adapter_of({LINEAR: nothing, TEXT: delta((7, 11), (1.0, 6))})
    small = resize(value, ranks)
    assert small.adapter.modules[LINEAR] is nothing
    assert small.adapter.spec.modules[LINEAR].rank == 0
    assert 0 < small.adapter.spec.modules[TEXT].rank < 6
    small.adapter.check(small.adapter.spec)
