"""``concat``: the weighted sum, rank after rank."""

from __future__ import annotations

import numpy as np
import pytest

from lorapipe.errors import RecipeError
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Cost, Materialise
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling

from ..bench import KEYS, SHAPES, TE, TO_Q, Bench
from .kit import FILE, POINT, TEXT, Q, deltas, given, infer, load, lora, model, options, work, written

KIND = find_kind("concat")


def test_it_is_free_and_nothing_of_it_is_keyless() -> None:
    spec = lora()
    assert KIND.materialise is Materialise.LAZY
    assert KIND.keyless == frozenset()
    assert KIND.cost(given(concat=spec), options("concat"), spec) == Cost()


def test_ranks_add_up_module_by_module() -> None:
    a, b = lora(8, shapes={Q: (20, 20), TEXT: (24, 16)}), lora(12, shapes={Q: (20, 20), POINT: (20, 20)})
    spec = infer("concat", given(concat=[("a", 0.7, a), ("b", -0.4, b)]))
    assert {module: known.rank for module, known in spec.modules.items()} == {Q: 20, TEXT: 8, POINT: 12}


def test_a_term_of_weight_zero_is_dropped_and_nothing_left_is_an_error() -> None:
    a, b = lora(8), lora(12)
    spec = infer("concat", given(concat=[("a", 1.0, a), ("b", 0.0, b)]))
    assert {module.rank for module in spec.modules.values()} == {8}
    with pytest.raises(RecipeError) as caught:
        infer("concat", given(concat=[("a", 0.0, a)]))
    assert caught.value.code == "nothing-left"


@pytest.mark.parametrize(("dtypes", "common"), [(("F16", "F16"), "F16"), (("F16", "BF16"), "F32")])
def test_the_dtype_is_the_one_that_the_terms_share(dtypes: tuple[str, str], common: str) -> None:
    terms = [(name, 1.0, lora(dtype=dtype)) for name, dtype in zip("ab", dtypes, strict=True)]
    assert infer("concat", given(concat=terms)).dtype == common


def test_families_are_named_as_people_name_them() -> None:
    other = lora(family="sdxl", shapes={ModuleId("unet", "x"): (4, 4)})
    with pytest.raises(RecipeError) as caught:
        infer("concat", given(concat=[("char", 1.0, lora()), ("style", 1.0, other)]))
    assert caught.value.message == "'char' is for SD1.x, 'style' is for SDXL"


def test_shapes_that_disagree_are_named_with_the_module() -> None:
    with pytest.raises(RecipeError) as caught:
        infer("concat", given(concat=[("a", 1.0, lora()), ("b", 1.0, lora(shapes={Q: (20, 24)}))]))
    assert (caught.value.code, caught.value.module) == ("shapes-disagree", str(Q))


@pytest.mark.parametrize("wrong", [model(), FILE])
def test_only_loras_are_joined_and_the_other_is_named(wrong: object) -> None:
    with pytest.raises(RecipeError, match="'concat' takes a LoRA, 'b' is a"):
        infer("concat", given(concat=[("a", 1.0, lora()), ("b", 1.0, wrong)]))


def test_the_sum_is_exact_and_term_order_is_rank_order(bench: Bench) -> None:
    a = load(bench.lora("a", rank=8, alpha=4.0, seed=1))
    b = load(bench.lora("b", rank=12, alpha=None, seed=2))
    both = work("concat", given(concat=[("a", 0.7, a), ("b", -0.4, b)]))
    for stem, delta in deltas(both).items():
        exact = 0.7 * bench.deltas["a"][stem] - 0.4 * bench.deltas["b"][stem]
        np.testing.assert_allclose(delta, exact, atol=1e-6 * np.abs(exact).max())

    back = written(work("concat", given(concat=[("b", -0.4, b), ("a", 0.7, a)])))
    forth = written(both)
    up = f"{TO_Q}.lora_up.weight"
    np.testing.assert_array_equal(forth[up][:, :8], back[up][:, 12:])


def test_a_module_of_one_term_only_keeps_its_rank(bench: Bench) -> None:
    a = load(bench.lora("a", rank=8, modules={TO_Q: SHAPES[TO_Q]}))
    b = load(bench.lora("b", rank=2, modules={TE: SHAPES[TE]}, seed=1))
    both = work("concat", given(concat=[("a", 1.0, a), ("b", 1.0, b)]))
    assert isinstance(both.spec, AdapterSpec)
    tensors = written(both)
    assert tensors[f"{TO_Q}.lora_down.weight"].shape[0] == 8
    assert tensors[f"{TE}.lora_down.weight"].shape[0] == 2


def test_formats_join_with_loras_and_with_each_other(bench: Bench) -> None:
    a, b, c = load(bench.lycoris("a")), load(bench.lycoris("b", seed=1)), load(bench.lora("c", rank=3))
    both = work("concat", given(concat=[("a", 0.7, a), ("b", -0.4, b), ("c", 2.0, c)]))
    base = load(bench.checkpoint(dtype="float32"))
    merged = written(work("merge-into-checkpoint", given(merge_into_checkpoint=base, loras=both)))
    for stem, key in KEYS.items():
        exact = bench.weights["base"][key].reshape(SHAPES[stem][0], -1)
        for name, weight in (("a", 0.7), ("b", -0.4), ("c", 2.0)):
            exact = exact + weight * bench.deltas[name][stem]
        np.testing.assert_allclose(merged[key].reshape(exact.shape), exact, rtol=1e-6, atol=1e-5)


def test_a_sum_of_formats_is_saved_when_it_is_resized(bench: Bench) -> None:
    a, b = load(bench.lycoris("a")), load(bench.lora("b", rank=3))
    both = work("concat", given(concat=[("a", 0.7, a), ("b", -0.4, b)]))
    whole = deltas(work("svd-resize", given(svd_resize=both), rank=999))
    for stem, delta in whole.items():
        exact = 0.7 * bench.deltas["a"][stem] - 0.4 * bench.deltas["b"][stem]
        np.testing.assert_allclose(delta, exact, atol=1e-6 * np.abs(exact).max())


def test_what_is_no_delta_is_refused_beside_a_lora_by_name() -> None:
    dora = AdapterSpec(
        "sd1", {Q: ModuleSpec((20, 20), 0, Spelling("q"), Form("DoRA", additive=False))}, "F16"
    )
    with pytest.raises(RecipeError, match="'char' is LoRA here and 'style' DoRA") as caught:
        infer("concat", given(concat=[("char", 1.0, lora()), ("style", 1.0, dora)]))
    assert caught.value.code == "not-additive"
    alone = infer(
        "concat", given(concat=[("char", 1.0, lora(shapes={TEXT: (24, 16)})), ("style", 1.0, dora)])
    )
    assert alone.modules[Q] == dora.modules[Q]
