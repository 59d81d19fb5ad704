"""The report for programs: what the schema says, no more and no less, and the numbers of numpy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lorapipe.build.looking.report import Report
from lorapipe.recipe.schemas import find_schemas
from lorapipe.views.report.as_json import report_json


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(Path(find_schemas(), "report.v1.schema.json").read_text("utf-8"))
    return loaded


def told(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(report_json(report), allow_nan=False))
    return found


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every part of a schema that describes an object with properties."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def test_the_json_is_as_the_schema_says(schema: dict[str, Any], reports: tuple[Report, Report]) -> None:
    jsonschema.Draft7Validator.check_schema(schema)
    for report in reports:
        jsonschema.Draft7Validator(schema).validate(told(report))


def test_the_schema_lets_nothing_pass_that_it_does_not_describe(schema: dict[str, Any]) -> None:
    for part in objects(schema):
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"])
        for name, inner in part["properties"].items():
            assert inner.get("description") or "$ref" in inner or "const" in inner, name


def test_it_tells_of_the_run(ran: Report) -> None:
    found = told(ran)
    states = {step["id"]: step["state"] for step in found["steps"]}
    assert found["run"] is True
    assert states == {
        "base": "built",
        "a": "built",
        "b": "built",
        "both": "built",
        "small": "built",
        "good": "holds",
        "lora": "written",
        "model": "built",
        "merged": "written",
    }
    assert found["seconds"] == pytest.approx(sum(step["seconds"] for step in found["steps"]))
    (concat,) = [step for step in found["steps"] if step["id"] == "both"]
    assert [(term["step"], term["weight"]) for term in concat["inputs"]] == [("a", 0.7), ("b", -0.4)]


def test_before_a_run_there_are_inputs_and_no_outputs(planned: Report) -> None:
    found = told(planned)
    assert [(f["step"], f["role"], f["size"] is None) for f in found["files"]] == [
        ("base", "input", False),
        ("a", "input", False),
        ("b", "input", False),
        ("lora", "output", True),
        ("merged", "output", True),
    ]
    assert [lora["step"] for lora in found["loras"]] == ["a", "b"]
    assert found["resized"] == []
    assert found["checks"][0]["holds"] is None


def test_modules_stand_in_the_order_of_the_model(ran: Report) -> None:
    (lora, *_) = told(ran)["loras"]
    assert [(block["model"], block["block"]) for block in lora["blocks"]] == [
        ("unet", "IN01"),
        ("te", "BASE"),
    ]
