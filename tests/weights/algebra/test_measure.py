"""Norms and errors without the dense delta, right even where terms nearly cancel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lorapipe.build.engines.threads import ordered_map
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import scale
from lorapipe.weights.algebra.measure import measure, norm, relative_error
from lorapipe.weights.algebra.resize import resize
from lorapipe.weights.algebra.shuffle import shuffle
from lorapipe.weights.inference.ranks import Ranks
from lorapipe.weights.operators.ia3 import IA3
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import LowRank
from tests.weights.samples import Matrix, adapter, delta, dense, error, factors
from tests.weights.sorts import SORTS, full, loha, plain, summed


@pytest.mark.parametrize("shape", [(12, 10), (9, 5, 3, 3), (3, 40), (40, 3)])
def test_norm_is_the_frobenius_norm(shape: tuple[int, ...]) -> None:
    value = delta(shape, (0.5, 3), (-2.0, 4))
    assert norm(value) == pytest.approx(np.linalg.norm(dense(value)), rel=1e-13)


def test_the_norm_of_a_near_cancelling_difference_keeps_its_digits() -> None:
    once = factors((30, 20), 3, 0)
    value = Delta((30, 20), (Term(1.0, once), Term(-(1 - 2**-30), once)))
    single = float(np.linalg.norm(dense(Delta((30, 20), (Term(1.0, once),)))))
    assert norm(value) == pytest.approx(2**-30 * single, rel=1e-5)


def test_relative_error_is_the_measure_of_the_design() -> None:
    a, b, result = (
        delta((12, 10), (0.5, 3)),
        delta((12, 10), (1.0, 4), seed=3),
        delta((12, 10), (1.0, 2), seed=9),
    )
    expected = error(dense(result), [(0.7, dense(a)), (-0.4, dense(b))])
    assert relative_error(result, [(0.7, a), (-0.4, b)]) == pytest.approx(expected, rel=1e-12)


def test_a_right_result_has_no_error() -> None:
    a = delta((12, 10), (0.5, 3))
    assert relative_error(a.scaled(0.7), [(0.7, a)]) < 1e-15


def test_of_nothing_the_error_is_what_is_there() -> None:
    a = delta((12, 10), (0.5, 3))
    assert relative_error(a.scaled(0.0), [(0.0, a)]) == 0.0


@pytest.mark.parametrize("sort", SORTS)
def test_the_norm_of_every_structure_is_that_of_its_matrix(sort: str) -> None:
    sample = SORTS[sort](5, torch.float32)
    assert norm(sample.delta(-0.5)) == pytest.approx(0.5 * np.linalg.norm(sample.matrix), rel=1e-12)


def test_the_error_of_a_sum_of_structures_is_relative_to_each() -> None:
    terms = [(0.5, loha(12, 10)), (-2.0, full(12, 10)), (1.0, plain(12, 10))]
    value, matrix = summed(terms)
    found = relative_error(plain(12, 10, seed=9).delta(), [(c, s.delta()) for c, s in terms])
    expected = error(plain(12, 10, seed=9).matrix, [(c, s.matrix) for c, s in terms])
    assert found == pytest.approx(expected, rel=1e-12)
    assert norm(value) == pytest.approx(np.linalg.norm(matrix), rel=1e-12)


# --- what a check asks ------------------------------------------------------------------


def lora(seed: int = 0, rank: int = 4) -> Adapter:
    return adapter(rank, 0.5, seed=seed)


def references(value: Adapter) -> dict[str, Matrix]:
    """Each module's delta as numpy sums it, by the name that its file has."""
    return {value.spec.modules[m].spelling.stem: dense(value.delta(m)) for m in value.spec.modules}


def test_figures_are_those_of_dense_float64_sums() -> None:
    one, two = lora(0), lora(7, rank=3)
    found = measure(one, of=two)
    mine, theirs = references(one), references(two)
    assert found.keys() == mine.keys()
    for name, figure in found.items():
        expected = (mine[name], mine[name] - theirs[name], theirs[name])
        measured = (figure.norm, figure.left, figure.whole)
        assert measured == pytest.approx([float(np.linalg.norm(m)) for m in expected], rel=1e-12)
        assert figure.finite
        assert not figure.differs


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_energy_of_a_resized_lora_is_what_its_singular_values_keep(rank: int) -> None:
    whole = adapter(8, 0.5)
    small = resize(whole, Ranks(rank)).adapter
    found = measure(small, of=whole)
    for name, matrix in references(whole).items():
        squares = np.linalg.svd(matrix, compute_uv=False) ** 2
        kept = 1.0 if rank >= len(squares) else squares[:rank].sum() / squares.sum()
        assert found[name].energy == pytest.approx(kept, abs=1e-13)


def test_of_itself_a_lora_has_all_energy_and_does_not_differ() -> None:
    found = measure(lora(), of=lora(), differs_from=lora()).values()
    assert all(figure.energy == pytest.approx(1.0, abs=1e-15) for figure in found)
    assert not any(figure.differs for figure in found)


def test_other_factors_of_the_same_delta_are_no_difference() -> None:
    one = lora()
    assert not any(f.differs for f in measure(shuffle(one, seed=3), differs_from=one).values())
    assert any(f.differs for f in measure(scale(one, 1.00001), differs_from=one).values())
    assert not any(f.differs for f in measure(scale(one, 1.0000001), differs_from=one).values())


def test_a_module_that_the_other_lacks_differs() -> None:
    one = lora()
    first, *others = one.spec.modules
    spec = replace(one.spec, modules={m: one.spec.modules[m] for m in others})
    less = Adapter(spec, {m: one.modules[m] for m in others})
    found = measure(one, differs_from=less)
    assert [name for name, f in found.items() if f.differs] == [one.spec.modules[first].spelling.stem]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("side", ["up", "down"])
def test_one_number_that_is_none_is_found_in_its_module(bad: float, side: str) -> None:
    one = lora()
    module = list(one.spec.modules)[1]
    (term,) = one.delta(module).terms
    loaded = term.structure.load()
    assert isinstance(loaded, LowRank)
    sides = {"up": loaded.up.clone(), "down": loaded.down.clone()}
    sides[side][0, 0] = bad
    odd = Delta(one.delta(module).shape, (Term(term.coefficient, LowRank(**sides)),))
    found = measure(Adapter(one.spec, {**one.modules, module: odd}), normed=False)
    assert [name for name, f in found.items() if not f.finite] == [one.spec.modules[module].spelling.stem]


def test_a_delta_beyond_the_range_of_float64_is_not_finite_though_its_factors_are() -> None:
    one = lora()
    found = measure(scale(scale(one, 1e200), 1e150))
    assert not any(figure.finite for figure in found.values())


def test_modules_of_every_structure_are_measured_and_in_any_order_of_work() -> None:
    samples = {ModuleId("unet", sort): SORTS[sort](5, torch.float32) for sort in SORTS}
    deltas = {module: sample.delta(-0.5) for module, sample in samples.items()}
    specs = {m: ModuleSpec(d.shape, d.rank, Spelling(m.key)) for m, d in deltas.items()}
    value = Adapter(AdapterSpec(None, specs, "F32"), deltas)
    found = measure(value, of=value, each=ordered_map(2))
    assert [f.norm for f in found.values()] == pytest.approx(
        [0.5 * float(np.linalg.norm(sample.matrix)) for sample in samples.values()], rel=1e-12
    )


def test_an_operator_has_no_norm_and_differs_by_its_numbers_or_strength() -> None:
    scales = torch.full((4,), 2.0)

    def ia3(numbers: torch.Tensor, strength: float = 1.0) -> Adapter:
        module = ModuleId("unet", "k")
        spec = ModuleSpec((4, 0), 0, Spelling("k"), Form("IA3", additive=False))
        held = Operated((4, 0), strength, lambda: IA3(numbers, on_input=False))
        return Adapter(AdapterSpec(None, {module: spec}, "F32"), {module: held})

    def differs(value: Adapter) -> bool:
        return measure(value, differs_from=ia3(scales), normed=False)["k"].differs

    assert not differs(ia3(scales.clone()))
    assert differs(ia3(scales + 1))
    assert differs(ia3(scales, 0.5))
    assert not measure(ia3(scales * float("nan")), normed=False)["k"].finite
