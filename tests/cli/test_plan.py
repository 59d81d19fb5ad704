"""``lorapipe plan``: for people, for programs, for CI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorapipe.cli import main

from ..bench import TO_Q, Bench

STEPS = """
    a: {load: a.safetensors}
    mixed: {shuffle: a}
    out: {save: mixed, to: out/o.safetensors}
"""


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench.lora("a")
    bench.recipe(STEPS)
    monkeypatch.chdir(bench.folder)
    return bench


def statuses(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, str]:
    assert main(["plan", "r.yaml", "--json", *options]) == 0
    told = json.loads(capsys.readouterr().out)
    return {step["id"]: step["status"] for step in told["steps"]}


def test_a_plan_goes_to_stdout(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "r.yaml"]) == 0

    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith("a      load a.safetensors\n       sha256 not hashed yet\n")
    assert said.out.endswith("lorapipe plan --hash reads what is not hashed yet, and decides the rest\n")


def test_a_plan_writes_nothing_not_even_a_store(kitchen: Bench, tmp_path: Path) -> None:
    before = sorted(kitchen.folder.iterdir())

    for options in ([], ["--json"], ["--modules"], ["--check"]):
        main(["plan", "r.yaml", *options])

    assert sorted(kitchen.folder.iterdir()) == before
    assert not (tmp_path / "store").exists()


def test_hash_reads_the_inputs_and_the_next_plan_knows_them(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    undecided = "will run, or be found in the store once hashed"
    assert statuses(capsys) == {"a": "will run", "mixed": undecided, "out": undecided}
    assert statuses(capsys, "--hash") == {"a": "will run", "mixed": "will run", "out": "will run"}


def test_a_plan_is_read_as_json(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "r.yaml", "--json", "--modules"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["version"] == 1
    assert TO_Q in [module["name"] for module in told["steps"][0]["modules"]]


def test_check_has_status_7_while_there_is_work_and_0_after_it(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "r.yaml", "--check"]) == 7
    said = capsys.readouterr()
    assert said.err == "error: to be built: out - lorapipe run builds them\n"
    assert "1 output to write" in said.out

    assert main(["run", "r.yaml", "-q"]) == 0
    assert main(["plan", "r.yaml", "--hash", "--check"]) == 0


def test_check_with_json_prints_the_plan_and_nothing_else_on_stdout(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "r.yaml", "--check", "--json"]) == 7
    assert json.loads(capsys.readouterr().out)["order"] == ["a", "mixed", "out"]


def test_what_a_run_would_do_is_what_it_does(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "r.yaml", "--json"]) == 0
    order = json.loads(capsys.readouterr().out)["order"]

    main(["run", "r.yaml"])

    done = [line.split()[1].rstrip(":") for line in capsys.readouterr().err.splitlines() if line[0] == "["]
    assert done == order


def test_options_of_the_run_change_the_plan(
    kitchen: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.recipe(STEPS.replace("shuffle: a", "shuffle: a, seed: $(seed)"), head="params: {seed: 0}\n")
    main(["run", "r.yaml", "-q"])

    same = statuses(capsys, "--hash")
    seeded = statuses(capsys, "--hash", "--set", "seed=1")
    moved = statuses(capsys, "--hash", "--output-root", str(tmp_path / "there"))

    assert same["out"] == "up to date"
    assert (seeded["mixed"], seeded["out"]) == ("will run", "will run")
    assert (moved["mixed"], moved["out"]) == ("in the store", "will run")


def test_the_json_of_a_hostile_name_is_json_and_steers_no_terminal(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a\x1b[31m\nb"
    folder.mkdir()
    bench.lora("a").rename(folder / "a.safetensors")
    recipe = bench.recipe(STEPS)

    assert main(["plan", str(recipe), "--json", "--models", str(folder)]) == 0

    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert json.loads(out)["steps"][0]["file"]["path"] == "../a\x1b[31m\nb/a.safetensors"


@pytest.mark.parametrize("options", [["--jso"], ["--device", "gpu"], ["--set", "x=1"], ["--set", "=1"]])
def test_a_wrong_command_line_has_status_2(
    kitchen: Bench, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert main(["plan", "r.yaml", *options]) == 2
    assert "Traceback" not in capsys.readouterr().err
