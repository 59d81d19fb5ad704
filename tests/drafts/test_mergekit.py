"""mergekit's configurations of one base with LoRAs: the same sums, and by name what is not one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lorapipe.build.run import Options, build
from lorapipe.drafts.mergekit import mergekit_recipe
from lorapipe.errors import InputError, LorapipeError, RecipeError
from lorapipe.recipe.draft import Draft, render
from lorapipe.recipe.parsing import load_recipe, parse

from ..bench import Bench
from ..formats.model_folders import hf_folder, hf_tensors
from ..formats.sources import seeded

MODELS = [
    {"model": "base+a", "parameters": {"weight": 0.7}},
    {"model": {"model": {"path": "base"}, "lora": {"path": "b"}}, "parameters": {"weight": -0.2}},
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def imported(method: str, models: object = MODELS, **more: object) -> Draft:
    Path("c.yml").write_text(yaml.safe_dump({"merge_method": method, "models": models, **more}))
    draft = mergekit_recipe(Path("c.yml"), "merged", Path.cwd())
    parse(render(draft))
    return draft


def merged(draft: Draft) -> Any:
    return draft.steps["merged"]["loras"]


def test_task_arithmetic_is_a_merge_with_its_weights() -> None:
    draft = imported("task_arithmetic", base_model="base", dtype="bfloat16")
    assert draft.steps["base"] == {"load": "base"}
    assert merged(draft) == {"a": 0.7, "b": -0.2}
    assert draft.steps["out"] == {"save": "merged", "to": "merged/", "dtype": "bf16"}


def test_linear_shares_its_weights_out_over_models_without_lora_too() -> None:
    models = [*MODELS[:1], {"model": "base", "parameters": {"weight": 0.7}}]
    assert merged(imported("linear", models)) == {"a": 0.5}


def test_lambda_and_normalize_of_task_arithmetic_multiply() -> None:
    draft = imported("task_arithmetic", base_model="base", parameters={"lambda": 3.0, "normalize": True})
    assert merged(draft) == pytest.approx({"a": 3 * 0.7 / 0.5, "b": 3 * -0.2 / 0.5})


def test_passthrough_of_one_model_is_its_lora_in_it() -> None:
    assert merged(imported("passthrough", [{"model": "base+a"}])) == {"a": 1.0}


@pytest.mark.parametrize(
    ("method", "parameters", "options"),
    [
        ("ties", {"density": 0.5}, {"method": "ties", "density": 0.5, "normalize": "weights"}),
        ("ties", {"normalize": False}, {"method": "ties", "density": 1.0, "normalize": "none"}),
        ("dare_ties", {"density": 0.3}, {"method": "dare-ties", "density": 0.3, "normalize": "none"}),
        (
            "dare_linear",
            {"density": 0.3, "lambda": 2},
            {"method": "dare-linear", "density": 0.3, "lambda": 2.0},
        ),
        (
            "della",
            {"density": 0.5, "epsilon": 0.1},
            {"method": "della", "density": 0.5, "normalize": "weights", "epsilon": 0.1},
        ),
        ("breadcrumbs", {"density": 0.9}, {"method": "breadcrumbs", "density": 0.9, "gamma": 0.01}),
        ("sce", {"select_topk": 0.1}, {"method": "sce", "density": 0.1}),
    ],
)
def test_methods_on_differences_are_combines(
    method: str, parameters: dict[str, object], options: dict[str, object]
) -> None:
    draft = imported(method, base_model="base", parameters=parameters)
    assert draft.steps["combined"] == {"combine": {"a": 0.7, "b": -0.2}, **options, "dense": True}
    assert merged(draft) == {"combined": 1.0}


def test_a_tokenizer_is_the_bases_and_that_is_said() -> None:
    assert "tokenizer" in " ".join(
        imported("passthrough", [{"model": "base+a"}], tokenizer_source="union").head
    )


@pytest.mark.parametrize(
    ("method", "models", "more", "text"),
    [
        ("slerp", MODELS, {}, "merge_method slerp is none that is known of LoRAs"),
        ("linear", None, {"slices": [{"sources": []}]}, "'slices' put models together"),
        ("linear", None, {}, "it names no models"),
        ("linear", [{"parameters": {}}], {}, "an entry of 'models' names no model"),
        ("linear", [{"model": {"lora": "a"}}], {}, "names no model"),
        ("linear", [{"model": "x+a"}, {"model": "y+b"}], {}, "of different bases: x, y"),
        ("linear", [{"model": "x+a", "parameters": {"weight": float("nan")}}], {}, "'weight' is nan"),
        ("linear", [{"model": "x+a", "parameters": {"weight": 10**400}}], {}, "'weight' is 1000"),
        ("linear", [{"model": "x"}], {}, "no model has a LoRA"),
        ("linear", [{"model": "org/base@main+a"}], {}, "names a revision"),
        ("linear", [{"model": "base+a"}], {}, "a model has no 'weight'"),
        ("linear", MODELS, {"parameters": {"normalize": False}}, "scale the base itself"),
        ("passthrough", MODELS, {}, "takes one model as it is"),
        ("ties", MODELS, {"parameters": {"density": [0.1, 0.9]}}, "'density' is a gradient"),
        ("dare_linear", MODELS, {"parameters": {"rescale": False}}, "rescale: false"),
        ("dare_linear", MODELS, {"parameters": {"normalize": True}}, "normalize: true with dare-linear"),
        ("linear", MODELS, {"dtype": "float8"}, "dtype float8"),
        (
            "ties",
            [{"model": "base+a", "parameters": {"density": 0.1}}, {"model": "base+b"}],
            {},
            "'density' differs from model to model",
        ),
    ],
)
def test_what_a_recipe_cannot_say_is_refused_by_name(
    method: str, models: object, more: dict[str, object], text: str
) -> None:
    with pytest.raises(RecipeError, match=r"^c\.yml: ") as caught:
        imported(method, models, **more)
    assert text in str(caught.value)
    assert (caught.value.code, bool(caught.value.hint)) == ("not-expressible", True)


@pytest.mark.parametrize(
    "text", ["", "a: [", "- 1", "merge_method: 4", "\x00", "models: []", "!!python/object:x {}"]
)
def test_a_file_that_is_no_configuration_is_named(text: str) -> None:
    Path("c.yml").write_text(text)
    with pytest.raises(InputError, match=r"c\.yml"):
        mergekit_recipe(Path("c.yml"), "merged", Path.cwd())


JSONS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["model", "lora", "path", "parameters", "weight", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(method=st.sampled_from(["linear", "ties", "sce", "x"]), models=JSONS, base=JSONS, parameters=JSONS)
def test_no_configuration_ends_in_anything_but_a_recipe_or_an_error_of_ours(
    method: str, models: object, base: object, parameters: object
) -> None:
    Path("c.yml").write_text(
        yaml.safe_dump(
            {"merge_method": method, "models": models, "base_model": base, "parameters": parameters}
        )
    )
    with suppress(LorapipeError):
        render(mergekit_recipe(Path("c.yml"), "merged", Path.cwd()))


def test_the_recipe_makes_mergekits_ties(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """``generalized_task_arithmetic.py``: weighted, elected by their sum, divided by the agreeing weights."""
    monkeypatch.chdir(bench.folder)
    hf_folder(bench.folder / "base")
    deltas = {}
    for number, lora in enumerate("ab"):
        (bench.folder / lora).mkdir()
        factors: dict[str, torch.Tensor] = {}
        for key, weight in hf_tensors().items():
            up, down = (
                seeded(weight.shape[0], 2, seed=10 * number + 1),
                seeded(2, weight.shape[1], seed=10 * number),
            )
            stem = f"base_model.model.{key.removesuffix('.weight')}"
            factors |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
            deltas[lora, key] = 2.0 * (up.double() @ down.double())
        save_file(factors, bench.folder / lora / "adapter_model.safetensors")
        (bench.folder / lora / "adapter_config.json").write_text(
            '{"peft_type": "LORA", "r": 2, "lora_alpha": 4}'
        )

    (bench.folder / "r.yaml").write_text(render(imported("ties", base_model="base")))
    build(load_recipe(bench.folder / "r.yaml"), Options(workers=1))

    made = {
        k: t for path in (bench.folder / "merged").glob("*.safetensors") for k, t in load_file(path).items()
    }
    for key, weight in hf_tensors().items():
        weighted = torch.stack([0.7 * deltas["a", key], -0.2 * deltas["b", key]])
        shares = torch.tensor([0.7, 0.2]).double()[:, None, None]
        agrees = weighted.sign() == torch.where(weighted.sum(0) >= 0, 1.0, -1.0)
        expected = (weighted * agrees).sum(0) / (shares * agrees).sum(0)
        assert torch.allclose(made[key].double(), weight.double() + expected, rtol=1e-6, atol=1e-7)
