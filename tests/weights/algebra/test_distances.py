"""Distances of adapters, held against numpy's dense differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lorapipe.errors import RecipeError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.distances import distances, other_operators
from lorapipe.weights.operators.ia3 import IA3
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import LowRank
from tests.weights.samples import LINEAR, Matrix, adapter, delta, dense, factors
from tests.weights.sorts import SORTS


def expected(a: Matrix, b: Matrix) -> list[float]:
    return [float(np.linalg.norm(x)) for x in (a, b, a - b)]


def found(one: Adapter, two: Adapter) -> dict[ModuleId, list[float]]:
    return {m: [d.old, d.new, d.apart] for m, d in distances(("one", one), ("two", two)).items()}


def of(**deltas: Delta) -> Adapter:
    modules = {ModuleId("", name): value for name, value in deltas.items()}
    specs = {m: ModuleSpec(d.shape, d.rank, Spelling(m.key)) for m, d in modules.items()}
    return Adapter(AdapterSpec(None, specs, "F32"), modules)


def test_each_module_is_as_far_as_its_dense_delta() -> None:
    one, two = adapter(4, 0.5, seed=1), adapter(3, -2.0, seed=2)
    for module, numbers in found(one, two).items():
        assert numbers == pytest.approx(
            expected(dense(one.delta(module)), dense(two.delta(module))), rel=1e-12
        )


@pytest.mark.parametrize("near", [1.0, 1e-2, 1e-5, 1e-9])
def test_what_is_nearly_the_same_keeps_its_digits(near: float) -> None:
    one, other = factors((60, 50), 4, 1), factors((60, 50), 2, 2)
    a = Delta((60, 50), (Term(1.0, one),))
    b = Delta((60, 50), (Term(1.0, one), Term(near, other)))
    (_, _, apart) = found(of(x=a), of(x=b))[ModuleId("", "x")]
    assert apart == pytest.approx(
        near * np.linalg.norm(dense(Delta((60, 50), (Term(1.0, other),)))), rel=1e-6
    )


def test_terms_that_nearly_cancel_keep_theirs() -> None:
    once = factors((30, 20), 3, 0)
    small = Delta((30, 20), (Term(1.0, once), Term(-(1 - 2**-30), once)))
    whole = float(np.linalg.norm(dense(Delta((30, 20), (Term(1.0, once),)))))
    old, new, apart = found(of(x=small), of(x=delta((30, 20), (1.0, 2), seed=5)))[ModuleId("", "x")]
    assert old == pytest.approx(2**-30 * whole, rel=1e-5)
    assert apart == pytest.approx(new, rel=1e-6)


@pytest.mark.parametrize("sort", SORTS)
def test_every_structure_has_a_distance_from_itself_and_from_another(sort: str) -> None:
    one, two = SORTS[sort](1, torch.float32), SORTS[sort](2, torch.float32)
    numbers = found(of(x=one.delta()), of(x=two.delta(0.5)))[ModuleId("", "x")]
    assert numbers == pytest.approx(expected(one.matrix, 0.5 * two.matrix), rel=1e-11)
    same = found(of(x=one.delta()), of(x=one.delta()))[ModuleId("", "x")]
    assert same[2] <= 1e-12 * same[0]


def test_a_module_that_one_lacks_is_as_far_as_it_is_long() -> None:
    a, b, c = (delta((6, 5), (1.0, 2), seed=n) for n in range(3))
    size = {name: float(np.linalg.norm(dense(d))) for name, d in (("a", a), ("c", c))}
    numbers = found(of(a=a, b=b), of(b=b, c=c))
    assert numbers[ModuleId("", "a")] == pytest.approx([size["a"], 0.0, size["a"]])
    assert numbers[ModuleId("", "c")] == pytest.approx([0.0, size["c"], size["c"]])


def test_a_fused_weight_is_compared_by_the_rows_that_both_have() -> None:
    whole = delta((6, 5), (1.0, 2))
    parts = {ModuleId("te", "qkv", rows): whole.rows(*rows) for rows in ((0, 2), (2, 6))}

    def made(modules: dict[ModuleId, Delta]) -> Adapter:
        specs = {m: ModuleSpec(d.shape, d.rank, Spelling(str(m))) for m, d in modules.items()}
        return Adapter(AdapterSpec("sd1", specs, "F32"), modules)

    numbers = found(made({ModuleId("te", "qkv"): whole}), made(parts))
    assert list(numbers) == list(parts)
    assert all(apart <= 1e-12 * old for old, _, apart in numbers.values())


def test_nothing_dense_is_formed(products: list[int]) -> None:
    a, b = (delta((400, 300), (1.0, 4), seed=n) for n in range(2))
    found(of(x=a, y=a), of(x=b, y=a))
    assert products
    assert max(products) <= 8 * 8


def test_operators_differ_by_their_numbers() -> None:
    def ia3(value: float) -> Adapter:
        module = ModuleId("", "k")
        spec = ModuleSpec((4, 0), 0, Spelling("k"), Form("IA3", additive=False))
        held = Operated((4, 0), 1.0, lambda: IA3(torch.full((4,), value), on_input=False))
        return Adapter(AdapterSpec(None, {module: spec}, "F32"), {module: held})

    assert other_operators(ia3(2.0), ia3(2.0)) == ()
    assert other_operators(ia3(2.0), ia3(3.0)) == (ModuleId("", "k"),)
    assert other_operators(of(x=delta((4, 4), (1.0, 2))), ia3(3.0)) == ()


def test_loras_of_two_families_are_not_compared() -> None:
    one, two = adapter(4, 0.5), adapter(4, 0.5)
    other = replace(two, spec=replace(two.spec, family="sdxl"))
    mine = replace(one, spec=replace(one.spec, family="sd1"))
    with pytest.raises(RecipeError) as caught:
        distances(("one", mine), ("two", other))
    assert caught.value.code == "family-mismatch"
    assert LINEAR in one.modules


def test_a_module_of_rank_nothing_is_nothing() -> None:
    empty = Delta((6, 5), (Term(1.0, LowRank(torch.zeros(6, 0), torch.zeros(0, 5))),))
    full = delta((6, 5), (1.0, 2))
    size = float(np.linalg.norm(dense(full)))
    old, new, apart = found(of(x=full), of(x=empty)).popitem()[1]
    assert (old, new, apart) == pytest.approx((size, 0.0, size))
