"""What is in an adapter's file: modules, embeddings, whole parameters, and nothing left out in silence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lorapipe.errors import InputError, LorapipeError, ManyErrors, RecipeError
from lorapipe.formats.adapters.found import Contents
from lorapipe.formats.adapters.reading import lacks_alpha, parameter, read_names
from lorapipe.formats.problems import Problems
from lorapipe.weights.specs import TensorSpec

from ..sources import HeaderSource

STEM = "base_model.model.model.layers.0.q_proj"
LORA = {f"{STEM}.lora_A.weight": (2, 5), f"{STEM}.lora_B.weight": (6, 2)}
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "modules_to_save": ["lm_head"]}


def source(
    shapes: dict[str, tuple[int, ...]],
    metadata: dict[str, str] | None = None,
    config: dict[str, Any] | None = None,
) -> HeaderSource:
    made = HeaderSource({name: TensorSpec("F16", shape) for name, shape in shapes.items()}, metadata or {})
    made.config = config  # type: ignore[attr-defined]
    return made


def contents(*args: Any, alpha: float | None = None) -> Contents:
    read = source(*args)
    problems = Problems(read)
    found = read_names(read, problems, alpha)
    problems.check()
    return found


def parameters(found: Contents) -> dict[str, str]:
    """Path -> tensor of each whole parameter."""
    return {m.path: name for m in found.modules if m.parameter for name in m.tensors.values()}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("base_model.model.lm_head.weight", "lm_head.weight"),
        ("base_model.model.score.bias", "score.bias"),
        ("base_model.model.lm_head.modules_to_save.default.weight", "lm_head.weight"),
        ("base_model.model.model.embed_tokens.base_layer.weight", "model.embed_tokens.weight"),
        ("base_model.model.model.norm.weight", "model.norm.weight"),
        ("base_model.model.some.parameter", "some.parameter"),
    ],
)
@pytest.mark.parametrize("config", [CONFIG, None])
def test_what_peft_saves_beside_its_own_takes_the_place_of_the_models(
    name: str, path: str, config: Any
) -> None:
    found = contents({**LORA, name: (7, 5)}, {}, config)
    assert parameters(found) == {path: name}
    assert found.parameters == ()
    (whole,) = (module for module in found.modules if module.parameter)
    assert (whole.form.name, whole.measured.shape) == ("full weight", (7, 5))


def test_without_peft_other_tensors_are_for_the_family_to_know() -> None:
    found = contents({"img_in.lora_A.weight": (2, 5), "img_in.lora_B.weight": (6, 2), "x.norm.scale": (4,)})
    assert found.parameters == ("x.norm.scale",)
    assert parameters(found) == {}


def test_a_parameter_has_the_name_of_its_module_for_a_stem() -> None:
    spec = TensorSpec("F16", (4,))
    stems = {path: parameter(path, "t", spec).stem for path in ("a.b.weight", "a.b.bias", "a.scale")}
    assert stems == {"a.b.weight": "a.b", "a.b.bias": "a.b", "a.scale": "a.scale"}


def test_embeddings_pass_and_what_speaks_of_the_dialect_is_no_metadata() -> None:
    name = "bundle_emb.tok.string_to_param.*"
    told = {"format": "pt", "lora_adapter_metadata": json.dumps({"r": 2, "lora_alpha": 2})}
    found = contents({**LORA, name: (2, 768)}, told)
    assert list(found.extras) == [name]
    assert found.metadata == {"format": "pt"}


def test_modules_stand_in_the_order_of_the_file() -> None:
    stems = [f"lora_unet_{letter}" for letter in "cab"]
    shapes = {f"{s}.lora_{f}.weight": (2, 2) for f in ("up", "down") for s in stems}
    assert [module.stem for module in contents(shapes).modules] == stems


def test_a_module_that_is_not_read_is_told_once_and_its_other_tensors_are_no_fault() -> None:
    with pytest.raises(InputError) as caught:
        contents(
            {**LORA, f"{STEM}2.vera_lambda_b": (2,), f"{STEM}2.alpha": (), f"{STEM}2.lora_A.weight": (2, 5)}
        )
    told = f"1 tensor of VeRA, not supported: {STEM}2.vera_lambda_b"
    assert str(caught.value) == f"error: {told} - docs/formats.md lists what lorapipe reads"


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ManyErrors) as caught:
        contents({"a.lora_up.weight": (6, 2), "b.hira_A": (2, 2), "c.alpha": (), "d.lora_A.weight": (2, 5)})
    assert {error.code for error in caught.value.errors} == {
        "up-without-down", "unsupported-kind", "alpha-without-factors", "down-without-up",
    }  # fmt: skip


# ---- alpha -------------------------------------------------------------------------------------------


def test_an_alpha_that_the_recipe_says_is_for_every_module() -> None:
    found = contents({**LORA, f"{STEM}2.lora_A.weight": (4, 5), f"{STEM}2.lora_B.weight": (6, 4)}, alpha=8.0)
    assert [module.scale.config for module in found.modules] == [4.0, 2.0]


@pytest.mark.parametrize(
    ("more", "metadata", "config", "where"),
    [
        ({f"{STEM}.alpha": ()}, {}, None, "its file says it"),
        ({f"{STEM}.scale": ()}, {}, None, "its file says it"),
        ({}, {}, CONFIG, "its adapter_config.json says it"),
        (
            {},
            {"lora_adapter_metadata": '{"r": 2, "lora_alpha": 2}'},
            None,
            "its lora_adapter_metadata says it",
        ),
    ],
)
def test_an_alpha_that_is_known_is_not_said_again(more: Any, metadata: Any, config: Any, where: str) -> None:
    with pytest.raises(RecipeError) as caught:
        contents({**LORA, **more}, metadata, config, alpha=8.0)
    assert (caught.value.code, caught.value.option) == ("alpha-known", "alpha")
    assert f"the alpha of this LoRA is known: {where}" in str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "metadata", "config", "lacks"),
    [
        (LORA, {}, None, True),
        (LORA, {}, CONFIG, False),
        (LORA, {"lora_adapter_metadata": '{"r": 2, "lora_alpha": 2}'}, None, False),
        ({**LORA, f"{STEM}.alpha": ()}, {}, None, False),
        ({"transformer.x.lora_A.weight": (2, 5), "transformer.x.lora_B.weight": (6, 2)}, {}, None, False),
        ({"lora_unet_x.lora_down.weight": (2, 5), "lora_unet_x.lora_up.weight": (6, 2)}, {}, None, False),
    ],
)
def test_only_peft_without_its_config_lacks_alpha(
    shapes: Any, metadata: Any, config: Any, lacks: bool
) -> None:
    """A file by diffusers' trainers has none either, and means scale 1."""
    assert lacks_alpha(source(shapes, metadata, config)) is lacks


def test_a_config_that_is_not_read_is_an_error_not_a_guess() -> None:
    with pytest.raises(LorapipeError, match="'peft_type' VERA"):
        contents(LORA, {}, {"peft_type": "VERA"})


# ---- weights that PEFT saves beside what acts on them ------------------------------------------------

HEAD = "base_model.model.lm_head"


@pytest.mark.parametrize(
    ("shapes", "base"),
    [
        ({f"{HEAD}.lora_A.weight": (2, 5), f"{HEAD}.lora_B.weight": (7, 2)}, (7, 5)),
        ({f"{HEAD}.lora_embedding_A": (2, 7), f"{HEAD}.lora_embedding_B": (5, 2)}, (7, 5)),
        ({f"{HEAD}.lora_A.weight": (2, 5), f"{HEAD}.lora_B.weight": (7, 2)}, (7, 5, 1, 1)),
        ({f"{HEAD}.ia3_l": (7, 1)}, (7, 5)),
    ],
)
def test_a_base_layer_is_what_the_adapter_acts_on(shapes: Any, base: Any) -> None:
    name = f"{HEAD}.base_layer.weight"
    (module,) = contents({**shapes, name: base}).modules
    assert (module.base, module.path) == (name, "lm_head")


def test_a_base_layer_of_no_module_takes_the_place_of_the_models() -> None:
    found = contents({**LORA, f"{HEAD}.base_layer.weight": (7, 5), f"{HEAD}.base_layer.bias": (7,)})
    assert set(parameters(found)) == {"lm_head.weight", "lm_head.bias"}


def test_a_saved_weight_of_another_size_is_told() -> None:
    lora = {f"{HEAD}.lora_A.weight": (2, 5), f"{HEAD}.lora_B.weight": (7, 2)}
    with pytest.raises(InputError, match=rf"{HEAD} \(beside a saved weight \[8, 5\]\)"):
        contents({**lora, f"{HEAD}.base_layer.weight": (8, 5)})


def test_two_copies_of_a_parameter_are_told() -> None:
    with pytest.raises(InputError, match="1 module written under two names"):
        contents({**LORA, f"{HEAD}.weight": (7, 5), f"{HEAD}.modules_to_save.default.weight": (7, 5)})
