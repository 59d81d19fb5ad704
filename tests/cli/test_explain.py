"""``lorapipe explain``: on the screen, for programs, for what does not exist."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lorapipe.cli import main

from ..bench import Bench

STEPS = """
    a: {load: a.safetensors}
    b: {load: loras/b.safetensors}
    both: {concat: {a: 1.0, b: $(w)}}
    small: {svd-resize: both, rank: 2}
    out: {save: small, to: out/o.safetensors}
"""


@pytest.fixture
def built(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench.lora("a", seed=1)
    (bench.folder / "loras").mkdir()
    bench.lora("b", seed=2).rename(bench.folder / "loras" / "b.safetensors")
    bench.recipe(STEPS, head="params: {w: 0.5}\n")
    monkeypatch.chdir(bench.folder)
    time.sleep(0.06)  # what was written just now is not remembered
    assert main(["run", "r.yaml", "-q"]) == 0
    return bench


def test_each_output_and_stored_step_has_a_paragraph(
    built: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "r.yaml", "--set", "w=0.25"]) == 0

    assert capsys.readouterr().out == (
        "small\n"
        "  will run: this changed since it was made:\n"
        "    both: b 0.5 -> 0.25\n"
        "\n"
        "out, out/o.safetensors\n"
        "  will run: this changed since it was built:\n"
        "    both: b 0.5 -> 0.25\n"
    )


def test_a_changed_input_is_told_by_its_step_and_path(
    built: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    built.lora("b", seed=3).rename(built.folder / "loras" / "b.safetensors")
    (built.folder / "r.lock").unlink()
    assert main(["explain", "r.yaml", "out"]) == 0

    said = capsys.readouterr().out.splitlines()
    assert said[0] == "out, out/o.safetensors"
    assert said[1] == (
        "  will run, or be found in the store once hashed: no sha256 is known of b.safetensors;"
        " lorapipe plan --hash reads what is not hashed yet, and decides:"
    )
    assert said[2].startswith("    b (loras/b.safetensors): not hashed yet, was ")


def test_nothing_changed_is_a_line_without_a_list(built: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "r.yaml", "out"]) == 0

    assert capsys.readouterr().out == (
        "out, out/o.safetensors\n"
        "  up to date: the file is as it was built, of the same inputs, options and versions\n"
    )


def test_it_is_read_as_json(built: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "r.yaml", "out", "--set", "w=0.25", "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == {
        "version": 1,
        "steps": [
            {
                "id": "out",
                "kind": "save",
                "output": "out/o.safetensors",
                "status": "will run",
                "because": "this changed since it was built",
                "changes": [{"step": "both", "file": None, "words": ["b 0.5 -> 0.25"]}],
            }
        ],
    }


def test_an_unknown_step_has_status_2(built: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "r.yaml", "otu"]) == 2
    assert capsys.readouterr().err == "error: the recipe has no step 'otu' - did you mean 'out'?\n"


def test_a_hostile_name_steers_no_terminal(
    built: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a\x1b[31m"
    folder.mkdir()
    built.lora("a", seed=4).rename(folder / "x.safetensors")
    built.recipe(STEPS.replace("a.safetensors", "x.safetensors"), head="params: {w: 0.5}\n")
    (built.folder / "r.lock").unlink()

    assert main(["explain", "r.yaml", "--models", str(folder)]) == 0

    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[31m" in out
