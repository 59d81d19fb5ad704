"""One module's tensors: its format, scale and biases, or what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from lorapipe.errors import InputError
from lorapipe.formats.adapters.found import Found, Scale
from lorapipe.formats.adapters.grouping import group_tensors
from lorapipe.formats.adapters.making import Maker
from lorapipe.formats.adapters.peft_config import read_configs
from lorapipe.formats.forms.lora import DOWN, UP
from lorapipe.formats.problems import Problems
from lorapipe.weights.specs import TensorSpec

from ..sources import HeaderSource

LORA = {"x.lora_B.weight": (6, 2), "x.lora_A.weight": (2, 5)}


def made(
    shapes: dict[str, tuple[int, ...]],
    config: dict[str, Any] | None = None,
    alpha: float | None = None,
    **dtypes: str,
) -> list[Found]:
    tensors = {
        name: TensorSpec(dtypes.get(name.rpartition(".")[2], "F16"), shape) for name, shape in shapes.items()
    }
    source = HeaderSource(tensors)
    source.config = None if config is None else {"peft_type": "LORA", "r": 2, "lora_alpha": 3, **config}  # type: ignore[attr-defined]
    problems = Problems(source)
    maker = Maker(tensors, read_configs(source), alpha, problems)
    groups = group_tensors(tensors, problems).groups.values()
    found = [module for group in groups for module in maker.modules(group)]
    problems.check()
    return found


def one(*args: Any, **said: Any) -> Found:
    (found,) = made(*args, **said)
    return found


@pytest.mark.parametrize(
    ("more", "config", "alpha", "scale"),
    [
        ({}, None, None, Scale(2)),
        ({"x.alpha": ()}, None, None, Scale(2, alpha="x.alpha")),
        ({"x.alpha": (1,), "x.scale": ()}, None, None, Scale(2, alpha="x.alpha", factor="x.scale")),
        ({}, {}, None, Scale(2, config=1.5)),
        ({}, {"use_rslora": True}, None, Scale(2, config=3 / 2**0.5)),
        ({"x.alpha": ()}, {}, None, Scale(2, alpha="x.alpha", config=1.5)),
        ({}, None, 5.0, Scale(2, config=2.5)),
    ],
)
def test_where_the_scale_comes_from(more: Any, config: Any, alpha: float | None, scale: Scale) -> None:
    found = one({**LORA, **more}, config, alpha)
    assert found.scale == scale
    assert (found.form.name, found.measured.shape) == ("LoRA", (6, 5))


def test_a_lokr_of_two_whole_halves_is_scaled_by_its_config_alone() -> None:
    """LyCORIS ignores its alpha; PEFT scales all the same."""
    halves = {"x.lokr_w1": (2, 2), "x.lokr_w2": (3, 3)}
    assert one({**halves, "x.alpha": ()}).scale == Scale(None, alpha="x.alpha")
    assert one(halves, {"peft_type": "LOKR", "alpha": 3}).scale == Scale(None, config=1.5)
    assert one(halves, None, 5.0).scale == Scale(None)


def test_fan_in_fan_out_turns_matrices_and_no_kernels() -> None:
    assert one(LORA, {"fan_in_fan_out": True}).transposed
    assert not one(LORA, {"fan_in_fan_out": False}).transposed
    kernel = {"x.lora_B.weight": (6, 2, 1, 1), "x.lora_A.weight": (2, 5, 3, 3)}
    assert not one(kernel, {"fan_in_fan_out": True}).transposed


@pytest.mark.parametrize("config", [None, {}, {"fan_in_fan_out": True}])
def test_an_embedding_is_turned_whatever_the_config_says(config: Any) -> None:
    assert one({"x.lora_embedding_A": (2, 11), "x.lora_embedding_B": (5, 2)}, config).transposed


def test_biases_are_modules_of_their_own_and_lora_biases_scale_with_their_lora() -> None:
    weight, bias = made({**LORA, "x.alpha": (), "x.lora_B.bias": (6,)})
    assert (weight.bias, dict(weight.tensors)) == (False, {UP: "x.lora_B.weight", DOWN: "x.lora_A.weight"})
    assert (bias.bias, dict(bias.tensors), bias.measured.shape) == (True, {".diff": "x.lora_B.bias"}, (6,))
    assert bias.scale == weight.scale == Scale(2, alpha="x.alpha")


@pytest.mark.parametrize("suffix", ["diff_b", "b_norm"])
def test_a_bias_may_stand_alone_and_has_no_scale(suffix: str) -> None:
    found = one({f"x.{suffix}": (6,)})
    assert (found.bias, found.scale, found.form.name) == (True, Scale(), "full difference")


def test_a_bias_beside_a_full_difference_is_no_part_of_it() -> None:
    weight, bias = made({"x.diff": (6, 5), "x.diff_b": (6,)})
    assert (weight.measured.shape, weight.bias) == ((6, 5), False)
    assert (bias.measured.shape, bias.bias) == ((6,), True)


def test_settings_reach_the_formats_that_ask_for_them() -> None:
    on_rows = {"x.ia3_l": (1, 6, 1, 1)}
    found = one(on_rows, {"peft_type": "IA3", "feedforward_modules": ["x"]})
    assert found.measured.shape == (0, 6, 0, 0)
    found = one(on_rows, {"peft_type": "IA3", "feedforward_modules": []})
    assert found.measured.shape == (6, 0)


MISSING = "1 module of which tensors are missing: x"
MIXED = "1 module with tensors of formats that do not go together: x"
AGAIN = "the file is incomplete or damaged: copy or download it again"


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"x.lora_up.weight": (6, 2)}, f"1 module with an up but no down: x - {AGAIN}"),
        ({"x.lora_A.weight": (6, 2)}, f"1 module with a down but no up: x - {AGAIN}"),
        ({"x.alpha": ()}, f"1 module with an alpha but no factors: x - {AGAIN}"),
        ({"x.lora_mid.weight": (2, 2, 3, 3)}, f"{MISSING} (without lora_up, lora_down) - {AGAIN}"),
        ({"x.hada_w1_a": (6, 2)}, f"{MISSING} (without hada_w2_a, hada_w1_b, hada_w2_b) - {AGAIN}"),
        ({"x.a1.weight": (6, 2)}, f"{MISSING} (without a2, b1, b2) - {AGAIN}"),
        (
            {**LORA, "x.diff": (6, 5)},
            f"{MIXED} (diff, lora_down.weight, lora_up.weight) - {AGAIN}",
        ),
        (
            {**LORA, "x.alpha": (2,)},
            f"1 alpha of more or less than one number: x.alpha [2] - {AGAIN}",
        ),
        ({**LORA, "x.scale": (0,)}, f"1 alpha of more or less than one number: x.scale [0] - {AGAIN}"),
        (
            {"x.lora_up.weight": (6, 2), "x.lora_down.weight": (3, 5)},
            f"1 module whose up and down have different ranks: x (up [6, 2], down [3, 5]) - {AGAIN}",
        ),
    ],
)
def test_what_is_wrong_with_a_module_is_told(shapes: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        made(shapes)
    assert str(caught.value) == f"error: {said}"


def test_factors_are_floating_and_flags_need_not_be() -> None:
    with pytest.raises(
        InputError, match=r"1 tensor of factors whose numbers are not floating: x\.diff \(I8\)"
    ):
        made({"x.diff": (6, 5)}, diff="I8")
    assert one({"x.weight": (6,), "x.on_input": ()}, on_input="I64").form.name == "IA3"


@pytest.mark.parametrize(
    ("more", "config", "said"),
    [
        ({}, {"r": 4}, "rank 2, the config says 4"),
        ({}, {"rank_pattern": {"x": 8}}, "rank 2, the config says 8"),
        ({}, {"peft_type": "LOHA", "alpha": 1}, "LoRA, the config says LOHA"),
        ({}, {"use_dora": True}, "no DoRA, the config says otherwise"),
        ({"x.lora_magnitude_vector": (6,)}, {}, "DoRA, the config says otherwise"),
        ({"x.lora_B.bias": (6,)}, {}, "a bias, the config says none"),
    ],
)
def test_a_config_that_contradicts_the_tensors_is_refused(more: Any, config: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        made({**LORA, **more}, config)
    assert caught.value.code == "config-contradicts"
    told = f"1 module that the adapter's config contradicts: x ({said}) - the config belongs to another file"
    assert str(caught.value) == f"error: {told}"


def test_a_config_that_says_what_the_tensors_show_is_no_contradiction() -> None:
    more = {"x.lora_magnitude_vector": (6,)}
    assert one({**LORA, **more}, {"use_dora": True}).form.name == "PEFT DoRA"
    assert len(made({**LORA, "x.lora_B.bias": (6,)}, {"lora_bias": True})) == 2
