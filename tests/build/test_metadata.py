"""The rules of what a file's metadata keep, from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open

import lorapipe
from lorapipe import version
from lorapipe.build.proving import statements

from ..bench import Bench

A = {"ss_base_model_version": "sd_v1", "ss_v2": "False", "ss_network_dim": "99", "ss_network_alpha": "99",
     "ss_comment": "of a", "both": "the same", "mine": "a's", "sshs_model_hash": "stale"}  # fmt: skip
B = {**A, "ss_comment": "of b", "mine": "b's"}


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def saved(bench: Bench, steps: str) -> dict[str, str]:
    return metadata(lorapipe.run(bench.recipe(steps)).outputs[0].path)


@pytest.fixture
def kitchen(bench: Bench) -> Bench:
    bench.lora("a", metadata=A)
    bench.lora("b", rank=6, seed=1, metadata=B)
    return bench


def test_of_one_source_other_keys_are_kept_and_those_of_the_network_are_made_anew(kitchen: Bench) -> None:
    found = saved(
        kitchen, "a: {load: a.safetensors}\nb: {scale: a, by: 0.5}\nout: {save: b, to: o.safetensors}"
    )
    assert (found["ss_comment"], found["mine"], found["both"]) == ("of a", "a's", "the same")
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("4", "1")
    assert found["sshs_model_hash"] != "stale"


def test_of_several_sources_the_keys_on_which_they_agree_are_kept(kitchen: Bench) -> None:
    found = saved(
        kitchen,
        "a: {load: a.safetensors}\nb: {load: b.safetensors}\nc: {concat: [a, b]}\n"
        "out: {save: c, to: o.safetensors}",
    )
    assert found["both"] == "the same"
    assert not {"ss_comment", "mine"} & found.keys()
    assert found["ss_network_dim"] == "10"


def test_what_the_recipe_says_wins_over_all_of_it(kitchen: Bench) -> None:
    given = {"ss_comment": "x", "ss_network_dim": "7", "sshs_model_hash": "y", "new": "z"}
    words = ", ".join(f"{key}: '{value}'" for key, value in given.items())
    found = saved(
        kitchen, f"a: {{load: a.safetensors}}\nout: {{save: a, to: o.safetensors, metadata: {{{words}}}}}"
    )
    assert {key: found[key] for key in given} == given


def test_a_recipes_name_its_notes_and_lorapipes_version_change_no_byte(
    kitchen: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = kitchen.recipe("a: {load: a.safetensors}\nout: {save: a, to: one/o.safetensors}")
    told = kitchen.recipe(
        "# secret comment\nabc: {load: ./a.safetensors, description: a note}\n"
        "x: {save: abc, to: two/other.safetensors, description: another}",
        name="told.yaml",
        head="name: a name\ndescription: of it all\nx-mine: [1, 2]\nparams: {unused: 3}\n",
    )
    first = lorapipe.run(plain).outputs[0].path.read_bytes()
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "other store"))
    for module in (version, statements):
        monkeypatch.setattr(module, "__version__", "99.0")
    assert lorapipe.run(told).outputs[0].path.read_bytes() == first
