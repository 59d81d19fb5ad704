"""Which program has a rule for which format."""

from __future__ import annotations

import pytest

from lorapipe.formats.adapters.dialects import forms
from lorapipe.recipe.language import core_language
from lorapipe.weights.strength import PROGRAMS, RULES, defined, undefined

READ = {
    "comfy": {"DoRA", "OFT", "GLoRA", "full weight", "padded LoRA"},
    "lycoris": {"DoRA", "OFT", "GLoRA", "IA3"},
}
"""Of the formats by their tensors; BOFT is OFT's blocks with four axes."""


@pytest.mark.parametrize("rule", PROGRAMS)
def test_a_program_has_rules_for_the_formats_that_it_reads(rule: str) -> None:
    assert {form.name for form in forms() if not form.additive and defined(rule, form.name)} == READ[rule]
    assert defined(rule, "BOFT")


def test_the_exact_rule_is_for_everything() -> None:
    assert all(defined("exact", form.name) for form in forms())


def test_the_rules_are_those_that_a_recipe_can_say() -> None:
    option = core_language().kind("merge-into-checkpoint").options["strength-rule"]
    assert tuple(option.choices) == RULES
    assert {"exact", *PROGRAMS} == set(RULES)


def test_a_rule_that_is_none_names_both() -> None:
    error = undefined("comfy", "IA3")
    assert str(error) == "error: ComfyUI has no IA3, and so no rule for its strength"
