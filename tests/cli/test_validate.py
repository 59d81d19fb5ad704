"""``lorapipe validate``."""

from __future__ import annotations

import io
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lorapipe.cli import main

from .test_main import modules_after, run

GOOD = (
    "lorapipe: 1\nparams: {w: 1.0}\nsteps:\n  a: {load: no/such/file.safetensors}\n  b: {concat: {a: $(w)}}\n"
)
BAD = "lorapipe: 1\nsteps:\n  a: {laod: f}\n  b: {svd-resize: a, rnak: 8}\n"


@pytest.fixture(autouse=True)
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(GOOD, encoding="utf-8")
    Path("bad.yaml").write_text(BAD, encoding="utf-8")


def test_a_good_recipe_is_ok_though_no_input_exists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "good.yaml"]) == 0
    assert capsys.readouterr() == ("good.yaml: ok (2 steps)\n", "")


def test_every_error_of_a_bad_recipe_is_shown_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "bad.yaml"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "bad.yaml:3:7: error: no step kind 'laod' - did you mean 'load'?\n"
        "     3 |   a: {laod: f}\n"
        "       |       ^^^^\n"
        "bad.yaml:4:22: error: svd-resize has no option 'rnak' - did you mean 'rank'?\n"
        "     4 |   b: {svd-resize: a, rnak: 8}\n"
        "       |                      ^^^^\n"
    )


def test_one_bad_recipe_does_not_hide_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "missing.yaml", "bad.yaml", "good.yaml"]) == 3
    captured = capsys.readouterr()
    assert captured.out == "good.yaml: ok (2 steps)\n"
    missing, bad = captured.err.splitlines()[:2]
    assert missing.startswith("missing.yaml: error: no such file or directory - name a recipe, ")
    assert bad.startswith("bad.yaml:3:7: error:")


def test_a_missing_recipe_is_a_missing_input() -> None:
    assert main(["validate", "missing.yaml"]) == 4


def test_params_are_set_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "good.yaml", "--set", "w=0.5"]) == 0
    assert main(["validate", "good.yaml", "--set", "w=x"]) == 2
    assert main(["validate", "good.yaml", "--set", "v=1"]) == 2
    assert main(["validate", "good.yaml", "--set", "v"]) == 2
    assert capsys.readouterr().err == (
        "error: param 'w' takes a number, not 'x' - its default is 1.0\n"
        "good.yaml: error: no param 'v' - the recipe has w\n"
        "error: --set takes name=value, not 'v' - write for example --set strength=0.5\n"
    )


def test_a_dash_reads_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(BAD.encode())))
    assert main(["validate", "-"]) == 3
    assert capsys.readouterr().err.startswith("<stdin>:3:7: error: no step kind 'laod'")


def test_one_step_is_not_steps(capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.yaml").write_text("{lorapipe: 1, steps: {a: {load: f}}}", encoding="utf-8")
    assert main(["validate", "one.yaml"]) == 0
    assert capsys.readouterr().out == "one.yaml: ok (1 step)\n"


def test_validate_is_quick_and_loads_nothing_that_computes() -> None:
    path = str(Path("good.yaml").resolve())
    assert not modules_after("validate", path) & {
        "torch",
        "networkx",
        "numpy",
        "rich",
        "safetensors",
        "sqlite3",
    }
    spent = []
    for _ in range(3):
        begin = time.perf_counter()
        assert run("validate", path).returncode == 0
        spent.append(time.perf_counter() - begin)
    assert min(spent) < 0.5
