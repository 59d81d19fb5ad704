"""Cosines, shared directions and conflicts of factored deltas, held against dense numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.build.engines.threads import ordered_map
from lorapipe.errors import RecipeError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.overlap import overlap, overlaps
from lorapipe.weights.overlaps import Overlap, together
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import LowRank
from tests.weights.samples import LINEAR, SHAPES, TEXT, Matrix, adapter, adapter_of, delta, dense
from tests.weights.sorts import SORTS

SEEDS = st.integers(0, 2**16)


def cosine(a: Matrix, b: Matrix) -> float:
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


def shared(a: Matrix, b: Matrix) -> float:
    """The mean squared cosine of the principal angles between two column spaces, by projections."""
    bases = []
    for matrix in (a, b):
        u, s, _ = np.linalg.svd(matrix, full_matrices=False)
        bases.append(u[:, s > 1e-10 * s[0]])
    one, two = bases
    angles = np.linalg.svd(one.T @ two, compute_uv=False)
    return float((angles**2).sum() / min(one.shape[1], two.shape[1]))


def conflict(a: Matrix, b: Matrix) -> float:
    """Component by component, with a loop: the negative share of what they have in common."""
    (u, s, vt), (x, t, yt) = (np.linalg.svd(matrix, full_matrices=False) for matrix in (a, b))
    parts = [
        s[i] * t[j] * (u[:, i] @ x[:, j]) * (vt[i] @ yt[j]) for i in range(len(s)) for j in range(len(t))
    ]
    return -sum(p for p in parts if p < 0) / sum(map(abs, parts))


# --- two deltas -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12, 10), (9, 5, 3, 3), (8, 6, 1, 1), (3, 40), (40, 3)])
def test_every_figure_is_that_of_the_dense_matrices(shape: tuple[int, ...]) -> None:
    a, b = delta(shape, (0.5, 3), (-2.0, 2)), delta(shape, (1.5, 4), seed=7)
    found, one, two = overlap(a, b), dense(a), dense(b)

    assert found.cosine == pytest.approx(cosine(one, two), rel=1e-10)
    assert found.inner == pytest.approx(float((one * two).sum()), rel=1e-10)
    assert found.outputs_shared == pytest.approx(shared(one, two), rel=1e-9)
    assert found.inputs_shared == pytest.approx(shared(one.T, two.T), rel=1e-9)
    assert found.conflict == pytest.approx(conflict(one, two), rel=1e-8)


@pytest.mark.parametrize("sort", SORTS)
def test_deltas_of_every_structure_have_a_cosine(sort: str) -> None:
    sample = SORTS[sort](0, torch.float32)
    a = Delta(sample.matrix.shape, (Term(0.5, sample.structure),))
    b = delta(a.shape, (1.0, 3), seed=5)
    wanted = cosine(sample.matrix, dense(b))
    assert overlap(a, b).cosine == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_a_delta_agrees_wholly_with_itself_and_not_at_all_with_its_negative() -> None:
    a = delta((12, 10), (0.5, 3))
    same, other = overlap(a, a), overlap(a, a.scaled(-0.1))
    assert (same.cosine, same.conflict) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-12))
    assert (other.cosine, other.conflict) == (pytest.approx(-1.0), pytest.approx(1.0))
    assert same.outputs_shared == pytest.approx(1.0)
    assert other.opposed
    assert not same.opposed


@settings(max_examples=20)
@given(SEEDS, st.floats(0.01, 100.0), st.floats(-100.0, -0.01))
def test_strengths_change_nothing_but_the_sign(seed: int, up: float, down: float) -> None:
    a, b = delta((9, 7), (1.0, 3), seed=seed), delta((9, 7), (1.0, 2), seed=seed + 1)
    plain, scaled = overlap(a, b), overlap(a.scaled(up), b.scaled(down))
    assert plain.cosine is not None
    assert scaled.cosine == pytest.approx(-plain.cosine, rel=1e-9, abs=1e-12)
    assert scaled.outputs_shared == pytest.approx(plain.outputs_shared, rel=1e-9)
    assert scaled.conflict == pytest.approx(1.0 - (plain.conflict or 0.0), rel=1e-7, abs=1e-9)


@settings(max_examples=20)
@given(SEEDS)
def test_it_does_not_matter_which_comes_first(seed: int) -> None:
    a, b = delta((9, 7), (1.0, 3), seed=seed), delta((9, 7), (1.0, 2), seed=seed + 1)
    one, two = overlap(a, b), overlap(b, a)
    assert (one.cosine, one.conflict) == (pytest.approx(two.cosine), pytest.approx(two.conflict))
    assert one.inputs_shared == pytest.approx(two.inputs_shared)


def test_directions_that_cancel_within_a_delta_do_not_count() -> None:
    """What is only rounding would share directions with anything."""
    eye = torch.eye(10, dtype=torch.float64)
    one = Delta((10, 10), (Term(1.0, LowRank(eye[:, :1], eye[:1])),))
    gone = LowRank(eye[:, 4:6], eye[4:6])
    a = one.joined(Delta((10, 10), (Term(1.0, gone), Term(-1.0, gone))))
    other = Delta((10, 10), (Term(1.0, gone),))
    found = overlap(a, other)
    assert (found.angles, found.outputs_shared, found.cosine) == (1, 0.0, 0.0)


def test_by_chance_is_what_random_deltas_have() -> None:
    found = [
        overlap(delta((40, 30), (1.0, 6), seed=s), delta((40, 30), (1.0, 9), seed=s + 9999))
        for s in range(60)
    ]
    outputs = [one.outputs_shared for one in found if one.outputs_shared is not None]
    assert np.mean(outputs) == pytest.approx(found[0].outputs_by_chance, rel=0.05)
    cosines = [one.cosine for one in found if one.cosine is not None]
    assert np.std(cosines) == pytest.approx(found[0].noise, rel=0.25)
    assert sum(one.opposed for one in found) <= 1


def test_nothing_has_no_cosine() -> None:
    nothing = delta((12, 10), (0.0, 2))
    found = overlap(nothing, delta((12, 10), (1.0, 2)))
    assert (found.cosine, found.conflict, found.outputs_shared, found.opposed) == (None, None, None, False)


# --- several modules --------------------------------------------------------------------


def test_together_modules_are_one_long_vector() -> None:
    a, b = adapter(3), adapter(4, seed=50)
    found = overlaps([("a", a), ("b", b)])[0, 1]
    long = [np.concatenate([dense(x.delta(m)).ravel() for m in SHAPES]) for x in (a, b)]
    assert list(found) == list(SHAPES)
    assert together(found.values()).cosine == pytest.approx(cosine(*long), rel=1e-10)


def test_no_modules_together_are_nothing() -> None:
    assert together([]) == Overlap()


def test_every_pair_is_held_against_each_other_on_what_both_have() -> None:
    a, b = adapter(3), adapter(4, seed=50)
    c = adapter(2, seed=90, shapes={LINEAR: SHAPES[LINEAR]})
    found = overlaps([("a", a), ("b", b), ("c", c)])
    assert {pair: list(modules) for pair, modules in found.items()} == {
        (0, 1): list(SHAPES),
        (0, 2): [LINEAR],
        (1, 2): [LINEAR],
    }
    alone = overlap(a.delta(LINEAR), c.delta(LINEAR))
    assert found[0, 2][LINEAR].cosine == pytest.approx(alone.cosine, rel=1e-12)


def test_loras_that_never_meet_are_no_pair() -> None:
    a = adapter(3, shapes={LINEAR: SHAPES[LINEAR]})
    b = adapter(3, shapes={TEXT: SHAPES[TEXT]})
    assert overlaps([("a", a), ("b", b)]) == {}


def test_a_fused_weight_is_looked_at_by_common_rows() -> None:
    whole, half = ModuleId("unet", "qkv.weight"), ModuleId("unet", "qkv.weight", (0, 4))
    a = adapter_of({whole: delta((12, 10), (1.0, 3))})
    b = adapter_of({half: delta((4, 10), (1.0, 2), seed=3)})
    found = overlaps([("a", a), ("b", b)])[0, 1]
    assert list(found) == [half]
    assert found[half].cosine == pytest.approx(
        cosine(dense(a.delta(whole))[:4], dense(b.delta(half))), rel=1e-10
    )


def test_workers_change_no_bit() -> None:
    terms = [("a", adapter(3)), ("b", adapter(4, seed=50))]
    assert overlaps(terms) == overlaps(terms, each=ordered_map(3))


def test_an_operator_has_no_overlap() -> None:
    a = adapter(3)
    form = Form("IA3", additive=False)
    known = {m: replace(s, rank=0, form=form) if m == LINEAR else s for m, s in a.spec.modules.items()}
    odd = Adapter(replace(a.spec, modules=known), a.modules)
    found = overlaps([("a", odd), ("b", adapter(4, seed=50))])[0, 1]
    assert list(found) == [module for module in SHAPES if module != LINEAR]


def test_a_module_that_is_not_finite_costs_its_own_figures_alone() -> None:
    a = adapter(3)
    broken = Delta((12, 10), (Term(float("nan"), a.delta(LINEAR).terms[0].structure),))
    odd = Adapter(a.spec, {**a.modules, LINEAR: broken})
    found = overlaps([("a", odd), ("b", adapter(4, seed=50))])[0, 1]
    assert list(found) == [module for module in SHAPES if module != LINEAR]


def test_loras_of_two_families_are_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        overlaps([("a", adapter(3)), ("b", adapter(3, family="sdxl"))])
    assert caught.value.code == "family-mismatch"


def test_a_lora_without_a_module_meets_nobody() -> None:
    empty = adapter_of({})
    assert overlaps([("a", empty), ("b", adapter(3))]) == {}
    spec = AdapterSpec("sd1", {LINEAR: ModuleSpec((12, 10), 0, Spelling("x"))}, "F32")
    assert overlaps([("a", Adapter(spec, {})), ("b", adapter(3))]) == {}
