"""Recipes with checks on the command line: what is said, where, and with which status."""

from __future__ import annotations

import json
import re

import pytest

from lorapipe.cli import main

from ..bench import PROJ_IN, TE, Bench

STEPS = """
    a: {load: a.safetensors}
    b: {svd-resize: a, rank: 2}
    whole: {save: a, to: whole.safetensors}
    out: {save: b, to: o.safetensors}
"""

PLAN_OF_A_CHECK = """\
c      check b
       rank at most 4, finite, energy of 'a' at least 0.1
       holds back out
       will run: not known to hold yet
"""


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench.lora("a")
    monkeypatch.chdir(bench.folder)
    return bench


def test_a_plan_shows_what_a_check_asserts_and_holds_back(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.recipe(STEPS + "c: {check: b, rank: {max: 4}, finite: true, energy: {of: a, min: 0.1}}")
    assert main(["plan", "r.yaml", "--hash"]) == 0
    said = re.sub(r", [0-9.]+ [kM]B of memory", "", capsys.readouterr().out)
    assert PLAN_OF_A_CHECK in said
    assert "2 outputs to write, 1 check to make on cpu" in said


def test_a_plan_of_a_check_that_headers_show_to_fail_is_shown_whole_with_status_8(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.recipe(STEPS + "c: {check: b, rank: {max: 1}}")
    for command in (["plan"], ["plan", "--check"], ["plan", "--json"]):
        assert main([*command, "r.yaml"]) == 8
        said = capsys.readouterr()
        assert "does not hold" in said.out
        assert "held back" in said.out
        assert said.err.startswith(
            "r.yaml:7:23: error: 'b': 4 of 4 modules have a rank above 1 - not made: out\n"
        )
        assert f"  2  {TE}\n" in said.err
    assert not (kitchen.folder / "r.lock").exists()


def test_a_run_makes_what_no_check_holds_back_and_ends_with_status_8(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.recipe(STEPS + "c: {check: b, energy: {of: a, min: 0.99}}")
    assert main(["run", "r.yaml"]) == 8
    said = capsys.readouterr()
    assert said.out == ""
    assert "] whole: written in " in said.err
    assert "] c: does not hold in " in said.err
    assert "] out: held back in " in said.err
    assert (
        "r.yaml:7:25: error: 'b': 4 of 4 modules have an energy of 'a' below 0.99 - not made: out\n"
        in said.err
    )
    excerpt = "     7 |   c: {check: b, energy: {of: a, min: 0.99}}\n"
    assert said.err.endswith(f"{excerpt}       |                         ^^^^^^^^^^^^^^^^^^\n")
    assert (kitchen.folder / "whole.safetensors").exists()
    assert not (kitchen.folder / "o.safetensors").exists()


def test_a_run_says_what_a_check_that_holds_measured(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.recipe(
        STEPS
        + "c: {check: b, rank: {max: 4}, modules: 4, finite: true, norm: {max: 1e3},"
        + " energy: {of: a, min: 0.1}, differs-from: a}"
    )
    assert main(["run", "r.yaml"]) == 0
    said = capsys.readouterr().err
    assert re.search(
        rf"^c: rank 2, modules 4, finite, norm [0-9.]+ to [0-9.]+ \({PROJ_IN[:5]}\S+\),"
        r" energy \d\d\.\d\d%, at worst \d\d\.\d\d% \(lora_\S+\), differs \(lora_\S+\)$",
        said,
        re.MULTILINE,
    )
    assert "] c: holds in " in said
    assert main(["run", "r.yaml"]) == 0
    assert "c:" not in capsys.readouterr().err


def test_work_that_plan_finds_is_also_a_check(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen.recipe(STEPS)
    assert main(["run", "r.yaml", "-q"]) == 0
    assert main(["plan", "r.yaml", "--check"]) == 0
    kitchen.recipe(STEPS + "c: {check: b, finite: true}")
    capsys.readouterr()
    assert main(["plan", "r.yaml", "--check"]) == 7
    said = capsys.readouterr()
    assert "to be built: c" in said.err
    assert "0 outputs to write, 1 check to make" in said.out


def test_what_is_held_back_is_explained_by_its_check(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.recipe(STEPS + "c: {check: b, rank: {max: 1}}")
    assert main(["explain", "r.yaml", "out"]) == 0
    assert "held back: check 'c' does not hold" in capsys.readouterr().out


def test_status_tells_a_check_that_does_not_hold(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen.recipe(STEPS)
    assert main(["run", "r.yaml", "-q"]) == 0
    kitchen.recipe(STEPS + "c: {check: b, rank: {max: 1}}")
    main(["status", "r.yaml"])
    assert re.search(r"^c +does not hold", capsys.readouterr().out, re.MULTILINE)


def test_json_tells_of_checks(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen.recipe(STEPS + "c: {check: b, finite: true}")
    assert main(["plan", "r.yaml", "--json"]) == 0
    told = {step["id"]: step for step in json.loads(capsys.readouterr().out)["steps"]}
    assert told["c"]["holds-back"] == ["out"]
    assert told["c"]["inputs"] == {"check": [{"step": "b", "weight": 1.0}]}


def test_a_graph_leads_from_a_check_to_what_it_holds_back(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.recipe(STEPS + "c: {check: b, energy: {of: a, min: 0.1}, differs-from: a}")
    assert main(["graph", "r.yaml"]) == 0
    said = capsys.readouterr().out
    assert '    s4{{"c<br>check"}}\n' in said
    assert said.count("s0 --> s4") == 1
    assert said.endswith("    s4 -.-> s3\n")
    assert main(["graph", "r.yaml", "--format", "dot"]) == 0
    said = capsys.readouterr().out
    assert '"c" [label="c\\ncheck" shape=hexagon]' in said
    assert '"c" -> "out" [style=dotted]' in said
