"""Scaling and joining are free, exact and linear."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import concat, kept, scale
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling
from tests.weights.samples import (
    CONV,
    LINEAR,
    SHAPES,
    TEXT,
    Matrix,
    adapter,
    adapter_of,
    delta,
    dense,
    sum_of,
)
from tests.weights.sorts import full, loha, lokr, tucker


@pytest.mark.parametrize("by", [0.5, -2.0, 3.0])
def test_scale_is_linear_in_the_delta(by: float) -> None:
    value = adapter(rank=4, s=0.25)
    scaled = scale(value, by)
    for module in SHAPES:
        np.testing.assert_allclose(dense(scaled.modules[module]), by * dense(value.modules[module]))


def test_scale_by_module_leaves_the_others() -> None:
    value = adapter()
    scaled = scale(value, {**dict.fromkeys(SHAPES, 1.0), TEXT: 0.5})
    assert scaled.modules[LINEAR] is value.modules[LINEAR]
    np.testing.assert_allclose(dense(scaled.modules[TEXT]), 0.5 * dense(value.modules[TEXT]))


def test_modules_scaled_to_zero_are_gone() -> None:
    assert TEXT not in scale(adapter(), {**dict.fromkeys(SHAPES, 1.0), TEXT: 0.0}).modules


def test_modules_that_are_kept_stay_what_they_are() -> None:
    value = adapter(extras={"e": torch.ones(2)})
    few = kept(value, {TEXT, CONV})
    assert list(few.modules) == [module for module in value.modules if module in (TEXT, CONV)]
    assert few.modules[CONV] is value.modules[CONV]
    assert few.extras["e"] is value.extras["e"]
    few.check(few.spec)


def test_scale_keeps_the_extras() -> None:
    value = adapter(extras={"e": torch.ones(2)})
    assert scale(value, 2.0).extras["e"] is value.extras["e"]


def test_concat_is_the_weighted_sum_of_different_ranks() -> None:
    a, b, c = adapter(8, 0.5), adapter(12, seed=3), adapter(3, 2.0, seed=4)
    joined = concat([("a", 0.7, a), ("b", -0.4, b), ("c", 1.5, c)])
    for module in SHAPES:
        expected = sum_of((w, dense(v.modules[module])) for w, v in [(0.7, a), (-0.4, b), (1.5, c)])
        np.testing.assert_allclose(dense(joined.modules[module]), expected, rtol=1e-12, atol=1e-12)


def test_concat_computes_and_copies_nothing() -> None:
    a, b = adapter(8, 0.5), adapter(12, seed=3)
    joined = concat([("a", 0.7, a), ("b", -0.4, b)]).modules[CONV]
    assert [t.coefficient for t in joined.terms] == [0.7 * 0.5, -0.4]
    assert joined.terms[1].structure is b.modules[CONV].terms[0].structure


def test_modules_of_one_side_keep_their_own_weight() -> None:
    a, b = adapter(shapes={LINEAR: (12, 10)}), adapter(seed=3, shapes={LINEAR: (12, 10), TEXT: (7, 11)})
    joined = concat([("a", 0.7, a), ("b", -0.4, b)])
    np.testing.assert_allclose(dense(joined.modules[TEXT]), -0.4 * dense(b.modules[TEXT]))


def test_a_linear_lora_joins_one_with_1x1_kernels() -> None:
    module = ModuleId("unet", "proj_in.weight")
    a, b = adapter(shapes={module: (8, 6)}), adapter(seed=3, shapes={module: (8, 6, 1, 1)})
    joined = concat([("a", 1.0, a), ("b", 1.0, b)]).modules[module]
    np.testing.assert_allclose(dense(joined), dense(a.modules[module]) + dense(b.modules[module]))


def test_a_term_of_weight_zero_is_not_in_the_result() -> None:
    a, b = adapter(), adapter(seed=3, extras={"e": torch.ones(2)})
    joined = concat([("a", 1.0, a), ("b", 0.0, b)])
    assert joined.modules[LINEAR].rank == 4
    assert joined.extras == {}


def test_cutting_a_fused_weight_loses_nothing() -> None:
    whole = ModuleId("te2", "in_proj_weight")
    parts = [ModuleId("te2", "in_proj_weight", r) for r in [(0, 4), (4, 8), (8, 12)]]
    fused = adapter_of({whole: delta((12, 6), (0.5, 3))})
    split = adapter_of({m: delta((4, 6), (1.0, 2), seed=i) for i, m in enumerate(parts)})
    joined = concat([("fused", 2.0, fused), ("split", -1.0, split)])
    expected = 2.0 * dense(fused.modules[whole])
    for module in parts:
        start, stop = module.rows or (0, 0)
        expected[start:stop] -= dense(split.modules[module])
        np.testing.assert_allclose(dense(joined.modules[module]), expected[start:stop])
        shared = joined.modules[module].terms[0].structure.down
        assert shared is fused.modules[whole].terms[0].structure.down


def test_extras_of_all_terms_pass() -> None:
    a, b = adapter(extras={"x": torch.ones(2)}), adapter(seed=3, extras={"y": torch.zeros(3)})
    joined = concat([("a", 1.0, a), ("b", 1.0, b)])
    assert joined.extras["x"] is a.extras["x"]
    assert joined.extras["y"] is b.extras["y"]


def test_equal_extras_are_one() -> None:
    a, b = adapter(extras={"x": torch.ones(2)}), adapter(seed=3, extras={"x": torch.ones(2)})
    assert concat([("a", 1.0, a), ("b", 1.0, b)]).extras["x"].tolist() == [1.0, 1.0]


def test_extras_of_one_name_and_two_contents_are_refused() -> None:
    a, b = adapter(extras={"x": torch.ones(2)}), adapter(seed=3, extras={"x": torch.zeros(2)})
    with pytest.raises(BuildError) as caught:
        concat([("a", 1.0, a), ("b", 1.0, b)])
    assert str(caught.value) == "error: 'b' holds another 'x' than a LoRA before it"


# --- structures and operators -----------------------------------------------------------


def of_sorts(seed: int, *places: ModuleId) -> tuple[Adapter, dict[ModuleId, Matrix]]:
    """A LoRA that has another structure on each module, and their matrices."""
    made = [
        loha(12, 10, 2, seed),
        lokr((2, 5), (6, 2), seed=seed),
        tucker(12, 10, (), 3, seed),
        full(12, 10, seed),
    ]
    chosen = dict(zip(places, made, strict=False))
    deltas = {place: sample.delta(0.5) for place, sample in chosen.items()}
    specs = {
        place: ModuleSpec(d.shape, d.rank, Spelling("s"), Form("a format")) for place, d in deltas.items()
    }
    matrices = {place: 0.5 * sample.matrix for place, sample in chosen.items()}
    return Adapter(AdapterSpec("sd1", specs, "F32"), deltas), matrices


PLACES = [ModuleId("unet", f"m{i}.weight") for i in range(4)]


def test_any_structures_join_and_scale_as_their_matrices_do() -> None:
    a, in_a = of_sorts(1, *PLACES)
    b, in_b = of_sorts(2, *PLACES[::-1])
    c = adapter(shapes=dict.fromkeys(PLACES[:3], (12, 10)), seed=3)
    joined = concat([("a", 0.7, a), ("b", -0.4, scale(b, 2.0)), ("c", 1.0, c)])
    joined.check(joined.spec)
    for place in PLACES:
        expected = 0.7 * in_a[place] - 0.8 * in_b[place]
        if place in c.modules:
            expected = expected + dense(c.modules[place])
        found = joined.modules[place].dense(torch.float64).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_structures_are_cut_where_a_lora_covers_some_of_their_rows() -> None:
    a, in_a = of_sorts(1, *PLACES)
    some = {ModuleId("unet", place.key, (3, 7)): (4, 10) for place in PLACES}
    b = adapter(shapes=some, seed=3)
    joined = concat([("a", 1.0, a), ("b", -0.5, b)])
    joined.check(joined.spec)
    assert len(joined.modules) == 3 * len(PLACES)
    for module, value in joined.modules.items():
        assert module.rows is not None
        whole = in_a[ModuleId("unet", module.key)]
        expected = whole[module.rows[0] : module.rows[1]]
        if module in b.modules:
            expected = expected - 0.5 * dense(b.modules[module])
        np.testing.assert_allclose(value.dense(torch.float64).numpy(), expected, rtol=0, atol=1e-12)


class Nothing:
    """An operator that no test applies."""


def test_an_operator_is_carried_with_its_strength() -> None:
    read = Nothing
    spec = ModuleSpec((12, 10), 0, Spelling("s"), Form("DoRA", additive=False))
    dora = Adapter(AdapterSpec("sd1", {PLACES[0]: spec}, "F32"), {PLACES[0]: Operated((12, 10), 1.0, read)})
    lora = adapter(shapes={PLACES[1]: (12, 10)})
    joined = scale(concat([("lora", 1.0, lora), ("dora", 0.5, dora)]), -3.0)
    joined.check(joined.spec)
    carried = joined.modules[PLACES[0]]
    assert isinstance(carried, Operated)
    assert (carried.strength, carried.read, carried.shape) == (-1.5, read, (12, 10))
    assert joined.spec.modules[PLACES[0]] == spec
