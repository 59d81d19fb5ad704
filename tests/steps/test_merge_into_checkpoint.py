"""``merge-into-checkpoint``: W + the weighted deltas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lorapipe.errors import LorapipeError, RecipeError
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Materialise
from lorapipe.steps.merge_into_checkpoint import bindings
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling

from ..bench import KEYS, SHAPES, Bench
from .kit import CONV, FILE, POINT, TEXT, Q, given, infer, load, lora, model, options, work, written

NAME = "merge-into-checkpoint"
KIND = find_kind(NAME)
LOST = ModuleId("te", TEXT.key.replace("layers.0", "layers.11"))


def found(error: LorapipeError) -> list[LorapipeError]:
    return list(error.parts)


def merged(*terms: tuple[str, float, object], **said: str) -> object:
    return infer(NAME, given(merge_into_checkpoint=model(), loras=list(terms)), **said)


def test_it_is_free_and_its_policy_is_not_in_its_key() -> None:
    assert KIND.materialise is Materialise.LAZY
    assert KIND.keyless == {"unmatched"}
    assert options(NAME) == {"unmatched": "error", "strength-rule": "exact"}


def test_the_touched_tensors_are_foretold_and_all_else_stays() -> None:
    spec = merged(("a", 1.0, lora(shapes={Q: (20, 20)})), ("b", 0.0, lora()))
    assert spec.touched == {Q.key}  # type: ignore[attr-defined]
    assert spec.tensors == model().tensors  # type: ignore[attr-defined]


def test_merges_chain() -> None:
    first = merged(("a", 1.0, lora(shapes={Q: (20, 20)})))
    spec = infer(NAME, given(merge_into_checkpoint=first, loras=lora(shapes={CONV: (20, 12, 3, 3)})))
    assert spec.touched == {Q.key, CONV.key}


def test_no_lora_that_adds_anything_is_an_error() -> None:
    with pytest.raises(RecipeError) as caught:
        merged(("a", 0.0, lora()))
    assert (caught.value.code, caught.value.option) == ("nothing-left", "loras")


def test_a_module_without_a_place_is_an_error_unless_the_recipe_says_otherwise() -> None:
    odd = lora(shapes={Q: (20, 20), LOST: (24, 16)})
    with pytest.raises(LorapipeError) as caught:
        merged(("char", 1.0, odd))
    (error,) = found(caught.value)
    assert error.message == "1 of 2 modules of 'char' has no place in the checkpoint"
    assert error.details[0].startswith(f"{LOST.key}: the checkpoint has no such weight (nearest: {TEXT.key}")

    inputs = given(merge_into_checkpoint=model(), loras=[("char", 1.0, odd)])
    for policy, warnings in (("warn", 1), ("ignore", 0)):
        assert infer(NAME, inputs, unmatched=policy).touched == {Q.key}
        assert len(KIND.warn(inputs, options(NAME, unmatched=policy), model())) == warnings


def test_each_lora_that_does_not_fit_is_told_of() -> None:
    odd = lora(shapes={LOST: (24, 16)})
    with pytest.raises(LorapipeError) as caught:
        merged(("a", 1.0, odd), ("b", 1.0, lora()), ("c", 1.0, odd))
    assert [error.message[-40:] for error in found(caught.value)] == [
        "es of 'a' has no place in the checkpoint"[-40:],
        "es of 'c' has no place in the checkpoint"[-40:],
    ]


def test_a_name_with_line_breaks_cannot_pass_for_a_line_of_its_own() -> None:
    odd = lora(family=None, shapes={ModuleId("", "x\nr.yaml:1:1: error: y\r\nz"): (4, 4)})
    with pytest.raises(LorapipeError) as caught:
        infer(NAME, given(merge_into_checkpoint=model(None), loras=odd))
    (error,) = found(caught.value)
    assert error.details[0].startswith("x r.yaml:1:1: error: y z: the checkpoint has no such weight")


def test_families_are_named_as_people_name_them() -> None:
    with pytest.raises(RecipeError) as caught:
        merged(("char", 1.0, lora(family="sdxl")))
    assert caught.value.message == "'char' is for SDXL, the checkpoint is SD1.x"
    assert caught.value.option == "loras"


@pytest.mark.parametrize("wrong", [lora(), FILE])
def test_the_base_is_a_checkpoint(wrong: object) -> None:
    with pytest.raises(RecipeError) as caught:
        infer(NAME, given(merge_into_checkpoint=wrong, loras=lora()))
    assert (caught.value.code, caught.value.option) == ("wrong-type", NAME)


@pytest.mark.parametrize("wrong", [model(), FILE])
def test_what_is_merged_is_a_lora(wrong: object) -> None:
    with pytest.raises(RecipeError, match="'loras' takes a LoRA, 'b' is a"):
        merged(("a", 1.0, lora()), ("b", 1.0, wrong))


def test_the_cost_is_the_products() -> None:
    inputs = given(merge_into_checkpoint=model(), loras=lora(4, shapes={Q: (20, 20), POINT: (20, 20)}))
    cost = KIND.cost(inputs, options(NAME), infer(NAME, inputs))
    assert (cost.read, cost.written, cost.flops) == (0, 0, 2 * 2 * 20 * 20 * 4)


def operator(name: str) -> AdapterSpec:
    """A LoRA of one module that is a function of the weight."""
    known = lora(shapes={Q: (20, 20)})
    form = Form(name, additive=False, cuts=((20, 1),))
    return replace(known, modules={Q: ModuleSpec((20, 20), 0, Spelling("x"), form)})


def test_two_functions_of_one_weight_are_refused_with_the_steps_names() -> None:
    with pytest.raises(RecipeError) as caught:
        merged(("char", 1.0, operator("DoRA")), ("b", 1.0, lora()), ("style", 0.5, operator("OFT")))
    assert (caught.value.code, caught.value.option) == ("two-operators", "loras")
    assert caught.value.message.startswith("'char' (DoRA) and 'style' (OFT) are both functions of a weight")


def test_of_two_functions_one_may_have_weight_0_or_a_merge_of_its_own() -> None:
    merged(("char", 1.0, operator("DoRA")), ("style", 0.0, operator("OFT")))
    first = merged(("char", 1.0, operator("DoRA")))
    infer(NAME, given(merge_into_checkpoint=first, loras=operator("OFT")))


def test_a_strength_rule_is_one_that_the_program_has() -> None:
    one = ("char", 1.0, operator("IA3"))
    merged(one, strength_rule="lycoris")
    with pytest.raises(RecipeError) as caught:
        merged(one, strength_rule="comfy")
    assert (caught.value.code, caught.value.option) == ("no-strength-rule", "strength-rule")
    assert caught.value.message == "'char' is IA3, which ComfyUI does not have"


def test_a_strength_rule_says_nothing_of_loras_that_add() -> None:
    assert merged(("a", 0.5, lora()), strength_rule="comfy") == merged(("a", 0.5, lora()))


def test_bindings_say_which_lora_goes_where() -> None:
    ((step, weight, spec, binding),) = bindings(
        given(merge_into_checkpoint=model(), loras=[("a", 0.5, lora())])
    )
    assert (step, weight, spec) == ("a", 0.5, lora())
    assert [bound.key for bound in binding.bound] == [Q.key, POINT.key, CONV.key, TEXT.key]


def test_the_sum_is_made_when_it_is_written(bench: Bench) -> None:
    base = load(bench.checkpoint(dtype="float32"))
    a = load(bench.lora("a", rank=8, alpha=4.0))
    made = work(NAME, given(merge_into_checkpoint=base, loras=[("a", -0.5, a)]))
    tensors = written(made)
    for stem, key in KEYS.items():
        exact = bench.weights["base"][key] - 0.5 * bench.deltas["a"][stem].reshape(SHAPES[stem])
        np.testing.assert_allclose(tensors[key], exact, rtol=1e-6, atol=1e-6)
    bias = "model.diffusion_model.input_blocks.1.1.proj_in.bias"
    np.testing.assert_array_equal(tensors[bias], bench.weights["base"][bias])
