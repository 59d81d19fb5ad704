"""Statements have the shape that in-toto and SLSA publish, and say the same each time."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from lorapipe.build.proving.statements import (
    BUILD_TYPE,
    BUILDER,
    Named,
    RecipeText,
    statement,
    statement_bytes,
    subjects_of,
)
from lorapipe.errors import InputError
from lorapipe.plan.lineage import Profile
from lorapipe.version import __version__

_PROFILE = Profile(torch="2.13.0", device="cpu", compute="float64")
_OUT = Named("out/o.safetensors", "ab" * 32)
_IN = Named("a.safetensors", "cd" * 32)
_RECIPE = RecipeText("r.yaml", "lorapipe: 1\n", "ef" * 32, {"strength": 0.5})

_URI = re.compile(r"[a-z][a-z0-9+.-]*:\S+")
_HEX = re.compile(r"[0-9a-f]{64}")


def check_descriptor(found: Any, digest: bool) -> None:
    """in-toto spec/v1/resource_descriptor.md: every field optional, one of uri, digest, content there."""
    known = {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
    assert found.keys() <= known
    assert found.keys() & {"uri", "digest", "content"}
    assert digest <= ("digest" in found)
    for value in found.get("digest", {}).values():  # digest_set.md: lower-case hexadecimal
        assert _HEX.fullmatch(value)


def check_statement(found: Any) -> None:
    """The required fields of in-toto's spec/v1/statement.md and of slsa.dev/spec/v1.0/provenance."""
    assert found.keys() == {"_type", "subject", "predicateType", "predicate"}
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    assert found["subject"]
    for subject in found["subject"]:
        check_descriptor(subject, digest=True)
    names = [subject["name"] for subject in found["subject"]]
    assert len(set(names)) == len(names)
    definition, details = found["predicate"]["buildDefinition"], found["predicate"]["runDetails"]
    assert found["predicate"].keys() == {"buildDefinition", "runDetails"}
    assert {"buildType", "externalParameters"} <= definition.keys()
    assert definition.keys() <= {
        "buildType", "externalParameters", "internalParameters", "resolvedDependencies",
    }  # fmt: skip
    assert _URI.fullmatch(definition["buildType"])
    assert isinstance(definition["externalParameters"], dict)
    assert not definition["externalParameters"].keys() & definition["internalParameters"].keys()
    for dependency in definition.get("resolvedDependencies", []):
        check_descriptor(dependency, digest=False)
    assert "builder" in details
    assert details.keys() <= {"builder", "metadata", "byproducts"}
    assert _URI.fullmatch(details["builder"]["id"])
    assert all(isinstance(version, str) for version in details["builder"]["version"].values())
    for time in details.get("metadata", {}).values():  # RFC 3339 in UTC
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)


def test_a_statement_has_the_published_shape() -> None:
    made = statement([_OUT], _PROFILE, recipe=_RECIPE, inputs=[_IN], date="2001-09-09T01:46:40Z")

    check_statement(made)
    assert made == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "out/o.safetensors", "digest": {"sha256": "ab" * 32}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "recipe": {
                        "name": "r.yaml", "digest": {"sha256": "ef" * 32}, "text": "lorapipe: 1\n",
                    },
                    "params": {"strength": 0.5},
                },
                "internalParameters": {"profile": _PROFILE.as_json()},
                "resolvedDependencies": [{"name": "a.safetensors", "digest": {"sha256": "cd" * 32}}],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"lorapipe": __version__}},
                "metadata": {"finishedOn": "2001-09-09T01:46:40Z"},
            },
        },
    }  # fmt: skip


def test_without_a_recipe_nothing_of_it_is_told() -> None:
    made = statement([_OUT], _PROFILE, recipe=None)

    check_statement(made)
    definition = made["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {"withheld": True}
    assert "resolvedDependencies" not in definition
    assert "metadata" not in made["predicate"]["runDetails"]


def test_a_statement_is_the_same_bytes_whatever_the_order() -> None:
    folder = Named("model", "12" * 32, folder=True)
    one = statement([_OUT, _IN], _PROFILE, recipe=_RECIPE, inputs=[_IN, folder, _IN])
    two = statement([_IN, _OUT, _OUT], _PROFILE, recipe=_RECIPE, inputs=[folder, _IN])

    assert statement_bytes(one) == statement_bytes(two)
    assert json.loads(statement_bytes(one)) == one
    (inputs,) = [one["predicate"]["buildDefinition"]["resolvedDependencies"]]
    assert inputs[1] == {"name": "model", "digest": {"dirHash": "12" * 32}}


def test_the_subjects_of_a_statement_are_read_back() -> None:
    made = statement([_OUT, _IN], _PROFILE, recipe=_RECIPE)
    assert set(subjects_of(made, "x")) == {_OUT, _IN}


_BAD = [
    ({"_type": "https://in-toto.io/Statement/v0.1"}, "not-a-statement"),
    ({"_type": None}, "not-a-statement"),
    ({"predicateType": "https://slsa.dev/provenance/v0.2"}, "unknown-predicate"),
    ({"predicateType": ["x"]}, "unknown-predicate"),
    ({"subject": []}, "bad-subject"),
    ({"subject": {}}, "bad-subject"),
    ({"subject": ["x"]}, "bad-subject"),
    ({"subject": [{"name": "x"}]}, "bad-subject"),
    ({"subject": [{"name": "x", "digest": {"md5": "1"}}]}, "bad-subject"),
    ({"subject": [{"name": "x", "digest": {"sha256": "AB" * 32}}]}, "bad-subject"),
    ({"subject": [{"digest": {"sha256": "ab" * 32}}]}, "bad-subject"),
    ({"subject": [{"name": 1, "digest": {"sha256": "ab" * 32}}]}, "bad-subject"),
]


@pytest.mark.parametrize(("change", "code"), _BAD, ids=range(len(_BAD)))
def test_what_is_no_statement_of_a_build_is_refused(change: dict[str, Any], code: str) -> None:
    made = {**statement([_OUT], _PROFILE, recipe=None), **change}
    with pytest.raises(InputError) as caught:
        subjects_of(made, "x")
    assert caught.value.code == code
    assert caught.value.where == "x"
