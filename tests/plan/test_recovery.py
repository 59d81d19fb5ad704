"""Provenance made a recipe again: valid, pinned, of the same meaning, whatever a stranger wrote into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from lorapipe.errors import InputError
from lorapipe.plan import recovery
from lorapipe.plan.lineage import Lineage, Profile, Source
from lorapipe.plan.recovery import Recovered, recovered_recipe
from lorapipe.plan.restoring import Found
from lorapipe.plan.told import Told
from lorapipe.recipe.model import JSON, Recipe
from lorapipe.recipe.parsing import parse

_PROFILE = Profile(torch="2.13.0", device="cpu", compute="float64")
_OPTIONS: Mapping[str, JSON] = {"dense": False, "dtype": "keep", "layout": "keep", "provenance": "full"}


def loaded(name: str, digit: str = "a", **params: JSON) -> Lineage:
    return Lineage("load", 1, params, source=Source(name, digit * 64))


def concat(*terms: tuple[float, Lineage]) -> Lineage:
    return Lineage("concat", 1, {}, {"concat": terms})


def saved(value: Lineage, **params: JSON) -> Told:
    return Told(Lineage("save", 1, {**_OPTIONS, **params}, {"save": ((1.0, value),)}), _PROFILE)


def recover(told: Told, name: str = "o.safetensors", paths: Mapping[str, Found] | None = None) -> Recovered:
    return recovered_recipe(told, name, paths or {})


def read(recovered: Recovered) -> Recipe:
    assert recovered.warnings == ()
    return parse(recovered.text)


def refusal(told: Told) -> str:
    with pytest.raises(InputError) as caught:
        recover(told)
    assert caught.value.code == "not-recoverable"
    return str(caught.value)


_A, _B = loaded("a.safetensors"), loaded("b.safetensors", "b")


def test_the_recipe_is_pinned_and_says_what_it_was_built_with() -> None:
    assert recover(saved(concat((0.7, _A), (-0.4, _B)))).text == (
        "# The recipe of o.safetensors, from its metadata.\n"
        "# Built with torch 2.13.0 on cpu, computed in float64.\n"
        "lorapipe: 1\n"
        "defaults: {device: cpu, compute: float64}\n"
        "\n"
        "steps:\n"
        "  load-1:\n"
        "    load: a.safetensors\n"
        f"    sha256: {'a' * 64}\n"
        "  load-2:\n"
        "    load: b.safetensors\n"
        f"    sha256: {'b' * 64}\n"
        "  concat-1: {concat: {load-1: 0.7, load-2: -0.4}}\n"
        "  save-1:\n"
        "    save: concat-1\n"
        "    to: o.safetensors\n"
        "    dense: false\n"
        "    dtype: keep\n"
        "    layout: keep\n"
        "    provenance: full\n"
    )


def test_the_date_that_a_build_was_given_is_in_the_head() -> None:
    text = recover(replace(saved(_A), epoch=1_000_000_000)).text
    assert text.splitlines()[2] == (
        "# Built with SOURCE_DATE_EPOCH=1000000000 in the environment: its date is in the file."
    )


def test_a_step_taken_twice_is_written_twice() -> None:
    both = concat((1.0, _A), (0.5, _B), (2.0, _A), (-3.0, _A))
    recipe = read(recover(saved(both)))

    (terms,) = [step.inputs["concat"] for step in recipe.steps.values() if step.kind == "concat"]
    assert [term.weight for term in terms] == [1.0, 0.5, 2.0, -3.0]
    assert [recipe.steps[term.step].params["load"] for term in terms] == [
        "a.safetensors", "b.safetensors", "a.safetensors", "a.safetensors",
    ]  # fmt: skip
    assert len({term.step for term in terms}) == 4


def test_a_computed_step_taken_twice_is_written_twice_with_its_own_inputs_once() -> None:
    half = Lineage("scale", 1, {"by": 0.5}, {"scale": ((1.0, _A),)})
    recipe = read(recover(saved(concat((1.0, half), (2.0, half)))))

    scales = [step for step in recipe.steps.values() if step.kind == "scale"]
    assert len(scales) == 2
    assert len([step for step in recipe.steps.values() if step.kind == "load"]) == 1


def test_a_port_of_several_ports_is_its_own() -> None:
    base = loaded("base.safetensors", "c")
    params = {"rank": 4, "bias": "none", "full": False, "method": "exact"}
    made = Lineage(
        "extract-lora", 1, params, {"extract-lora": ((0.5, _A),), "base": ((1.0, base), (2.0, _A))}
    )
    recipe = read(recover(saved(made)))

    (step,) = [step for step in recipe.steps.values() if step.kind == "extract-lora"]
    assert [term.weight for term in step.inputs["extract-lora"]] == [0.5]
    assert [term.weight for term in step.inputs["base"]] == [1.0, 2.0]


def test_two_inputs_of_one_name_lie_in_folders_of_their_digests() -> None:
    other = loaded("a.safetensors", "b")
    steps = read(recover(saved(concat((1.0, _A), (1.0, other))))).steps
    assert [steps[name].params["load"] for name in ("load-1", "load-2")] == [
        f"{'a' * 12}/a.safetensors",
        f"{'b' * 12}/a.safetensors",
    ]


def test_an_input_that_was_found_is_written_with_its_path_and_variant() -> None:
    paths = {"a" * 64: Found("../models/a.safetensors", "fp16")}
    step = read(recover(saved(_A), paths=paths)).steps["load-1"]
    assert (step.params["load"], step.params["variant"]) == ("../models/a.safetensors", "fp16")


def test_an_input_found_under_another_name_is_said_to_change_the_metadata() -> None:
    found = recover(saved(_A), paths={"a" * 64: Found("m/z.safetensors")})
    said = (
        "'a.safetensors' was found as 'z.safetensors': the tensors come out the same, while the metadata"
        " will tell the new name"
    )
    assert found.warnings == (said,)
    assert f"# {said}\n" in found.text


@pytest.mark.parametrize(
    ("name", "folder", "to"),
    [
        ("o.safetensors", False, "o.safetensors"),
        ("model-00001-of-00002.safetensors", True, "model-00001-of-00002/"),
        ("merged/", True, "merged/"),
        ("merged/", False, "merged.safetensors"),
        ("my $(file).safetensors", False, "my $(file).safetensors"),
    ],
)
def test_the_output_has_the_files_own_name(name: str, folder: bool, to: str) -> None:
    params: dict[str, JSON] = {"layout": "peft"} if folder else {}
    recipe = read(recover(replace(saved(_A, **params), folder=folder), name))
    assert recipe.steps["save-1"].params["to"] == to


@pytest.mark.parametrize(
    "text",
    [
        "$(x)",
        "$$(x)",
        "no",
        "1e3",
        "012",
        "- a",
        "a: b",
        "a #b",
        "'",
        '"',
        "two\nlines",
        "é 日本 🎨",
        "",
        "{",
        "*a",
    ],
)
def test_texts_stand_for_themselves(text: str) -> None:
    told = saved(loaded("$(name) " + text.replace("\n", " ")), metadata={"modelspec.title": text, "b c": "x"})
    recipe = read(recover(told))
    assert recipe.steps["save-1"].params["metadata"] == {"modelspec.title": text, "b c": "x"}
    assert recipe.steps["load-1"].params["load"] == "$(name) " + text.replace("\n", " ")


@pytest.mark.parametrize("number", [1e-300, 1.5e300, -0.1, 3.0, 1 / 3, 5e-324])
def test_numbers_come_out_as_they_were(number: float) -> None:
    scaled = Lineage("scale", 1, {"by": number}, {"scale": ((1.0, _A),)})
    assert read(recover(saved(scaled))).steps["scale-1"].params["by"] == number


def test_a_kind_of_another_version_is_said_to_differ() -> None:
    resized = Lineage("svd-resize", 7, {"rank": 4}, {"svd-resize": ((1.0, _A),)})
    found = recover(saved(resized))
    said = "svd-resize was version 7, this lorapipe has 1: bytes may differ"
    assert found.warnings == (said,)
    assert f"# {said}\n" in found.text


def test_an_option_that_has_come_to_be_since_is_said_to_change_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    params = {name: value for name, value in _OPTIONS.items() if name != "layout"}
    told = Told(Lineage("save", 1, params, {"save": ((1.0, _A),)}), _PROFILE)
    assert recover(told).warnings == ("its steps have other options in this lorapipe: bytes may differ",)


def test_an_unknown_kind_is_named() -> None:
    blurred = Lineage("acme.blur", 1, {}, {"acme.blur": ((1.0, _A),)})
    assert refusal(saved(blurred)) == (
        "o.safetensors: error: this lorapipe has no recipe for what it tells of its making - a newer"
        " lorapipe, or a package with further step kinds, may have built it\n"
        "  no step kind 'acme.blur'"
    )


def test_what_no_recipe_can_say_is_refused_with_reasons() -> None:
    odd = Lineage("scale", 1, {"by": "much", **{f"o{i}": 1 for i in range(9)}}, {"scale": ((1.0, _A),)})
    lines = refusal(saved(odd)).splitlines()
    assert len(lines) == 7
    assert lines[-1] == "  and 5 more"


_HOSTILE: list[Lineage] = [
    Lineage("load", 1, {}),
    Lineage("save", 1, {}, {"save": ((1.0, _A),)}),
    Lineage("../../x", 1, {}, {"../../x": ((1.0, _A),)}),
    Lineage("scale", 1, {"by": [[[[[1]]]]]}, {"scale": ((1.0, _A),)}),
    Lineage("scale", 1, {"by": 1.0, "x" * 100_000: "\x1b[31m"}, {"scale": ((1.0, _A),)}),
    Lineage("concat", 1, {}, {"concat": ()}),
    Lineage("concat", 1, {}, {"concat": ((1.0, _A),), "load": ((1.0, _A),)}),
    Lineage("scale", 1, {"by": 1.0}, {"scale": ((1.0, _A),)}, Source("a", "b" * 64)),
    Lineage("\x1b]0;owned\x07", 1, {}, {"scale": ((1.0, _A),)}),
    Lineage("scale", 1, {"by": "$(x)"}, {"scale": ((1.0, _A),)}),
    Lineage("scale", 1, {"by": 1.0, "$(x)": 1}, {"scale": ((1.0, _A),)}),
]


@pytest.mark.parametrize("lineage", _HOSTILE, ids=range(len(_HOSTILE)))
def test_a_strangers_steps_end_in_a_named_error(lineage: Lineage) -> None:
    refusal(saved(lineage))


def test_a_result_that_no_step_saved_is_no_recipe() -> None:
    assert "'concat' writes no file" in refusal(Told(concat((1.0, _A), (2.0, _B)), _PROFILE))


def test_a_strangers_profile_ends_in_a_named_error() -> None:
    refusal(replace(saved(_A), profile=Profile("2", "cpu; rm -rf", "float64")))


def test_control_characters_never_reach_the_text() -> None:
    name = "a\x1b[31m\x07\u202e\x85\u2028.safetensors"
    profile = Profile("2\x1b[0m\n  evil: {load: x}", "cpu", "float64")
    told = replace(saved(loaded("a\u202e\u200b.safetensors")), profile=profile)
    text = recover(told, name.replace("\x1b", "").replace("\x07", "")).text
    assert all(char.isprintable() or char == "\n" for char in text)
    recipe = parse(text)
    assert recipe.steps["load-1"].params["load"] == "a\u202e\u200b.safetensors"
    assert set(recipe.steps) == {"load-1", "save-1"}


@pytest.mark.parametrize("key", ["load", "sha256", "to", "save"])
def test_what_is_told_never_says_which_file_to_read_or_to_write(key: str) -> None:
    """An option of that name in the metadata would be taken for the file."""
    options: dict[str, JSON] = {key: "../../x"}
    told = saved(loaded("a.safetensors", **options)) if key in ("load", "sha256") else saved(_A, **options)
    recipe = parse(recover(told).text)
    assert recipe.steps["load-1"].params["load"] == "a.safetensors"
    assert recipe.steps["save-1"].params["to"] == "o.safetensors"


def test_a_kind_that_does_not_load_is_no_change_of_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(recovery._changed_kinds(Lineage("acme.blur", 3, {}))) == []
