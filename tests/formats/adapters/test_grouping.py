"""The tensors of a module find each other, in any order and spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import InputError
from lorapipe.formats.adapters.grouping import Grouped, form_of, group_tensors
from lorapipe.formats.forms.lora import DOWN, UP
from lorapipe.formats.problems import Problems

from ..sources import HeaderSource


def grouped(*names: str) -> Grouped:
    problems = Problems(HeaderSource({}))
    found = group_tensors(names, problems)
    problems.check()
    return found


def roles(*names: str) -> dict[str, dict[str, str]]:
    return {path: group.tensors for path, group in grouped(*names).groups.items()}


NAMES = [
    "lora_unet_a.lora_up.weight", "lora_unet_a.lora_down.weight", "lora_unet_a.alpha",
    "lora_unet_a_.dora_scale",
    "base_model.model.b.lora_A.default.weight", "base_model.model.b.lora_B.default.weight",
    "unet.c.processor.to_out_lora.up.weight", "unet.c.processor.to_out_lora.down.weight",
    "d.up.weight", "d.down.weight", "e.weight", "e.on_input", "f.lora_A.weight", "f.lora_B.weight", "f.scale",
]  # fmt: skip
GROUPS = {
    "lora_unet_a": {UP: NAMES[0], DOWN: NAMES[1], ".alpha": NAMES[2], ".dora_scale": NAMES[3]},
    "b": {DOWN: NAMES[4], UP: NAMES[5]},
    "unet.c.to_out.0": {UP: NAMES[6], DOWN: NAMES[7]},
    "d": {UP: NAMES[8], DOWN: NAMES[9]},
    "e": {".weight": NAMES[10], ".on_input": NAMES[11]},
    "f": {DOWN: NAMES[12], UP: NAMES[13], ".scale": NAMES[14]},
}


@given(st.permutations(NAMES))
def test_any_order_of_tensors_gives_the_same_modules(names: list[str]) -> None:
    assert roles(*names) == GROUPS


def test_a_module_is_called_what_its_first_tensor_calls_it_and_up_keeps_its_word() -> None:
    group = grouped(*NAMES).groups["unet.c.to_out.0"]
    assert (group.stem, group.up) == ("unet.c.processor.to_out", "_lora.up.weight")
    group = grouped(*NAMES).groups["b"]
    assert (group.stem, group.up) == ("base_model.model.b", ".lora_B.weight")


@pytest.mark.parametrize(
    "names",
    [
        ("x.weight",),
        ("x.weight", "x.bias"),
        ("norm.scale",),
        ("x.up.weight",),
        ("x.down.weight",),
        ("lora_unet_x.weight", "lora_unet_y.lora_up.weight"),
        ("bundle_emb.x.lora_up.weight",),
    ],
)
def test_names_that_any_tensor_may_have_make_no_module(names: tuple[str, ...]) -> None:
    found = grouped(*names)
    assert set(found.rest) == {name for name in names if "lora_unet_y" not in name}


def test_a_parameter_beside_a_lora_is_no_part_of_it() -> None:
    found = grouped("x.lora_A.weight", "x.lora_B.weight", "x.weight")
    assert found.rest == ("x.weight",)
    assert found.groups["x"].roles == {UP, DOWN}


@pytest.mark.parametrize(
    "names",
    [
        ("x.lora_up.weight", "x.lora_B.weight"),
        ("x.lora_A.one.weight", "x.lora_A.two.weight"),
        ("x.alpha", "x_.alpha"),
        ("base_model.model.x.lora_A.weight", "x.lora_A.weight"),
    ],
)
def test_one_role_of_two_tensors_is_told_with_both(names: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=f"1 module written under two names: {names[0]} and {names[1]}"):
        grouped(*names)


def test_the_format_is_the_first_that_has_all_roles_and_of_which_none_is_missing() -> None:
    def name(*roles: str) -> str | None:
        form = form_of(frozenset(roles))
        return None if form is None else form.name

    assert name(UP, DOWN) == "LoRA"
    assert name(UP, DOWN, ".lora_mid.weight") == "Tucker LoRA"
    assert name(UP, DOWN, ".dora_scale") == "DoRA"
    assert name(UP, DOWN, ".lora_magnitude_vector") == "PEFT DoRA"
    assert name(".hada_w1_a") == "LoHa"
    assert name(".diff") == "full difference"
    assert name(".set_weight") == "full weight"
    assert name() is name(UP) is name(UP, DOWN, ".diff") is name(UP, ".hada_w1_a") is None
