"""What a merge refuses of modules that are no deltas, and what it has to hold of their weights."""

from __future__ import annotations

import pytest

from lorapipe.errors import RecipeError
from lorapipe.weights.blocks import OPERATED_ELEMENTS
from lorapipe.weights.inference.binding import Binding, Bound, bind
from lorapipe.weights.inference.cuts import ANYWHERE
from lorapipe.weights.inference.operating import Merged, check_operators, cuts_of, grown, held
from lorapipe.weights.specs import (
    AdapterSpec,
    CheckpointSpec,
    Form,
    ModuleId,
    ModuleSpec,
    Place,
    Spelling,
    TensorSpec,
)

KEY = "attn.qkv.weight"
TENSORS = {KEY: TensorSpec("F16", (12, 8)), "other.weight": TensorSpec("F16", (6, 8))}
PLAIN = CheckpointSpec(None, TENSORS, {key: (Place(key),) for key in TENSORS})

DORA = Form("DoRA", additive=False, cuts=((12, 1),))
OFT = Form("OFT", additive=False, cuts=((12, 4),))
ON_INPUT = Form("DoRA", additive=False)


def term(
    name: str,
    form: Form | None,
    rows: tuple[int, int] | None = None,
    shape: tuple[int, ...] | None = None,
    checkpoint: CheckpointSpec = PLAIN,
) -> Merged:
    """A LoRA of one module, bound."""
    module = ModuleId("", KEY, rows)
    spec = AdapterSpec(None, {module: ModuleSpec(shape or (12, 8), 0, Spelling("x"), form)}, "F16")
    binding = bind(spec, checkpoint)
    assert not binding.problems
    return name, spec, binding


def test_deltas_beside_an_operator_are_fine() -> None:
    check_operators([term("a", None), term("b", DORA), term("c", Form("LoHa"))], TENSORS)


def test_two_operators_on_a_weight_are_refused_with_both_names_and_the_way_out() -> None:
    with pytest.raises(RecipeError) as caught:
        check_operators([term("a", DORA), term("c", None), term("b", OFT)], TENSORS)
    error = caught.value
    assert (error.code, error.option, error.module) == ("two-operators", "loras", KEY)
    assert error.message == (
        "'a' (DoRA) and 'b' (OFT) are both functions of a weight, and which one comes first is not said"
    )
    assert error.hint == "merge them in two steps, one after the other"


def test_several_such_weights_are_counted() -> None:
    with pytest.raises(RecipeError, match="both functions of 3 weights"):
        check_operators([term("a", DORA), term("b", OFT), term("c", DORA)], TENSORS)


def test_operators_on_other_rows_of_a_weight_do_not_meet() -> None:
    q, v = term("q", DORA, (0, 4), (4, 8)), term("v", OFT, (8, 12), (4, 8))
    check_operators([q, v], TENSORS)
    with pytest.raises(RecipeError, match=r"'v' \(OFT\) and 'more' \(DoRA\)"):
        check_operators([q, v, term("more", DORA, (7, 9), (2, 8))], TENSORS)


def test_a_rule_that_a_program_has_not_is_refused_by_name() -> None:
    for rule in ("exact", "comfy", "lycoris"):
        check_operators([term("a", DORA), term("b", Form("LoHa"), (0, 4), (4, 8))][:1], TENSORS, rule)
    with pytest.raises(RecipeError) as caught:
        check_operators([term("a", Form("IA3", additive=False, cuts=ANYWHERE))], TENSORS, "comfy")
    error = caught.value
    assert (error.code, error.option) == ("no-strength-rule", "strength-rule")
    assert str(error) == (
        f"error: {KEY}: 'a' is IA3, which ComfyUI does not have"
        " - with 'strength-rule: exact' it has its one meaning"
    )


def test_a_rule_says_nothing_of_deltas() -> None:
    check_operators([term("a", None), term("b", Form("LoKr"))], TENSORS, "lycoris")


def test_cuts_are_counted_in_the_rows_that_are_bound() -> None:
    module = ModuleId("", KEY)
    assert cuts_of(OFT, Bound(module, KEY)) == ((12, 4),)
    assert cuts_of(OFT, Bound(module, KEY, part=(4, 12))) == ((8, 4),)
    assert cuts_of(OFT, Bound(module, KEY, transposed=True)) == ()


def test_a_padded_weight_has_the_shape_that_it_is_padded_to() -> None:
    padded = Form("padded LoRA", additive=False, grows=True)
    assert grown([term("a", padded, None, (12, 16))], TENSORS) == {
        KEY: TensorSpec("F16", (12, 16)),
        "other.weight": TENSORS["other.weight"],
    }
    assert grown([term("a", DORA)], TENSORS) is TENSORS


@pytest.mark.parametrize(("form", "rows"), [(DORA, 1), (OFT, 4), (ON_INPUT, 12)])
def test_what_is_held_is_a_slab_or_what_an_operator_has_to_see_at_once(form: Form, rows: int) -> None:
    assert held([term("a", form), term("b", None)], TENSORS) == 12 * 8
    large = {KEY: TensorSpec("F16", (12, OPERATED_ELEMENTS))}
    binding = Binding((Bound(ModuleId("", KEY), KEY),))
    assert held([("a", term("a", form)[1], binding)], large) == rows * OPERATED_ELEMENTS


def test_deltas_hold_nothing() -> None:
    assert held([term("a", None), term("b", Form("LoHa"))], TENSORS) == 0
