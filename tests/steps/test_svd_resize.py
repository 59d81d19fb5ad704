"""``svd-resize``: the best LoRA of given ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lorapipe.errors import RecipeError
from lorapipe.recipe.language import core_language
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Context, Materialise
from lorapipe.weights.inference.ranks import RULES
from lorapipe.weights.specs import AdapterSpec, Form, ModuleSpec, Spelling

from ..bench import CONV1, KEYS, PROJ_IN, TE, TO_Q, Bench
from .kit import CONV, FILE, POINT, TEXT, Q, deltas, given, infer, load, lora, model, options, work

KIND = find_kind("svd-resize")
LANGUAGES = [core_language().kind(name) for name in ("svd-resize", "extract-lora")]


def ranks(**said: int) -> dict[object, int]:
    spec = infer("svd-resize", given(svd_resize=lora(10)), **said)
    return {module: known.rank for module, known in spec.modules.items()}


def test_its_result_is_kept_in_the_store_by_all_its_options() -> None:
    assert KIND.materialise is Materialise.STORED
    assert KIND.keyless == frozenset()


def test_each_sort_of_module_has_its_rank_and_those_not_named_the_first() -> None:
    assert ranks(rank=4) == {Q: 4, TEXT: 4, POINT: 4, CONV: 4}
    assert ranks(rank=4, conv_rank=2) == {Q: 4, TEXT: 4, POINT: 4, CONV: 2}
    assert ranks(rank=4, conv1x1_rank=3) == {Q: 4, TEXT: 4, POINT: 3, CONV: 4}
    assert ranks(rank=4, conv_rank=6, conv1x1_rank=5) == {Q: 4, TEXT: 4, POINT: 5, CONV: 6}


def test_a_rank_is_never_raised_and_never_above_the_full_one() -> None:
    assert set(ranks(rank=64).values()) == {10}
    spec = infer("svd-resize", given(svd_resize=lora(40)), rank=64)
    assert spec.modules[TEXT].rank == 16
    assert spec.modules[Q].rank == 20


def test_a_module_within_its_target_costs_no_arithmetic() -> None:
    inputs = given(svd_resize=lora(4))
    same, less = infer("svd-resize", inputs, rank=4), infer("svd-resize", inputs, rank=2)
    assert KIND.cost(inputs, options("svd-resize", rank=4), same).flops == 0
    cost = KIND.cost(inputs, options("svd-resize", rank=2), less)
    assert cost.flops > 0
    assert cost.written == 8 * less.elements
    largest = max(module.elements for module in lora(4).modules.values())
    assert (cost.each, cost.kept) == (8 * 4 * largest, 8 * less.elements)


@pytest.mark.parametrize("wrong", [model(), FILE])
def test_only_a_lora_is_resized(wrong: object) -> None:
    with pytest.raises(RecipeError) as caught:
        infer("svd-resize", given(svd_resize=wrong), rank=4)
    assert (caught.value.code, caught.value.option) == ("wrong-type", "svd-resize")


def test_the_truncation_is_optimal_and_its_energy_is_told(bench: Bench) -> None:
    told: dict[str, object] = {}
    loaded = load(bench.lora("a", rank=8))
    small = work("svd-resize", given(svd_resize=loaded), Context(note=told.__setitem__), rank=4, conv_rank=3)

    energy = told["energy"]
    assert isinstance(energy, dict)
    for stem, delta in deltas(small).items():
        exact = bench.deltas["a"][stem]
        singular = np.linalg.svd(exact, compute_uv=False)
        rank = 3 if stem == CONV1 else 4
        assert np.linalg.norm(delta - exact) <= 1.0001 * np.linalg.norm(singular[rank:])
        kept = (singular[:rank] ** 2).sum() / (singular**2).sum()
        assert energy[KEYS[stem]] == pytest.approx(kept, rel=1e-6)


def test_a_module_within_its_target_passes_as_it_is(bench: Bench) -> None:
    loaded = load(bench.lora("a", rank=4))
    small = work("svd-resize", given(svd_resize=loaded), rank=4, conv1x1_rank=2)
    before, after = deltas(loaded), deltas(small)
    np.testing.assert_array_equal(after[TO_Q], before[TO_Q])
    assert not np.array_equal(after[PROJ_IN], before[PROJ_IN])


def test_the_rules_are_those_of_an_extraction() -> None:
    rules = [language.closed["properties"]["dynamic"]["properties"] for language in LANGUAGES]
    assert rules[0] == rules[1]
    assert set(rules[0]) == set(RULES)


def test_other_formats_become_the_nearest_loras(bench: Bench) -> None:
    loaded = load(bench.lycoris("a"))
    small = work("svd-resize", given(svd_resize=loaded), rank=3, conv_rank=2)
    found = deltas(small)
    assert found.keys() == KEYS.keys()
    for stem, delta in found.items():
        exact = bench.deltas["a"][stem]
        rank = 2 if stem == CONV1 else 3
        best = np.linalg.norm(np.linalg.svd(exact, compute_uv=False)[rank:])
        assert np.linalg.norm(delta - exact) <= 1.0001 * best + 1e-6 * np.linalg.norm(exact)


def test_a_format_costs_arithmetic_at_any_rank() -> None:
    modules = {Q: ModuleSpec((20, 20), 4, Spelling("q"), Form("LoHa"))}
    inputs = given(svd_resize=AdapterSpec("sd1", modules, "F16"))
    made = infer("svd-resize", inputs, rank=4)
    assert made.modules[Q] == ModuleSpec((20, 20), 4, Spelling("q"))
    assert KIND.cost(inputs, options("svd-resize", rank=4), made).flops > 0


def test_what_is_no_delta_is_refused_before_any_work() -> None:
    modules = {Q: ModuleSpec((20, 20), 0, Spelling("q"), Form("DoRA", additive=False))}
    with pytest.raises(RecipeError) as caught:
        infer("svd-resize", given(svd_resize=AdapterSpec("sd1", modules, "F16")), rank=4)
    assert (caught.value.code, caught.value.option) == ("not-additive", "svd-resize")
    assert "extract a LoRA" in str(caught.value.hint)


# --- ranks by block -----------------------------------------------------------------------


def refused(**said: Any) -> tuple[str, str | None]:
    with pytest.raises(RecipeError) as caught:
        infer("svd-resize", given(svd_resize=lora(10)), **said)
    return str(caught.value).removeprefix("error: "), caught.value.option


def by_block(**said: Any) -> dict[object, int]:
    spec = infer("svd-resize", given(svd_resize=lora(10)), **said)
    return {module: known.rank for module, known in spec.modules.items()}


BLOCK_DIMS = [2, 3, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12, 16, 12, 12, 12, 12, 8, 8, 8, 8, 4, 4, 4, 2]


def test_blocks_have_ranks_of_their_own_by_sort_of_kernel() -> None:
    found = by_block(rank={"default": 5, "blocks": {"IN*": 3}}, conv_rank=2)
    assert found == {Q: 3, POINT: 3, CONV: 2, TEXT: 5}
    found = by_block(rank=5, conv_rank={"blocks": {"IN01": 4}, "default": 1}, conv1x1_rank=6)
    assert found == {Q: 5, POINT: 6, CONV: 4, TEXT: 5}


@pytest.mark.parametrize("values", [BLOCK_DIMS, ",".join(map(str, BLOCK_DIMS))])
def test_kohyas_block_dims_are_ranks(values: Any) -> None:
    """25 values without text encoder; input_blocks.1 is the second."""
    assert by_block(rank={"default": 7, "blocks": values}) == {Q: 3, POINT: 3, CONV: 3, TEXT: 7}
    assert by_block(rank={"blocks": {"list": values, "BASE": 6}}) == {Q: 3, POINT: 3, CONV: 3, TEXT: 6}


def test_a_block_without_a_rank_is_an_error() -> None:
    assert refused(rank={"blocks": BLOCK_DIMS}) == (
        "'rank' says nothing of BASE, which the LoRA has - say it with a default: {default: 16, blocks: ...}",
        "rank",
    )
    assert refused(rank=4, conv_rank={"blocks": {"MID": 4}})[1] == "conv-rank"


@pytest.mark.parametrize(("value", "hint"), [("0", " - filter leaves out modules"), ("2.5", ""), ("-1", "")])
def test_a_rank_in_a_text_is_a_whole_number_from_1(value: str, hint: str) -> None:
    values = ",".join([value, *map(str, BLOCK_DIMS[1:])])
    text, option = refused(rank={"default": 4, "blocks": values})
    assert text.startswith(f"a rank is a whole number from 1, not {value}{hint}")
    assert option == "rank"


def test_a_block_that_the_family_lacks_is_an_error() -> None:
    text, option = refused(rank={"default": 4, "blocks": {"OUT12": 4}})
    assert text.startswith("SD1.x has no block 'OUT12'")
    assert option == "rank"


def test_each_block_is_truncated_to_its_own_best(bench: Bench) -> None:
    loaded = load(bench.lora("a", rank=8))
    small = work(
        "svd-resize", given(svd_resize=loaded), rank={"default": 2, "blocks": {"IN01": 5}}, conv_rank=3
    )
    due = {TE: 2, TO_Q: 5, PROJ_IN: 5, CONV1: 3}
    for stem, delta in deltas(small).items():
        exact = bench.deltas["a"][stem]
        best = np.linalg.norm(np.linalg.svd(exact, compute_uv=False)[due[stem] :])
        assert np.linalg.matrix_rank(delta, tol=1e-3) == due[stem]
        assert np.linalg.norm(delta - exact) <= 1.0001 * best


def test_a_rule_keeps_within_the_ranks_of_blocks(bench: Bench) -> None:
    loaded = load(bench.lora("a", rank=8))
    said: Any = {"rank": {"default": 8, "blocks": {"IN01": 2}}, "dynamic": {"sv-fro": 1.0}}
    small = KIND.work(given(svd_resize=loaded), options("svd-resize", **said), Context())
    small.check(infer("svd-resize", given(svd_resize=loaded.spec), **said))
    found = {str(module): known.rank for module, known in small.spec.modules.items()}
    assert found == {KEYS[TE]: 8, KEYS[TO_Q]: 2, KEYS[PROJ_IN]: 2, KEYS[CONV1]: 2}
