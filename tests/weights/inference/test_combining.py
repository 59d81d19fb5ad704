"""What combine makes of specs, before any data is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.combining import Combination, combine_spec
from lorapipe.weights.inference.forms import FULL
from lorapipe.weights.inference.methods import METHODS, Result, Settings
from lorapipe.weights.inference.ranks import Ranks
from lorapipe.weights.inference.steps import concat_spec
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling, TensorSpec

Q = ModuleId("unet", "q.weight")
CONV = ModuleId("unet", "conv.weight")
BIAS = ModuleId("unet", "norm.bias")
SHAPES = {Q: (20, 30), CONV: (16, 8, 3, 3)}
DENSE = [name for name, row in METHODS.items() if row.result is Result.DENSE]
EXACT = [name for name, row in METHODS.items() if row.result in (Result.SUM, Result.LINEAR)]


def lora(
    rank: int = 4, forms: Mapping[ModuleId, Form] | None = None, dtype: str = "F16", **said: Any
) -> AdapterSpec:
    found = {
        module: ModuleSpec(shape, rank, Spelling(module.key), (forms or {}).get(module))
        for module, shape in SHAPES.items()
    }
    return AdapterSpec("sd1", found, dtype, **said)


def spec(method: str, *specs: AdapterSpec, ranks: Ranks | None = None, dense: bool = False) -> AdapterSpec:
    terms = [(name, 1.0, one) for name, one in zip("abc", specs, strict=False)]
    return combine_spec(terms, Combination(method, Settings(), ranks, dense)).spec


@pytest.mark.parametrize("method", EXACT)
def test_weighted_sums_have_the_ranks_of_a_concat(method: str) -> None:
    given = [("a", 1.0, lora(4)), ("b", 1.0, lora(3))]
    assert spec(method, lora(4), lora(3)) == concat_spec(given)


@pytest.mark.parametrize("method", EXACT)
def test_and_with_a_rank_no_more_than_that(method: str) -> None:
    found = spec(method, lora(4), lora(3), ranks=Ranks(5, conv=2))
    assert {m: known.rank for m, known in found.modules.items()} == {Q: 5, CONV: 2}
    assert spec(method, lora(1), lora(1), ranks=Ranks(5)).modules[Q].rank == 2


@pytest.mark.parametrize("method", DENSE)
def test_matrices_are_cut_to_the_rank_whatever_the_terms_have(method: str) -> None:
    found = spec(method, lora(2), lora(2), ranks=Ranks(100, conv=6))
    assert {m: (known.rank, known.form) for m, known in found.modules.items()} == {
        Q: (20, None),
        CONV: (6, None),
    }
    assert found.dtype == "F16"


@pytest.mark.parametrize("method", DENSE)
def test_or_kept_as_full_differences_in_the_terms_type(method: str) -> None:
    found = spec(method, lora(2), lora(2), dense=True)
    assert found.modules[Q].form == Form(FULL, ((".diff", TensorSpec("F16", (20, 30))),))
    assert found.modules[CONV].form == Form(FULL, ((".diff", TensorSpec("F16", (16, 8, 3, 3))),))
    assert found.modules[Q].rank == 20
    turned = lora(2)
    turned = replace(turned, modules={Q: replace(turned.modules[Q], spelling=Spelling("q", transposed=True))})
    form = spec(method, turned, turned, dense=True).modules[Q].form
    assert form is not None
    assert form.tensors[0][1].shape == (30, 20)


@pytest.mark.parametrize("method", DENSE)
@pytest.mark.parametrize(("ranks", "dense"), [(None, False), (Ranks(4), True)])
def test_one_of_the_two_must_be_said(method: str, ranks: Ranks | None, dense: bool) -> None:
    with pytest.raises(RecipeError) as caught:
        Combination(method, ranks=ranks, dense=dense)
    assert (caught.value.code, caught.value.option) == ("rank-or-dense", "dense" if dense else "method")
    hint = (
        "give one of the two"
        if dense
        else "give a 'rank', such as the largest of the LoRAs' own, or 'dense: true'"
    )
    how = "'rank' cuts and 'dense' keeps" if dense else "no factors hold exactly"
    assert str(caught.value) == f"error: '{method}' makes full matrices, which {how} - {hint}"


def test_added_factors_keep_their_rank_and_new_ones_add_up_to_the_full_one() -> None:
    assert spec("linear-factors", lora(4), lora(4)).modules[Q].rank == 4
    assert spec("linear-factors", lora(4), lora(4), ranks=Ranks(3)).modules[Q].rank == 3
    for method in ("null-space", "knots"):
        assert spec(method, lora(4), lora(3)).modules[Q].rank == 7
        assert spec(method, lora(14), lora(13)).modules[Q].rank == 20
        assert spec(method, lora(4), lora(3), ranks=Ranks(5)).modules[Q].rank == 5


def test_factors_that_cannot_be_added_are_named() -> None:
    with pytest.raises(RecipeError) as caught:
        spec("linear-factors", lora(4), lora(3))
    assert (caught.value.code, caught.value.module) == ("ranks-differ", str(Q))
    with pytest.raises(RecipeError) as caught:
        spec("linear-factors", lora(4), lora(4, {CONV: Form("LoHa")}))
    assert str(caught.value) == (
        "error: conv.weight: 'linear-factors' adds factors, and 'b' is LoHa here"
        " - svd-resize it first, or say 'method: sum', which adds deltas"
    )


def test_ranks_that_only_data_tell_are_compared_when_they_are_known() -> None:
    found = spec("linear-factors", lora(4, bounded=True), lora(3))
    assert found.bounded
    assert found.modules[Q].rank == 4


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_delta_is_refused_with_its_step_and_a_remedy(method: str) -> None:
    dora = lora(0, {Q: Form("DoRA", additive=False)})
    with pytest.raises(RecipeError) as caught:
        spec(method, lora(4), dora, ranks=Ranks(2))
    assert (caught.value.code, caught.value.module, caught.value.option) == (
        "not-additive",
        str(Q),
        "combine",
    )
    assert caught.value.message == (
        "'combine' takes LoRAs that add to a weight; 1 module of 'b' is DoRA, a function of the weight"
    )
    assert caught.value.hint == "merge it into a checkpoint and extract a LoRA from the difference"


def test_one_of_weight_0_is_not_asked_what_it_is() -> None:
    dora = lora(0, {Q: Form("DoRA", additive=False)})
    terms = [("a", 1.0, lora(4)), ("b", 0.0, dora), ("c", 1.0, lora(2))]
    assert combine_spec(terms, Combination("sum")).spec.modules[Q].rank == 6


@pytest.mark.parametrize("method", METHODS)
def test_biases_stay_what_they_are(method: str) -> None:
    form = Form(FULL, ((".diff_b", TensorSpec("F16", (20,))),))
    bias = ModuleSpec((20,), 1, Spelling("norm"), form)
    both = [replace(one, modules={**one.modules, BIAS: bias}) for one in (lora(4), lora(4))]
    assert spec(method, *both, ranks=Ranks(2)).modules[BIAS] == bias


@pytest.mark.parametrize("method", METHODS)
def test_what_was_hidden_stays_hidden(method: str) -> None:
    assert spec(method, lora(4, hidden=True), lora(4), ranks=Ranks(2)).hidden


def test_dellas_chances_are_seen_to_before_any_work() -> None:
    with pytest.raises(RecipeError, match="with a chance"):
        Combination("della", Settings(density=0.9), Ranks(2))
    Combination("ties", Settings(density=0.9), Ranks(2))
