"""``lorapipe graph``: the graph of a recipe, whether its inputs exist or not."""

from __future__ import annotations

import pytest

from lorapipe.cli import main

from ..bench import Bench

STEPS = "a: {load: not-here.safetensors}\nhalf: {concat: {a: $(by)}}\nout: {save: half, to: o.safetensors}"


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench.recipe(STEPS, head="params: {by: 0.5}\n")
    monkeypatch.chdir(bench.folder)
    return bench


def test_mermaid_unless_said_otherwise(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "r.yaml"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert (
        said.out
        == """\
flowchart LR
    s0[("a<br>load<br>not-here.safetensors")]
    s1["half<br>concat"]
    s2[/"out<br>save<br>o.safetensors"/]
    s0 -->|0.5| s1
    s1 --> s2
"""
    )


def test_dot_where_asked_for(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "r.yaml", "--format", "dot"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("digraph recipe {\n")
    assert out.endswith('    "a" -> "half" [label="0.5"]\n    "half" -> "out"\n}\n')


def test_set_shows_in_the_weights(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "r.yaml", "--set", "by=-0.25"]) == 0
    assert "s0 -->|-0.25| s1" in capsys.readouterr().out


def test_a_wrong_recipe_has_its_errors_and_no_graph(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.recipe("a: {lod: x.safetensors}")
    assert main(["graph", "r.yaml"]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("r.yaml:3:7: error: no step kind 'lod' - did you mean 'load'?")


@pytest.mark.parametrize("options", [["--format", "svg"], ["--set", "bye=1"], ["--set", "by"]])
def test_a_wrong_command_line_has_status_2(kitchen: Bench, options: list[str]) -> None:
    assert main(["graph", "r.yaml", *options]) == 2
