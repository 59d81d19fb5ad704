"""``shuffle``: the same deltas in other factors."""

from __future__ import annotations

import numpy as np
import pytest

from lorapipe.errors import RecipeError
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Context, Materialise
from lorapipe.weights.specs import AdapterSpec, Form, ModuleSpec, Spelling

from ..bench import TO_Q, Bench
from .kit import FILE, TEXT, Q, deltas, given, infer, load, lora, model, options, work, written

KIND = find_kind("shuffle")


def test_its_result_is_kept_in_the_store_by_seed_and_mode() -> None:
    assert KIND.materialise is Materialise.STORED
    assert KIND.keyless == frozenset()
    assert options("shuffle") == {"seed": 0, "mode": "rotate"}


def test_what_follows_is_hidden_and_no_rank_is_above_the_full_one() -> None:
    spec = infer("shuffle", given(shuffle=lora(30, metadata={"ss_output_name": "secret"})))
    assert spec.hidden
    assert "ss_output_name" not in spec.metadata
    assert {module: known.rank for module, known in spec.modules.items()}[Q] == 20
    assert spec.modules[TEXT].rank == 16


def test_permute_keeps_every_rank_and_says_that_it_hides_nothing() -> None:
    inputs = given(shuffle=lora(30))
    spec = infer("shuffle", inputs, mode="permute")
    assert {known.rank for known in spec.modules.values()} == {30}
    assert KIND.warn(inputs, options("shuffle"), inputs.one("shuffle")) == ()
    (warning,) = KIND.warn(inputs, options("shuffle", mode="permute"), inputs.one("shuffle"))
    assert "hides nothing" in warning


def test_the_cost_is_what_it_stores_and_the_modules_at_work() -> None:
    spec = lora(4)
    inputs = given(shuffle=spec)
    out = infer("shuffle", inputs)
    cost = KIND.cost(inputs, options("shuffle"), out)
    elements = sum(4 * (m.shape[0] + m.columns) for m in spec.modules.values())
    largest = max(4 * (m.shape[0] + m.columns) for m in spec.modules.values())
    assert (cost.read, cost.written, cost.kept) == (0, 8 * elements, 8 * elements)
    assert cost.each == 8 * 4 * largest
    double = KIND.cost(given(shuffle=lora(8)), options("shuffle"), out)
    assert double.flops > cost.flops > 0


@pytest.mark.parametrize("wrong", [model(), FILE])
def test_only_a_lora_is_shuffled(wrong: object) -> None:
    with pytest.raises(RecipeError) as caught:
        infer("shuffle", given(shuffle=wrong))
    assert (caught.value.code, caught.value.option) == ("wrong-type", "shuffle")


@pytest.mark.parametrize("mode", ["rotate", "permute"])
def test_the_delta_stays_and_the_factors_do_not(bench: Bench, mode: str) -> None:
    loaded = load(bench.lora("a", rank=6))
    mixed = work("shuffle", given(shuffle=loaded), seed=3, mode=mode)
    for stem, delta in deltas(mixed).items():
        exact = bench.deltas["a"][stem]
        np.testing.assert_allclose(delta, exact, atol=1e-6 * np.abs(exact).max())
    up = f"{TO_Q}.lora_up.weight"
    assert not np.allclose(written(mixed, dtype="fp32")[up], written(loaded)[up])


def test_the_seed_decides_and_nothing_else_does(bench: Bench) -> None:
    loaded = load(bench.lora("a", rank=6))
    up = f"{TO_Q}.lora_up.weight"

    def factor(seed: int, context: Context | None = None) -> object:
        return written(work("shuffle", given(shuffle=loaded), context, seed=seed), dtype="fp32")[up]

    np.testing.assert_array_equal(factor(3), factor(3, Context(each=lambda f, items: map(f, list(items)))))
    assert not np.array_equal(factor(3), factor(4))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["rotate", "permute"])
def test_other_formats_become_plain_factors_of_the_same_deltas(bench: Bench, mode: str) -> None:
    loaded = load(bench.lycoris("a"))
    found = deltas(work("shuffle", given(shuffle=loaded), seed=3, mode=mode))
    assert found.keys() == bench.deltas["a"].keys()
    for stem, delta in found.items():
        exact = bench.deltas["a"][stem]
        np.testing.assert_allclose(delta, exact, atol=1e-6 * np.abs(exact).max())


def test_what_is_no_delta_is_refused_before_any_work() -> None:
    modules = {Q: ModuleSpec((20, 20), 0, Spelling("q"), Form("OFT", additive=False))}
    with pytest.raises(RecipeError) as caught:
        infer("shuffle", given(shuffle=AdapterSpec("sd1", modules, "F16")))
    assert (caught.value.code, caught.value.option) == ("not-additive", "shuffle")
