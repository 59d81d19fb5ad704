"""The figures of an adapter are those of numpy's SVD of each dense delta."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import lorapipe
from lorapipe.build.engines.threads import ordered_map
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.measure import norm
from lorapipe.weights.algebra.portrait import Figures, figures, portrait
from lorapipe.weights.operators.dora import DoRA
from lorapipe.weights.operators.ia3 import IA3
from lorapipe.weights.operators.operator import Operated, Operator
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.structure import LowRank
from tests.weights.samples import adapter, delta, dense, factors
from tests.weights.sorts import SORTS, full, loha, plain, summed


def one_module(value: Delta | Operated, form: Form | None = None) -> Adapter:
    module = ModuleId("unet", "m.weight")
    rank = value.rank if isinstance(value, Delta) else 0
    spec = AdapterSpec(None, {module: ModuleSpec(value.shape, rank, Spelling("m"), form)}, "F32")
    return Adapter(spec, {module: value})


def operator(held: Operator, shape: tuple[int, ...], strength: float = 1.0) -> Adapter:
    return one_module(Operated(shape, strength, lambda: held), Form("held", additive=False))


def test_each_module_has_the_singular_values_of_its_dense_delta_in_the_adapters_order() -> None:
    value = adapter(4, 0.5)
    found = portrait(value)
    assert list(found) == list(value.spec.modules)
    for module, figure in found.items():
        matrix = dense(value.delta(module))
        expected = np.linalg.svd(matrix, compute_uv=False)[:4]
        assert figure.singular_values == pytest.approx(tuple(expected), rel=1e-12)
        assert figure.norm == pytest.approx(float(np.linalg.norm(matrix)), rel=1e-12)
        assert figure.rank == np.linalg.matrix_rank(matrix)


@pytest.mark.parametrize("sort", SORTS)
def test_the_figures_of_every_structure_are_those_of_its_matrix(sort: str) -> None:
    sample = SORTS[sort](5, torch.float32)
    expected = 0.3 * np.linalg.svd(sample.matrix, compute_uv=False)
    found = figures(sample.delta(-0.3))
    assert found.rank == np.linalg.matrix_rank(sample.matrix)
    assert found.singular_values == pytest.approx(tuple(expected[: found.rank]), rel=1e-11)


def test_a_sum_of_structures_has_the_figures_of_the_sum() -> None:
    value, matrix = summed([(0.5, loha(12, 10)), (-2.0, full(12, 10)), (1.0, plain(12, 10))])
    assert figures(value).singular_values == pytest.approx(
        tuple(np.linalg.svd(matrix, compute_uv=False)), rel=1e-12
    )


def test_a_rank_that_is_only_stacked_is_not_counted() -> None:
    once = factors((30, 20), 3, 0)
    twice = Delta((30, 20), (Term(1.0, once), Term(0.5, once)))
    assert figures(twice).rank == 3
    cancelled = figures(Delta((30, 20), (Term(1.0, once), Term(-1.0, once))))
    assert (cancelled.rank, cancelled.norm, cancelled.stable_rank) == (0, 0.0, 0.0)


def test_a_module_of_rank_nothing_is_nothing() -> None:
    empty = Delta((6, 5), (Term(1.0, LowRank(torch.zeros(6, 0), torch.zeros(0, 5))),))
    assert figures(empty) == Figures(())


def test_nothing_dense_is_formed_of_a_low_rank_delta(products: list[int]) -> None:
    figures(delta((400, 300), (1.0, 4), (0.5, 3)))
    assert products
    assert max(products) <= 7 * 7


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_module_that_is_not_finite_is_told_and_stops_no_other(bad: float) -> None:
    value = adapter(4, 0.5)
    first = next(iter(value.spec.modules))
    (term,) = value.delta(first).terms
    loaded = term.structure.load()
    assert isinstance(loaded, LowRank)
    up = loaded.up.clone()
    up[0, 0] = bad
    odd = Delta(value.delta(first).shape, (Term(1.0, LowRank(up, loaded.down)),))
    found = portrait(replace(value, modules={**value.modules, first: odd}))
    assert found[first] == Figures((), finite=False)
    assert all(figure.finite for module, figure in found.items() if module != first)


def test_of_a_dora_the_delta_inside_is_measured_and_said_to_be_that() -> None:
    inner = factors((12, 10), 3, 1)
    held = DoRA(inner, 0.25, torch.ones(12))
    (found,) = portrait(operator(held, (12, 10))).values()
    expected = figures(Delta((12, 10), (Term(0.25, inner),)))
    assert found == replace(expected, within="DoRA")
    turned = operator(held, (12, 10)).modules[ModuleId("unet", "m.weight")].transposed()
    (sideways,) = portrait(one_module(turned, Form("DoRA", additive=False))).values()
    assert sideways.singular_values == pytest.approx(expected.singular_values, rel=1e-12)


def test_an_operator_that_is_a_function_of_the_weight_alone_has_no_figures() -> None:
    assert portrait(operator(IA3(torch.full((4,), 2.0), on_input=False), (4, 0))) == {}


def test_a_module_is_read_once_when_its_turn_comes() -> None:
    reads: list[int] = []

    def lazy(number: int) -> Delta:
        def read() -> LowRank:
            reads.append(number)
            return factors((12, 10), 2, number)

        return Delta((12, 10), (Term(1.0, Lazy((12, 10), 2, read)),))

    modules = {ModuleId("unet", f"{n}.weight"): lazy(n) for n in range(4)}
    specs = {module: ModuleSpec((12, 10), 2, Spelling(module.key)) for module in modules}
    portrait(Adapter(AdapterSpec(None, specs, "F32"), modules))
    assert reads == [0, 1, 2, 3]


def test_workers_change_nothing() -> None:
    value = adapter(4, 0.5)
    assert portrait(value, each=ordered_map(3)) == portrait(value)


def test_float32_is_computed_on_request() -> None:
    value = adapter(4, 0.5)
    single, double = portrait(value, compute="float32"), portrait(value)
    assert single != double
    for module in double:
        assert single[module].norm == pytest.approx(double[module].norm, rel=1e-5)


def test_norms_are_those_that_a_check_measures() -> None:
    value = adapter(6, -2.0, seed=3)
    for module, figure in portrait(value).items():
        assert figure.norm == pytest.approx(norm(value.delta(module)), rel=1e-13)


@pytest.mark.parametrize("name", ["analog_svd_rank4", "lora_disney"])
def test_real_files_have_the_figures_of_their_dense_deltas(name: str, shared: Callable[[str], Path]) -> None:
    value = lorapipe.load(shared(f"real/{name}.safetensors")).value
    assert isinstance(value, Adapter)
    found = portrait(value)
    for module in list(found)[::70]:
        matrix = dense(value.delta(module))
        expected = np.linalg.svd(matrix, compute_uv=False)[: found[module].rank]
        assert found[module].singular_values == pytest.approx(tuple(expected), rel=1e-9)
        assert found[module].norm == pytest.approx(float(np.linalg.norm(matrix)), rel=1e-11)
