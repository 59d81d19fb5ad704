"""``svd-resize``: the best LoRA of given ranks."""

from __future__ import annotations

import numpy as np
import pytest

from lorapipe.errors import RecipeError
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Context, Materialise
from lorapipe.weights.specs import AdapterSpec, Form, ModuleSpec, Spelling

from ..bench import CONV1, KEYS, PROJ_IN, TO_Q, Bench
from .kit import CONV, FILE, POINT, TEXT, Q, deltas, given, infer, load, lora, model, options, work

KIND = find_kind("svd-resize")


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
