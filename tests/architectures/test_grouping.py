"""Modules by model and block, in the order in which the models have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lorapipe.architectures import block_of, by_block, families, family
from lorapipe.formats.inspection import inspect_file
from lorapipe.weights.specs import ModuleId


def every(name: str) -> list[ModuleId]:
    """All modules of a family, as a LoRA of each would have them."""
    return [ModuleId(target.component, target.key) for target in family(name).targets()]


@pytest.mark.parametrize("name", families())
def test_every_module_is_in_one_block_in_the_order_of_the_models(name: str) -> None:
    modules = list(dict.fromkeys(every(name)))
    shuffled = sorted(modules, key=lambda module: module.key[::-1])
    grouped = by_block(name, shuffled)
    assert sorted(m for found in grouped.values() for m in found) == sorted(modules)
    components = list(dict.fromkeys(component for component, _ in grouped))
    assert components == [c for c in family(name).components if c in components]
    place = {block: number for number, block in enumerate(family(name).blocks.names)}
    for component in components:
        numbers = [place[block] for found, block in grouped if found == component]
        assert numbers == sorted(numbers)
    for (component, block), found in grouped.items():
        assert [m for m in modules if m in set(found)] == list(found)
        assert {(m.component, family(name).blocks.of(m.component, m.key)) for m in found} == {
            (component, block)
        }


def test_a_real_lora_is_seen_from_its_input_to_its_output(shared: Callable[[str], Path]) -> None:
    spec = inspect_file(shared("real/lora_disney.safetensors")).spec
    grouped = by_block(spec.family, spec.modules)
    blocks = [block for component, block in grouped if component == "unet"]
    assert blocks == (
        ["IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "MID"] + [f"OUT{n:02}" for n in range(3, 12)]
    )
    assert list(grouped)[-1] == ("te", "BASE")
    layers = [int(module.key.split("layers.")[1].split(".")[0]) for module in grouped["te", "BASE"]]
    assert layers == sorted(layers)


def test_rows_of_one_weight_stand_in_their_order() -> None:
    key = "conditioner.embedders.1.model.transformer.resblocks.3.attn.in_proj_weight"
    parts = [ModuleId("te2", key, (n, n + 1280)) for n in (2560, 0, 1280)]
    (found,) = by_block("sdxl", parts).values()
    assert [module.rows for module in found] == [(0, 1280), (1280, 2560), (2560, 3840)]


def test_a_bias_stands_behind_its_weight() -> None:
    weights = [
        ModuleId("unet", f"model.diffusion_model.input_blocks.{n}.0.in_layers.2.weight") for n in (1, 2)
    ]
    biases = [ModuleId("unet", module.key.replace("weight", "bias")) for module in weights]
    grouped = by_block("sdxl", [*biases, *weights])
    assert {block: len(found) for (_, block), found in grouped.items()} == {"IN01": 2, "IN02": 2}


def test_of_an_unknown_family_ten_comes_after_two() -> None:
    keys = ["model.layers.10.q", "lm_head", "model.layers.2.v", "model.layers.2.k", "model.norm"]
    grouped = by_block(None, [ModuleId("", key) for key in keys])
    assert [(block, [m.key for m in found]) for (_, block), found in grouped.items()] == [
        ("", ["lm_head", "model.norm"]),
        ("layers.2", ["model.layers.2.k", "model.layers.2.v"]),
        ("layers.10", ["model.layers.10.q"]),
    ]


def test_names_of_digits_alone_and_of_none_are_put_in_some_order() -> None:
    keys = ["10", "9.a", "a.9", "", "a", "9", "²", "a.٣.b"]
    grouped = by_block(None, [ModuleId("", key) for key in keys])
    assert sorted(m.key for found in grouped.values() for m in found) == sorted(keys)


def test_a_module_that_its_family_does_not_know_comes_last() -> None:
    known = ModuleId("unet", "model.diffusion_model.middle_block.1.proj_in.weight")
    grouped = by_block("sdxl", [ModuleId("", "strange.7.thing"), known])
    assert list(grouped) == [("unet", "MID"), ("", "strange.7")]
    assert block_of("sdxl", ModuleId("", "strange.7.thing")) == "strange.7"


def test_of_nothing_there_are_no_blocks() -> None:
    assert by_block("sdxl", []) == {}
    assert by_block(None, []) == {}
