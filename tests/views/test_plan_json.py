"""The plan for programs: what the schema says, no more and no less."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import save_file

from lorapipe.build.run import Options, build, plan
from lorapipe.plan.files import Certainty
from lorapipe.plan.plan import Status
from lorapipe.recipe.parsing import load_recipe
from lorapipe.recipe.schemas import find_schemas
from lorapipe.views.plan_json import plan_json

from ..bench import KEYS, SHAPES, TE, TO_Q, Bench
from .screens import planned

STEPS = """
    base: {load: base.safetensors}
    a: {load: a.safetensors}
    b: {load: b.safetensors, sha256: $(pin)}
    both: {concat: {a: 0.7, b: -0.4}}
    mixed: {shuffle: both}
    model: {merge-into-checkpoint: base, loras: {mixed: 0.5}, unmatched: warn}
    lora: {save: mixed, to: out/small.safetensors}
    merged: {save: model, to: out/model.safetensors}
"""
HEAD = "params: {pin: " + "ab" * 32 + "}\nname: test\n"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(Path(find_schemas(), "plan.v1.schema.json").read_text("utf-8"))
    return loaded


@pytest.fixture
def told(bench: Bench) -> Callable[..., dict[str, Any]]:
    """The plan of ``STEPS`` as JSON, as another program would read it."""
    lost = TE.replace("layers_0", "layers_1")
    bench.checkpoint()
    bench.lora("a", rank=8, modules={**SHAPES, lost: SHAPES[TE]})
    bench.lora("b", rank=12, alpha=None, seed=1)

    def tell(modules: bool = False, read: bool = False) -> dict[str, Any]:
        params = {"pin": _sha256(bench.folder / "b.safetensors")} if read else None
        made = plan(load_recipe(bench.recipe(STEPS, head=HEAD), params), read=read)
        found: dict[str, Any] = json.loads(
            json.dumps(plan_json(made, bench.folder, modules), allow_nan=False)
        )
        return found

    return tell


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("modules", [False, True])
@pytest.mark.parametrize("read", [False, True])
def test_plans_are_what_the_schema_says(
    told: Callable[..., dict[str, Any]], schema: dict[str, Any], modules: bool, read: bool
) -> None:
    jsonschema.Draft7Validator(schema).validate(told(modules, read))


def test_the_plan_of_a_finished_build_is_what_the_schema_says(bench: Bench, schema: dict[str, Any]) -> None:
    bench.lora("a")
    recipe = load_recipe(
        bench.recipe("a: {load: a.safetensors}\nm: {shuffle: a}\no: {save: m, to: o.safetensors}")
    )
    build(recipe)

    found = plan_json(plan(recipe, read=True), bench.folder)

    jsonschema.Draft7Validator(schema).validate(found)
    assert [step["status"] for step in found["steps"]] == ["not needed", "in the store", "up to date"]
    assert found["order"] == []


def test_a_lora_without_ranks_is_what_the_schema_says(bench: Bench, schema: dict[str, Any]) -> None:
    blocks = {f"{TO_Q}.oft_blocks": np.zeros((5, 4, 4), "float32"), f"{TO_Q}.alpha": np.zeros((), "float32")}
    save_file(blocks, bench.folder / "oft.safetensors")
    bench.checkpoint()
    recipe = load_recipe(
        bench.recipe(
            "a: {load: oft.safetensors, family: sd1}\nb: {load: base.safetensors}\n"
            "m: {merge-into-checkpoint: b, loras: a}\no: {save: m, to: o.safetensors}"
        )
    )

    found = plan_json(plan(recipe), bench.folder)

    jsonschema.Draft7Validator(schema).validate(found)
    assert found["steps"][0]["result"]["ranks"] == [0, 0]


def test_the_schema_is_one_and_knows_no_key_that_is_not_described(schema: dict[str, Any]) -> None:
    jsonschema.Draft7Validator.check_schema(schema)
    assert "$id" not in schema
    for part in _parts(schema):
        if "properties" in part:
            assert part["additionalProperties"] is False
            assert set(part.get("required", ())) <= set(part["properties"])
            for name, entry in part["properties"].items():
                assert "description" in entry or "$ref" in entry or name == "type", name


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plan: plan.update(extra=1),
        lambda plan: plan["recipe"].update(folder="/home/me"),
        lambda plan: plan["steps"][0].update(extra=1),
        lambda plan: plan["steps"][0]["cost"].update(seconds=1),
        lambda plan: plan["steps"][0]["result"].update(extra=1),
        lambda plan: plan["steps"][0]["file"].update(extra=1),
        lambda plan: plan["steps"][1]["modules"][0].update(extra=1),
        lambda plan: plan["steps"][5]["bindings"][0].update(extra=1),
        lambda plan: plan["steps"][0].update(status="perhaps"),
        lambda plan: plan["steps"][0]["file"].update(certainty="hearsay"),
        lambda plan: plan["steps"][0]["cost"].update(read=-1),
        lambda plan: plan.update(version=2),
        lambda plan: plan.pop("profile"),
    ],
)
def test_the_schema_refuses_what_is_not_a_plan(
    told: Callable[..., dict[str, Any]], schema: dict[str, Any], spoil: Callable[[dict[str, Any]], object]
) -> None:
    found = told(modules=True)
    spoil(found)
    assert not jsonschema.Draft7Validator(schema).is_valid(found)


def test_the_schema_names_every_status_and_every_certainty(schema: dict[str, Any]) -> None:
    parts = schema["definitions"]
    assert parts["step"]["properties"]["status"]["enum"] == [status.value for status in Status]
    assert parts["input"]["properties"]["certainty"]["enum"] == [certainty.value for certainty in Certainty]


def test_a_plan_tells_what_each_step_makes(told: Callable[..., dict[str, Any]], bench: Bench) -> None:
    found = told()

    steps = {step["id"]: step for step in found["steps"]}
    assert found["recipe"] == {"file": str(bench.folder / "r.yaml"), "name": "test"}
    assert found["order"] == list(steps)
    assert steps["a"]["result"] == {
        "type": "lora", "family": "sd1", "modules": 5, "ranks": [8, 8], "dtype": "F32", "elements": 2304,
        "bounded": False,
    }  # fmt: skip
    assert steps["both"]["result"]["ranks"] == [8, 20]
    assert steps["both"]["inputs"] == {
        "concat": [{"step": "a", "weight": 0.7}, {"step": "b", "weight": -0.4}]
    }
    assert steps["model"]["result"]["touched"] == 4
    assert steps["lora"]["file"] == {"path": "out/small.safetensors"}
    assert steps["b"]["file"]["certainty"] == "pinned, not checked"
    assert steps["a"]["file"]["sha256"] is None
    assert steps["lora"]["key"] is None
    (warning,) = found["warnings"]
    assert warning.startswith("step 'model': 1 of 5 modules of 'mixed' has no place in the checkpoint\n")


def test_hashing_gives_every_kept_result_its_key(told: Callable[..., dict[str, Any]]) -> None:
    keys = {step["id"]: step["key"] for step in told(read=True)["steps"]}
    assert {name for name, key in keys.items() if key} == {"mixed", "lora", "merged"}


def test_with_modules_each_says_where_it_belongs(told: Callable[..., dict[str, Any]]) -> None:
    steps = {step["id"]: step for step in told(modules=True)["steps"]}

    modules = {module["name"]: module for module in steps["a"]["modules"]}
    assert modules[TO_Q] == {
        "name": TO_Q, "key": KEYS[TO_Q], "rows": None, "component": "unet", "shape": [20, 20], "rank": 8,
    }  # fmt: skip
    bindings = {row["name"]: row for row in steps["model"]["bindings"]}
    assert bindings[TO_Q] == {"lora": "mixed", "name": TO_Q, "key": KEYS[TO_Q], "rows": None, "reason": None}
    lost = bindings[TE.replace("layers_0", "layers_1")]
    assert (lost["key"], lost["reason"]) == (None, "the checkpoint has no such weight")


def test_without_modules_none_are_listed(told: Callable[..., dict[str, Any]]) -> None:
    assert not any({"modules", "bindings"} & step.keys() for step in told()["steps"])


def test_paths_are_told_as_seen_from_the_recipe(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    bench.lora("a").rename(tmp_path / "models" / "a.safetensors")
    recipe = load_recipe(bench.recipe("a: {load: a.safetensors}\no: {save: a, to: o.safetensors}"))

    found = plan_json(plan(recipe, Options(models=(tmp_path / "models",))), bench.folder)

    assert found["steps"][0]["file"]["path"] == "../models/a.safetensors"


def _parts(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)


def test_what_only_the_data_tell_is_said_to_be_bounded(bench: Bench, schema: dict[str, Any]) -> None:
    bench.lora("a", rank=8)
    steps = "a: {load: a.safetensors}\ns: {svd-resize: a, rank: 6, max-size: 1MB}\n"
    made, folder = planned(bench, steps + "o: {save: s, to: o.safetensors}")
    found = plan_json(made, folder, modules=True)
    jsonschema.validate(found, schema)
    bounded = {step["id"]: step["result"]["bounded"] for step in found["steps"]}
    assert bounded == {"a": False, "s": True, "o": True}
    assert found["steps"][1]["result"]["ranks"] == [6, 6]
