"""``combine``: LoRAs merged by the methods of the field."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from lorapipe.errors import RecipeError
from lorapipe.recipe.parsing import parse
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Context, Materialise
from lorapipe.weights.inference.methods import METHODS, Result
from lorapipe.weights.specs import AdapterSpec, Form, ModuleSpec, Spelling

from ..bench import CONV1, KEYS, TO_Q, Bench
from ..recipe.complaints import HEAD, complaints, of_step
from .kit import CONV, FILE, POINT, TEXT, Q, deltas, given, infer, load, lora, model, options, work, written

KIND = find_kind("combine")


def loras(bench: Bench, *weights: float, **said: Any) -> Any:
    """The port's terms: LoRAs of the bench, by name, weight and value."""
    terms = zip("abc", weights, strict=False)
    return given(combine=[(n, w, load(bench.lora(n, seed=i, **said))) for i, (n, w) in enumerate(terms)])


def two(rank: int = 4) -> Any:
    return given(combine=[("a", 1.0, lora(rank)), ("b", 0.5, lora(rank))])


def trimmed(matrix: Any, density: float) -> Any:
    least = np.sort(np.abs(matrix).ravel())[::-1][int(density * matrix.size) - 1]
    return np.where(np.abs(matrix) >= least, matrix, 0.0)


def test_its_result_is_kept_in_the_store_by_all_its_options() -> None:
    assert KIND.materialise is Materialise.STORED
    assert KIND.keyless == frozenset()


def test_each_sort_of_module_has_its_rank() -> None:
    spec = infer("combine", two(), method="ties", density=0.5, rank=9, conv_rank=2, conv1x1_rank=3)
    assert {m: known.rank for m, known in spec.modules.items()} == {Q: 9, TEXT: 9, POINT: 3, CONV: 2}


def test_without_a_rank_the_ranks_of_an_exact_method_add_up() -> None:
    spec = infer("combine", two(), method="karcher")
    assert {known.rank for known in spec.modules.values()} == {8}


def test_magnitude_prune_from_files_to_a_file(bench: Bench) -> None:
    inputs = loras(bench, 1.0, -0.5)
    found = deltas(work("combine", inputs, method="magnitude-prune", density=0.3, rank=64))
    for stem in KEYS:
        exact = trimmed(bench.deltas["a"][stem], 0.3) - 0.5 * trimmed(bench.deltas["b"][stem], 0.3)
        assert np.linalg.norm(found[stem] - exact) < 1e-6 * np.linalg.norm(exact)


def test_dense_is_saved_as_full_differences_kernels_and_all(bench: Bench) -> None:
    inputs = loras(bench, 1.0, -0.5)
    made = work("combine", inputs, method="magnitude-prune", density=0.3, dense=True)
    tensors = written(made, dtype="fp32")
    assert set(tensors) == {f"{stem}.diff" for stem in KEYS}
    assert tensors[f"{CONV1}.diff"].shape == (20, 12, 3, 3)
    for stem in KEYS:
        exact = trimmed(bench.deltas["a"][stem], 0.3) - 0.5 * trimmed(bench.deltas["b"][stem], 0.3)
        np.testing.assert_allclose(tensors[f"{stem}.diff"].flatten(1).numpy(), exact, atol=1e-6)


def test_linear_factors_has_the_cross_terms(bench: Bench) -> None:
    """What merge_lora.py and PEFT's linear make: the product of the summed factors."""
    inputs = loras(bench, 0.6, -0.8)
    made = deltas(work("combine", inputs, method="linear-factors"))
    values = [term.value.delta(next(iter(term.value.modules))) for term in inputs.terms("combine")]
    ups, downs = [], []
    for weight, value in zip((0.6, -0.8), values, strict=True):
        (term,) = value.terms
        factors, root = term.structure.load(), np.sqrt(abs(weight) * term.coefficient)
        ups.append(root * factors.up.double().numpy())
        downs.append(np.sign(weight) * root * factors.down.double().numpy())
    exact = sum(ups) @ sum(downs)
    stem = next(
        s for s, key in KEYS.items() if key == str(next(iter(inputs.terms("combine")[0].value.modules)))
    )
    np.testing.assert_allclose(made[stem], exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_a_file_that_is_as_foretold(bench: Bench, method: str) -> None:
    dense = METHODS[method].result is Result.DENSE
    told: dict[str, Any] = {}
    found = work(
        "combine",
        loras(bench, 1.0, 0.5),
        Context(note=told.__setitem__),
        method=method,
        rank=5,
        **({"density": 0.5} if dense or method == "knots" else {}),
    )
    assert {m: known.rank for m, known in found.spec.modules.items()} == {
        m: min(5, 4 if method == "linear-factors" else 5) for m in found.spec.modules
    }
    assert deltas(found).keys() == KEYS.keys()
    if method != "linear-factors":
        assert set(told["energy"]) == set(KEYS.values())
        assert all(0.0 < energy <= 1.0 for energy in told["energy"].values())


@pytest.mark.parametrize("wrong", [model(), FILE])
def test_only_loras_are_combined(wrong: object) -> None:
    with pytest.raises(RecipeError) as caught:
        infer("combine", given(combine=[("a", 1.0, lora()), ("b", 1.0, wrong)]), method="sum")
    assert (caught.value.code, caught.value.option) == ("wrong-type", "combine")


def test_what_is_no_delta_is_refused_by_the_steps_name() -> None:
    modules = {Q: ModuleSpec((20, 20), 0, Spelling("q"), Form("DoRA", additive=False))}
    dora = AdapterSpec("sd1", modules, "F16")
    with pytest.raises(RecipeError) as caught:
        infer("combine", given(combine=[("a", 1.0, lora()), ("dora", 1.0, dora)]), method="sum")
    assert caught.value.code == "not-additive"
    assert "1 module of 'dora' is DoRA" in caught.value.message


def test_where_all_weights_are_0_nothing_is_left() -> None:
    with pytest.raises(RecipeError) as caught:
        infer("combine", given(combine=[("a", 0.0, lora()), ("b", 0.0, lora())]), method="slerp")
    assert caught.value.code == "nothing-left"


def test_two_families_are_not_combined() -> None:
    with pytest.raises(RecipeError) as caught:
        infer("combine", given(combine=[("a", 1.0, lora()), ("b", 1.0, lora(family="sdxl"))]), method="sum")
    assert caught.value.code == "family-mismatch"


def test_the_first_that_counts_names_the_modules(bench: Bench) -> None:
    made = work("combine", loras(bench, 0.0, 1.0), method="sum")
    assert f"{TO_Q}.lora_up.weight" in written(made)


def test_a_matrix_costs_its_decomposition_and_an_exact_mean_next_to_nothing() -> None:
    def cost(**said: Any) -> Any:
        return KIND.cost(two(), options("combine", **said), infer("combine", two(), **said))

    thin, cut = cost(method="karcher"), cost(method="ties", density=0.5, rank=4)
    wide = cost(method="ties", density=0.5, dense=True)
    assert cut.flops > wide.flops
    largest = 20 * 12 * 9
    assert cut.each == 8 * ((2 + 5) * largest + 4 * 20**2)
    assert thin.written == 8 * sum(8 * (m.shape[0] + m.columns) for m in lora().modules.values())
    assert cut.written == 8 * sum(4 * (m.shape[0] + m.columns) for m in lora().modules.values())
    assert wide.written == 8 * sum(m.shape[0] * m.columns for m in lora().modules.values())
    assert wide.kept == wide.written


def warned(inputs: Any, **said: Any) -> tuple[str, ...]:
    return KIND.warn(inputs, options("combine", **said), infer("combine", inputs, **said))


def test_one_is_told_of_minutes_before_they_pass() -> None:
    assert warned(two(), method="ties", density=0.5, rank=4) == ()
    shapes = {Q: (10240, 1280), POINT: (1280, 1280)} | {
        Q.__class__("unet", f"m{i}.weight"): (5120, 5120) for i in range(4)
    }
    large = given(combine=[("a", 1.0, lora(shapes=shapes)), ("b", 1.0, lora(shapes=shapes))])
    (told,) = warned(large, method="ties", density=0.5, rank=4)
    assert re.fullmatch(
        r"'ties' decomposes whole matrices: some [23] minutes on two cores"
        r" \('dense: true' does without, in a larger file\)",
        told,
    )
    assert warned(large, method="slerp") == ()


def test_one_is_told_that_two_cannot_outvote_each_other() -> None:
    (told,) = warned(two(), method="ties", density=0.5, rank=4, elect="frequency")
    assert told.startswith("'elect: frequency' counts LoRAs")
    three = given(combine=[(name, 1.0, lora()) for name in "abc"])
    assert warned(three, method="ties", density=0.5, rank=4, elect="frequency") == ()


def complaint(options: str) -> list[str]:
    """What validate says of a step with these options, without its places."""
    found = of_step(f"{{combine: {{a: 1.0, b: 0.5}}, {options}}}")
    return [error.partition("error: ")[2].splitlines()[0] for error in found]


def test_validate_says_whose_option_it_is() -> None:
    (found,) = complaint("method: sum, density: 0.4")
    assert found == (
        "'density' goes with method ties, dare-linear, dare-ties, della, breadcrumbs, sce, knots or "
        "magnitude-prune, not 'sum'"
    )
    assert complaint("method: karcher, t: 0.4") == ["'t' goes with method: slerp, not 'karcher'"]
    assert complaint("method: knots, density: 0.4, dense: true")[0].startswith(
        "'dense' goes with method ties"
    )


def test_validate_says_what_a_method_needs() -> None:
    assert complaint("method: ties, rank: 4") == ["combine needs 'density' - such as density: 0.5"]
    assert complaint("method: ties, density: 0.5") == ["combine needs 'rank' or 'dense' - such as rank: 32"]
    assert complaint("method: slerp, conv-rank: 4") == ["combine needs 'rank' - such as rank: 32"]
    assert complaint("rank: 4") == ["combine needs 'method' - such as method: sum"]


@pytest.mark.parametrize("density", ["0", "-0.5", "1.5", "x"])
def test_validate_refuses_a_density_that_is_none(density: str) -> None:
    (found,) = complaint(f"method: ties, rank: 4, density: {density}")
    assert found.startswith("'density' takes a number above 0, at most 1, or $(name), not")


def test_validate_refuses_a_rank_of_zero() -> None:
    (found,) = complaint("method: sum, rank: 0")
    assert found == "'rank' takes a whole number from 1, or $(name), not 0"


def test_a_method_may_be_a_param_and_is_then_checked_by_its_value() -> None:
    step = "  x: {combine: [a, b], method: $(m), density: 0.5, rank: 4}\n"
    text = HEAD.replace("steps:", "params: {m: ties}\nsteps:") + step
    assert parse(text).steps["x"].params["method"] == "ties"
    (error,) = complaints(text, {"m": "slerp"})
    assert "'density' goes with method" in error
