"""combine, module by module: every method through real modules, and what holds of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.build.engines.threads import ordered_map
from lorapipe.errors import BuildError, RecipeError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import concat
from lorapipe.weights.algebra.combining import Combined, combine, coordinates, find_method
from lorapipe.weights.inference.combining import Combination, combine_spec
from lorapipe.weights.inference.methods import METHODS, Result, Settings
from lorapipe.weights.inference.ranks import Ranks
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.structure import Dense, LowRank
from tests.weights.samples import (
    CONV,
    LINEAR,
    SHAPES,
    TEXT,
    Away,
    Matrix,
    adapter,
    adapter_of,
    delta,
    dense,
    to_numpy,
)
from tests.weights.sorts import loha

DENSE = [name for name, row in METHODS.items() if row.result is Result.DENSE]
THIN = [name for name, row in METHODS.items() if row.result is not Result.DENSE]
RANDOM = ["dare-linear", "dare-ties", "della"]
PAIRS = ["slerp", "nuslerp"]
FUSED = ModuleId("unet", "fused.weight")
BIAS = ModuleId("unet", "norm.bias")

Terms = Sequence[tuple[str, float, Adapter]]


def merged(method: str, terms: Terms, ranks: Ranks | None = None, **said: Any) -> Combined:
    """The method on terms, its matrices kept where no rank is given."""
    wide = ranks is None and METHODS[method].result is Result.DENSE
    return combine(terms, Combination(method, Settings(**said), ranks, wide))


def matrices(combined: Combined) -> dict[ModuleId, Matrix]:
    combined.adapter.check(combined.adapter.spec)
    return {
        module: to_numpy(value.dense(torch.float64)) for module, value in combined.adapter.modules.items()
    }


def three(method: str) -> Terms:
    """As many LoRAs as a method takes, on all sorts of modules."""
    terms = [
        ("a", 1.0, adapter(3, seed=1)),
        ("b", 0.5, adapter(3, 0.5, seed=2)),
        ("c", 0.25, adapter(3, seed=3)),
    ]
    return terms[:2] if method in PAIRS else terms


def said(method: str) -> dict[str, Any]:
    return {"density": 0.5, "seed": 7} if METHODS[method].result is Result.DENSE or method == "knots" else {}


def test_every_row_names_a_function_that_says_where_it_is_from() -> None:
    for name, row in METHODS.items():
        if row.result is not Result.SUM:
            assert "*Source*" in (find_method(row.home).__doc__ or ""), name


def test_a_sum_is_what_concat_makes() -> None:
    terms = three("sum")
    found, exact = merged("sum", terms).adapter, concat(terms)
    assert found.spec == exact.spec
    for module, value in exact.modules.items():
        np.testing.assert_array_equal(dense(found.modules[module]), dense(value))


@pytest.mark.parametrize("method", THIN)
def test_what_factors_hold_comes_out_in_factors_and_cut_to_a_rank_is_the_nearest(method: str) -> None:
    exact = matrices(merged(method, three(method)))
    cut = merged(method, three(method), Ranks(2, conv=1))
    for module, found in matrices(cut).items():
        rank = 1 if module == CONV else 2
        assert cut.adapter.spec.modules[module].rank == cut.adapter.modules[module].rank == rank
        s = np.linalg.svd(exact[module], compute_uv=False)
        assert np.linalg.norm(found - exact[module]) <= 1.000001 * np.linalg.norm(s[rank:]) + 1e-12
        assert cut.energy[module] == pytest.approx((s[:rank] ** 2).sum() / (s**2).sum())


@pytest.mark.parametrize("method", DENSE)
def test_a_matrix_cut_to_a_rank_is_the_nearest_and_its_energy_is_told(method: str) -> None:
    whole = merged(method, three(method), **said(method))
    exact = matrices(whole)
    assert all(
        value.terms[0].structure.rank == min(exact[m].shape) for m, value in whole.adapter.modules.items()
    )
    assert not whole.energy
    cut = merged(method, three(method), Ranks(3, conv1x1=2), **said(method))
    for module, found in matrices(cut).items():
        rank = cut.adapter.spec.modules[module].rank
        s = np.linalg.svd(exact[module], compute_uv=False)
        assert np.linalg.norm(found - exact[module]) <= 1.000001 * np.linalg.norm(s[rank:])
        assert cut.energy[module] == pytest.approx((s[:rank] ** 2).sum() / (s**2).sum())


@pytest.mark.parametrize("method", ["ties", "sce", "magnitude-prune", "breadcrumbs"])
def test_a_method_sees_the_weighted_deltas_of_its_module(method: str) -> None:
    terms = three(method)
    function = find_method(METHODS[method].home)
    for module, found in matrices(merged(method, terms, density=0.5)).items():
        given = [torch.from_numpy(w * dense(value.delta(module))) for _, w, value in terms]
        exact = function(given, [w for _, w, _ in terms], Settings(density=0.5), None)
        np.testing.assert_allclose(found, exact.numpy(), atol=1e-12)


@pytest.mark.parametrize("method", ["slerp", "nuslerp", "karcher", "orthogonal"])
def test_a_mean_of_directions_is_that_of_the_deltas_as_vectors(method: str) -> None:
    terms = three(method)
    function = find_method(METHODS[method].home)
    for module, found in matrices(merged(method, terms)).items():
        given = np.stack([dense(value.delta(module)).ravel() for _, _, value in terms])
        coefficients = function(torch.from_numpy(given), [w for _, w, _ in terms], Settings())
        np.testing.assert_allclose(found.ravel(), np.array(coefficients) @ given, atol=1e-9)


def test_coordinates_have_the_deltas_lengths_and_angles_to_the_last_digits() -> None:
    """A nearly equal pair, too: inner products of the deltas would lose half the digits."""
    one = delta((12, 10), (0.7, 3))
    two = one.joined(delta((12, 10), (1e-9, 2), seed=5))
    found = coordinates([one, two], torch.float64).numpy()
    given = np.stack([dense(one).ravel(), dense(two).ravel()])
    np.testing.assert_allclose(found @ found.T, given @ given.T, rtol=1e-13)
    assert np.linalg.norm(found[0] - found[1]) == pytest.approx(np.linalg.norm(given[0] - given[1]), rel=1e-5)


def test_the_random_masks_are_those_of_seed_module_and_place() -> None:
    """Rebuilt from the words of numpy's generator, as its documentation has them."""
    from hashlib import sha256

    terms = three("dare-linear")
    found = matrices(merged("dare-linear", terms, density=0.4, seed=9))
    for module in SHAPES:
        exact = np.zeros_like(found[module])
        for place, (_, weight, value) in enumerate(terms):
            matrix = dense(value.delta(module))
            key = int.from_bytes(sha256(f"9 {module} {place}".encode()).digest()[:16], "little")
            words = np.random.Philox(key=key).random_raw(matrix.size).reshape(matrix.shape)
            exact += np.where((words >> np.uint64(11)) * 2.0**-53 < 0.4, weight * matrix / 0.4, 0.0)
        np.testing.assert_allclose(found[module], exact, atol=1e-13)


@pytest.mark.parametrize("method", RANDOM)
def test_another_seed_draws_others_and_the_same_seed_the_same(method: str) -> None:
    one, again, other = (
        matrices(merged(method, three(method), density=0.5, seed=seed))[LINEAR] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert np.count_nonzero(one != other) > one.size / 4


def test_what_is_drawn_for_a_term_does_not_depend_on_the_weights_of_others() -> None:
    terms = three("dare-linear")
    without = [(name, 0.0 if name == "a" else weight, value) for name, weight, value in terms]
    all_three = matrices(merged("dare-linear", terms, density=0.5))
    two = matrices(merged("dare-linear", without, density=0.5))
    alone = [(name, weight if name == "a" else 0.0, value) for name, weight, value in terms]
    one = matrices(merged("dare-linear", alone, density=0.5))
    for module in SHAPES:
        np.testing.assert_allclose(one[module] + two[module], all_three[module], atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_any_number_of_workers_makes_the_same_bits(method: str) -> None:
    wanted = Combination(method, Settings(density=0.5), Ranks(2))
    one = combine(three(method), wanted)
    two = combine(three(method), wanted, each=ordered_map(2))
    for module, value in one.adapter.modules.items():
        np.testing.assert_array_equal(dense(two.adapter.modules[module]), dense(value))


@pytest.mark.parametrize(
    "method", ["sum", "linear-factors", "ties", "breadcrumbs", "karcher", "sce", "knots", "magnitude-prune"]
)
def test_the_order_of_terms_does_not_matter_to(method: str) -> None:
    straight = matrices(merged(method, three(method), **said(method)))
    turned = matrices(merged(method, three(method)[::-1], **said(method)))
    for module, matrix in straight.items():
        np.testing.assert_allclose(turned[module], matrix, atol=1e-9)


@pytest.mark.parametrize("method", ["slerp", "orthogonal", "null-space"])
def test_the_order_of_terms_matters_to(method: str) -> None:
    terms = three(method)[:2]
    straight, turned = (matrices(merged(method, t, t=0.3))[LINEAR] for t in (terms, terms[::-1]))
    assert np.linalg.norm(straight - turned) > 0.005 * np.linalg.norm(straight)


def parted() -> Terms:
    """Two LoRAs that share one module only."""
    shared, own = {LINEAR: SHAPES[LINEAR]}, {TEXT: SHAPES[TEXT]}
    return [
        ("a", 0.5, adapter(3, seed=1, shapes=shared | own)),
        ("b", 2.0, adapter(3, seed=2, shapes=shared)),
    ]


@pytest.mark.parametrize(
    ("method", "strength"),
    [("sum", 0.5), ("linear-factors", 0.5), ("slerp", 0.5), ("nuslerp", 1.0), ("karcher", 1.0),
     ("orthogonal", 0.5), ("null-space", 0.5), ("ties", 0.5), ("dare-linear", 0.5), ("dare-ties", 0.5),
     ("della", 0.5), ("breadcrumbs", 0.5), ("magnitude-prune", 0.5), ("knots", 0.5), ("sce", 0.5)],
)  # fmt: skip
def test_a_module_of_one_alone_has_its_strength_or_is_whole_where_weights_are_shares(
    method: str, strength: float
) -> None:
    terms = parted()
    found = matrices(merged(method, terms, density=1.0))
    np.testing.assert_allclose(found[TEXT], strength * dense(terms[0][2].delta(TEXT)), atol=1e-12)


def bent(value: Adapter, module: ModuleId, numbers: torch.Tensor) -> Adapter:
    """The adapter with a bias beside its modules."""
    from dataclasses import replace

    from lorapipe.weights.inference.forms import FULL
    from lorapipe.weights.specs import Form, ModuleSpec, Spelling, TensorSpec

    shape = (len(numbers),)
    form = Form(FULL, ((".diff_b", TensorSpec("F32", shape)),))
    spec = replace(
        value.spec, modules={**value.spec.modules, module: ModuleSpec(shape, 1, Spelling("norm"), form)}
    )
    return Adapter(spec, {**value.modules, module: Delta(shape, (Term(1.0, Dense(numbers[:, None])),))})


@pytest.mark.parametrize("method", METHODS)
def test_a_bias_stays_a_bias(method: str) -> None:
    rng = np.random.default_rng(3)
    lines = [torch.from_numpy(rng.standard_normal(6)) for _ in range(2)]
    terms = [
        (name, weight, bent(adapter(3, seed=index), BIAS, line))
        for index, (name, weight, line) in enumerate(zip("ab", (1.0, 0.5), lines, strict=True))
    ]
    found = merged(method, terms, Ranks(2), density=0.5)
    assert found.adapter.spec.modules[BIAS].shape == (6,)
    assert found.adapter.spec.modules[BIAS].form == terms[0][2].spec.modules[BIAS].form
    matrix = to_numpy(found.adapter.modules[BIAS].dense(torch.float64))
    assert matrix.shape == (6, 1)
    if method in ("sum", "linear-factors", "null-space", "knots"):
        np.testing.assert_allclose(matrix[:, 0], (lines[0] + 0.5 * lines[1]).numpy(), atol=1e-13)
    if method == "magnitude-prune":
        exact = sum(
            w * np.where(np.abs(l) >= np.sort(np.abs(l))[3], l, 0)
            for w, l in zip((1.0, 0.5), map(to_numpy, lines), strict=True)
        )
        np.testing.assert_allclose(matrix[:, 0], exact, atol=1e-14)


def test_fused_rows_meet_as_in_a_concat() -> None:
    """One LoRA on q, k and v as one, another on k alone: ties on the common rows."""
    key = ModuleId(FUSED.component, FUSED.key, (4, 8))
    whole = adapter_of({FUSED: delta((12, 7), (1.0, 2), seed=1)})
    k = adapter_of({key: delta((4, 7), (1.0, 2), seed=2)})
    found = matrices(merged("ties", [("a", 1.0, whole), ("b", 1.0, k)], density=0.5))
    assert set(found) == {ModuleId(FUSED.component, FUSED.key, rows) for rows in ((0, 4), (4, 8), (8, 12))}
    ties = find_method(METHODS["ties"].home)
    rows = torch.from_numpy(dense(whole.delta(FUSED))[4:8]), torch.from_numpy(dense(k.delta(key)))
    np.testing.assert_allclose(found[key], ties(rows, [1.0, 1.0], Settings(density=0.5), None), atol=1e-13)


def test_other_formats_are_merged_as_what_they_are() -> None:
    sample = loha(12, 10)
    other = adapter_of({LINEAR: sample.delta(0.5)})
    a = adapter(3, seed=1, shapes={LINEAR: SHAPES[LINEAR]})
    spec = other.spec.modules[LINEAR]
    from dataclasses import replace

    from lorapipe.weights.specs import Form

    other = Adapter(replace(other.spec, modules={LINEAR: replace(spec, form=Form("LoHa"))}), other.modules)
    exact = 0.7 * 0.5 * sample.matrix + dense(a.delta(LINEAR))
    for method in ("ties", "magnitude-prune"):
        found = matrices(
            merged(
                method,
                [("a", 1.0, a), ("b", 0.7, other)],
                density=1.0,
                **({"normalize": "none"} if method == "ties" else {}),
            )
        )
        if method == "magnitude-prune":
            np.testing.assert_allclose(found[LINEAR], exact, atol=1e-12)
    found = matrices(merged("null-space", [("a", 1.0, a), ("b", 0.7, other)]))
    blind = to_numpy(torch.linalg.svd(torch.from_numpy(dense(a.delta(LINEAR))))[2][:3])
    off = 0.35 * sample.matrix @ (np.eye(10) - blind.T @ blind)
    np.testing.assert_allclose(found[LINEAR], dense(a.delta(LINEAR)) + off, atol=1e-10)


def test_lambda_multiplies_the_result_of_any_method() -> None:
    for method in METHODS:
        once = matrices(merged(method, three(method), **said(method)))
        half = matrices(merged(method, three(method), **said(method), factor=-0.5))
        for module, matrix in once.items():
            np.testing.assert_allclose(half[module], -0.5 * matrix, atol=1e-12)


@pytest.mark.parametrize("method", ["ties", "magnitude-prune", "linear-factors"])
@pytest.mark.parametrize("ranks", [None, Ranks(2)])
def test_what_cancels_to_nothing_is_an_error(method: str, ranks: Ranks | None) -> None:
    a = adapter(3, seed=1)
    turned = [("a", 1.0, a), ("b", -1.0, a)]
    if method == "ties":
        a = adapter(3, 0.0, seed=1)
        turned = [("a", 1.0, a), ("b", 1.0, a)]
    with pytest.raises(BuildError) as caught:
        merged(method, turned, ranks)
    assert caught.value.code == "nothing-left"
    assert str(caught.value) == (
        f"error: '{method}' leaves nothing of these LoRAs: they cancel in every module"
        " - are two of them the same file?"
    )


def test_a_module_that_cancels_is_zeros_of_the_rank_foretold() -> None:
    a, b = adapter(3, seed=1), adapter(3, seed=1, shapes={LINEAR: SHAPES[LINEAR]})
    found = merged("magnitude-prune", [("a", 1.0, a), ("b", -1.0, b)], Ranks(2))
    assert not matrices(found)[LINEAR].any()
    assert found.adapter.modules[LINEAR].rank == 2
    assert found.energy[LINEAR] == 1.0
    assert matrices(found)[TEXT].any()


@pytest.mark.parametrize("method", ["ties", "karcher", "knots"])
def test_a_number_that_is_none_is_named_by_its_module(method: str) -> None:
    bad = adapter(3, seed=1)
    factors = bad.delta(TEXT).terms[0].structure
    assert isinstance(factors, LowRank)
    factors.up[0, 0] = float("nan")
    with pytest.raises(BuildError) as caught:
        merged(method, [("a", 1.0, bad), ("b", 1.0, adapter(3, seed=2))], density=0.5)
    assert (caught.value.code, caught.value.module) == ("not-finite", str(TEXT))


@pytest.mark.parametrize("method", ["ties", "null-space", "knots", "linear-factors"])
def test_new_numbers_are_put_away_and_come_back_the_same(method: str) -> None:
    for wanted in (
        (
            Combination(method, Settings(density=0.5), Ranks(2)),
            Combination(method, Settings(density=0.5), dense=METHODS[method].result is Result.DENSE),
        )
        if method != "ties"
        else (
            Combination(method, Settings(density=0.5), Ranks(2)),
            Combination(method, Settings(density=0.5), dense=True),
        )
    ):
        away = Away()
        found = combine(three(method), wanted, put_away=away)
        assert len(away.kept) == len(SHAPES)
        here = combine(three(method), wanted)
        for module, value in here.adapter.modules.items():
            assert isinstance(found.adapter.modules[module].terms[0].structure, Lazy)
            assert torch.equal(found.adapter.modules[module].dense(torch.float64), value.dense(torch.float64))


def test_an_exact_sum_leaves_the_sources_factors_where_they_are() -> None:
    away = Away()
    terms = three("karcher")
    found = combine(terms, Combination("karcher"), put_away=away)
    assert not away.kept
    for module, value in found.adapter.modules.items():
        sources = [t.structure for _, _, a in terms for t in a.delta(module).terms]
        assert [term.structure for term in value.terms] == sources


def test_float32_is_as_good_as_float32() -> None:
    for method in METHODS:
        if method in RANDOM:
            continue
        wanted = Combination(method, Settings(density=1.0), Ranks(3))
        wide = combine(three(method), wanted)
        narrow = combine(three(method), wanted, compute="float32")
        for module, matrix in matrices(wide).items():
            found = matrices(narrow)[module]
            assert np.linalg.norm(found - matrix) < 2e-4 * np.linalg.norm(matrix), method


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([m for m in METHODS if m not in PAIRS]), st.integers(1, 4), st.floats(0.05, 1.0))
def test_a_value_is_always_what_its_spec_foretold(method: str, rank: int, density: float) -> None:
    terms = three(method)
    wanted = Combination(method, Settings(density=density, epsilon=0.0), Ranks(rank))
    foretold = combine_spec([(n, w, a.spec) for n, w, a in terms], wanted).spec
    combine(terms, wanted).adapter.check(foretold)


def test_an_empty_module_stays_empty() -> None:
    hollow = adapter_of(
        {LINEAR: Delta((12, 10), (Term(1.0, LowRank(torch.zeros(12, 0), torch.zeros(0, 10))),))}
    )
    other = adapter(2, seed=1, shapes={TEXT: SHAPES[TEXT]})
    for method in ("ties", "sum", "karcher", "null-space"):
        found = merged(method, [("a", 1.0, hollow), ("b", 1.0, other)], Ranks(2), density=0.5).adapter
        found.check(found.spec)
        assert found.modules[LINEAR].rank == 0


def test_extras_are_united_and_must_agree() -> None:
    one, two = torch.ones(2), torch.zeros(2)
    a, b = adapter(2, seed=1, extras={"bundle_emb.x": one}), adapter(2, seed=2)
    assert torch.equal(merged("ties", [("a", 1.0, a), ("b", 1.0, b)]).adapter.extras["bundle_emb.x"], one)
    with pytest.raises(BuildError, match=r"another 'bundle_emb\.x'"):
        merged("ties", [("a", 1.0, a), ("b", 1.0, adapter(2, seed=2, extras={"bundle_emb.x": two}))])


def test_factors_of_two_ranks_are_refused_by_name() -> None:
    with pytest.raises(RecipeError) as caught:
        merged("linear-factors", [("a", 1.0, adapter(3)), ("b", 1.0, adapter(2))])
    assert str(caught.value) == (
        "error: attn.to_q.weight: 'linear-factors' adds factors of one rank: 'a' has 3, 'b' 2"
        " - svd-resize them to one rank, or say 'method: sum', which adds deltas of any rank"
    )


def test_the_modules_of_a_method_table_are_all_there() -> None:
    found: Mapping[str, Any] = {name: find_method(row.home) for name, row in METHODS.items() if row.home}
    assert all(callable(function) for function in found.values())
    assert set(METHODS) - set(found) == {"sum"}
