"""What keeps two LoRAs, or two checkpoints, from being compared, and what headers show to differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.comparing import differ, incomparable
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleId, ModuleSpec, Spelling, TensorSpec

TITLES = {"sd1": "SD1.x", "sdxl": "SDXL"}


def lora(
    *keys: str, family: str | None = "sd1", shape: tuple[int, ...] = (8, 6), rank: int = 4
) -> AdapterSpec:
    modules = {ModuleId("unet", key): ModuleSpec(shape, rank, Spelling(f"lora_{key}")) for key in keys}
    return AdapterSpec(family, modules, "F32")


def model(**shapes: tuple[int, ...]) -> CheckpointSpec:
    return CheckpointSpec("sd1", {key: TensorSpec("F16", shape) for key, shape in shapes.items()}, {})


def said(one: AdapterSpec | CheckpointSpec, two: AdapterSpec | CheckpointSpec) -> list[RecipeError]:
    return list(incomparable(one, two, "both", TITLES))


def test_loras_of_the_same_modules_can_be_compared_whatever_their_ranks() -> None:
    assert said(lora("q", "k"), lora("k", "q", rank=9)) == []
    assert said(lora("q", shape=(8, 6, 1, 1)), lora("q")) == []
    assert said(lora("q", family=None), lora("q")) == []


def test_another_family_is_one_error() -> None:
    (error,) = said(lora("q", family="sdxl"), lora("q"))
    assert (error.code, error.message) == ("family-mismatch", "it is for SDXL, 'both' is for SD1.x")


def test_modules_of_one_side_are_counted_and_named() -> None:
    (error,) = said(lora("a", "b", "c", "d", "e"), lora("b", "f"))
    assert error.code == "modules-differ"
    assert error.message == "it has 4 modules that 'both' lacks and lacks 1 module that 'both' has"
    assert error.details == ("lora_a", "lora_c", "lora_d", "lora_f", "and 1 more")


def test_shapes_that_are_those_of_two_weights_are_named() -> None:
    (error,) = said(lora("q", shape=(8, 7)), lora("q"))
    assert (error.code, error.module) == ("shapes-disagree", "lora_q")
    assert error.message == "it is [8, 7] here and [8, 6] in 'both'"


def test_checkpoints_are_compared_tensor_by_tensor_of_one_shape() -> None:
    assert said(model(a=(4, 4)), model(a=(4, 4))) == []
    names, shapes = said(model(a=(4, 4), b=(2,)), model(a=(4, 5)))
    assert (names.code, names.message) == ("tensors-differ", "it has 1 tensor that 'both' lacks")
    assert (shapes.code, shapes.module) == ("shapes-disagree", "a")


def test_headers_show_a_difference_in_modules_tensors_types_and_shapes() -> None:
    assert not differ(lora("q"), lora("q", rank=9))
    assert differ(lora("q"), lora("k"))
    assert not differ(model(a=(4,)), model(a=(4,)))
    assert differ(model(a=(4,)), model(a=(5,)))
    assert differ(model(a=(4,)), model(b=(4,)))
    wide = replace(model(a=(4,)), tensors={"a": TensorSpec("F32", (4,))})
    assert differ(model(a=(4,)), wide)


@pytest.mark.parametrize("bounded", [True, False])
def test_of_ranks_that_are_bounds_headers_show_no_difference(bounded: bool) -> None:
    one = replace(lora("q", "k"), bounded=bounded)
    assert differ(one, lora("q")) is not bounded


def test_a_module_of_rank_0_is_none() -> None:
    empty = {ModuleId("unet", "k"): ModuleSpec((8, 6), 0, Spelling("lora_k"))}
    both = lora("q")
    assert not differ(replace(both, modules={**both.modules, **empty}), both)
