"""What stands around the steps."""

from __future__ import annotations

import pytest

from lorapipe.recipe.parsing import parse

from .complaints import complaints

STEPS = "steps: {a: {load: f}}\n"
TAKES = "it takes lorapipe, name, description, params, matrix, defaults, steps"


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (STEPS, ["1:1: error: a recipe needs 'lorapipe' - add a line 'lorapipe: 1'"]),
        ("lorapipe: 1\n", ["1:1: error: a recipe needs 'steps' - add a line 'steps:'"]),
        ("lorapipe: 2\n" + STEPS, ["1:11: error: this lorapipe reads recipes of version 1, not 2"]),
        ("lorapipe: '1'\n" + STEPS, ["1:11: error: this lorapipe reads recipes of version 1, not '1'"]),
        ("version: 1\n" + STEPS, ["1:1: error: a recipe has no 'version' - did you mean 'lorapipe'?"]),
        ("lorapipe: 1\nsetps: {a: {load: f}}\n", ["2:1: error: a recipe has no 'setps' - did you mean 'steps'?"]),
        ("lorapipe: 1\nother: 1\n" + STEPS, [f"2:1: error: a recipe has no 'other' - {TAKES}"]),
        ("lorapipe: 1\nchar: {load: f}\n" + STEPS, ["2:1: error: a recipe has no 'char' - steps stand under 'steps'"]),
        ("lorapipe: 1\nname: 4\n" + STEPS, ["2:7: error: 'name' takes text, not 4 - quote it: '4'"]),
        ("lorapipe: 1\ndescription: [a]\n" + STEPS, ["2:14: error: 'description' takes text, not a list"]),
        ("lorapipe: 1\nsteps: {}\n", ["2:8: error: a recipe needs at least one step - such as char: {load: char.safetensors}"]),
        ("lorapipe: 1\nsteps:\n", ["2:7: error: 'steps' takes a map id: step, not nothing - such as char: {load: char.safetensors}"]),
        ("lorapipe: 1\nsteps: [{load: f}]\n", ["2:8: error: 'steps' takes a map id: step, not a list - such as char: {load: char.safetensors}"]),
        ("lorapipe: 1\nsteps: {A b: {load: f}}\n", ["2:9: error: 'A b' cannot be a step's id - a step's id is made of a-z, 0-9, - and _, and begins with a letter"]),
        ("- a\n", ["1:1: error: a recipe is a map, not a list - begin with 'lorapipe: 1' and 'steps:'"]),
        ("hello\n", ["1:1: error: a recipe is a map, not 'hello' - begin with 'lorapipe: 1' and 'steps:'"]),
        ("lorapipe: 1\ndefaults: {device: vulkan}\n" + STEPS, ["2:20: error: 'device' takes auto, cpu, cuda, cuda:1 or mps, or $(name), not 'vulkan'"]),
        ("lorapipe: 1\ndefaults: {device: gpu}\n" + STEPS, ["2:20: error: 'device' takes auto, cpu, cuda, cuda:1 or mps, or $(name), not 'gpu' - did you mean 'cuda'?"]),
        ("lorapipe: 1\ndefaults: {compute: fp32}\n" + STEPS, ["2:21: error: 'compute' takes float64 or float32, or $(name), not 'fp32' - did you mean 'float32'?"]),
        ("lorapipe: 1\ndefaults: {devices: cpu}\n" + STEPS, ["2:12: error: 'defaults' has no 'devices' - did you mean 'device'?"]),
        ("lorapipe: 1\ndefaults: {rank: 4}\n" + STEPS, ["2:12: error: 'defaults' has no 'rank' - it takes device, compute"]),
        ("lorapipe: 1\ndefaults: cpu\n" + STEPS, ["2:11: error: 'defaults' takes a map, not 'cpu'"]),
    ],
)  # fmt: skip
def test_what_is_wrong_around_the_steps_is_said_whole(text: str, errors: list[str]) -> None:
    assert complaints(text) == [f"r.yaml:{error}" for error in errors]


def test_errors_around_the_steps_do_not_hide_those_inside() -> None:
    text = "lorapipe: 2\nother: 1\nsteps: {A: {load: f, as: x}, b: {shuffle: q}}\ndefaults: {device: x}\n"
    assert [error.split(": ")[0] for error in complaints(text)] == [
        "r.yaml:1:11",
        "r.yaml:2:1",
        "r.yaml:3:9",
        "r.yaml:3:26",
        "r.yaml:3:43",
        "r.yaml:4:20",
    ]


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_every_device_of_the_language_is_taken(device: str) -> None:
    assert parse(f"lorapipe: 1\ndefaults: {{device: '{device}'}}\n{STEPS}").defaults == {
        "device": device,
        "compute": "float64",
    }


def test_keys_with_x_are_free_and_kept() -> None:
    recipe = parse(f"lorapipe: 1\nx-ranks: &r [4, 8]\nx-me: {{any: [thing, *r]}}\n{STEPS}")
    assert recipe.extensions == {"x-ranks": [4, 8], "x-me": {"any": ["thing", [4, 8]]}}
