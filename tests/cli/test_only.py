"""``--only`` and the ids of variants, command by command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorapipe.cli import main
from lorapipe.store.lockfile import read

from ..bench import Bench

STEPS = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: $(s), b: -0.5}}
    small: {svd-resize: both, rank: $(r)}
    lora: {save: small, to: out/s$(s)-r$(r).safetensors}
"""
HEAD = "matrix: {s: [0.5, 1.0], r: [1, 2]}\n"
NAMES = [f"s{s}-r{r}.safetensors" for s in (0.5, 1.0) for r in (1, 2)]


@pytest.fixture(autouse=True)
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    bench.recipe(STEPS, head=HEAD)
    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("COLUMNS", "200")
    return bench


@pytest.fixture
def built() -> None:
    assert main(["run", "r.yaml", "-q"]) == 0


def outputs() -> list[str]:
    return sorted(path.name for path in Path("out").iterdir())


def said(capsys: pytest.CaptureFixture[str], *command: str, status: int = 0) -> str:
    capsys.readouterr()
    assert main(list(command)) == status
    shown = capsys.readouterr()
    return shown.out + shown.err


def test_run_makes_what_is_asked_for_and_then_the_rest() -> None:
    assert main(["run", "r.yaml", "-q", "--only", "r=2"]) == 0
    assert outputs() == [NAMES[1], NAMES[3]]
    assert main(["run", "r.yaml", "-q", "--only", "s=1.0", "--only", "r=1"]) == 0
    assert outputs() == [NAMES[1], NAMES[2], NAMES[3]]
    assert main(["run", "r.yaml", "-q"]) == 0
    assert outputs() == NAMES
    lock = read(Path("r.lock"))
    assert lock is not None
    assert len(lock.outputs) == 4


def test_validate_counts_the_steps_of_the_text_and_the_variants(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "validate", "r.yaml") == "r.yaml: ok (5 steps in 4 variants)\n"


def test_plan_shows_and_decides_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(said(capsys, "plan", "r.yaml", "--json", "--only", "r=2", "--only", "s=0.5"))
    assert [step["id"] for step in told["steps"]] == [
        "a",
        "b",
        "both[s=0.5]",
        "small[s=0.5,r=2]",
        "lora[s=0.5,r=2]",
    ]
    assert main(["run", "r.yaml", "-q", "--only", "r=2"]) == 0
    said(capsys, "plan", "r.yaml", "--check", "--only", "r=2")
    assert "lora[s=0.5,r=1], lora[s=1.0,r=1]" in said(capsys, "plan", "r.yaml", "--check", status=7)


def test_status_and_verify_look_at_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "r.yaml", "-q", "--only", "r=2"]) == 0
    told = json.loads(said(capsys, "status", "r.yaml", "--json", "--only", "r=2"))
    assert {row["id"]: row["state"] for row in told["steps"] if row["kind"] == "save"} == {
        "lora[s=0.5,r=2]": "up to date",
        "lora[s=1.0,r=2]": "up to date",
    }
    said(capsys, "verify", "r.yaml", "--only", "r=2")
    said(capsys, "verify", "r.yaml", status=8)
    said(capsys, "verify", "r.yaml", "--rebuild", "--only", "r=2")


def test_explain_takes_an_id_a_part_of_one_and_the_id_in_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    def explained(*words: str) -> list[str]:
        return [one["id"] for one in json.loads(said(capsys, "explain", "r.yaml", "--json", *words))["steps"]]

    assert explained("small[s=0.5,r=2]") == ["small[s=0.5,r=2]"]
    assert explained("small[r=2]") == ["small[s=0.5,r=2]", "small[s=1.0,r=2]"]
    assert explained("small") == [f"small[s={s},r={r}]" for s in (0.5, 1.0) for r in (1, 2)]
    assert explained("small", "--only", "s=1.0") == ["small[s=1.0,r=1]", "small[s=1.0,r=2]"]
    assert explained("both", "--only", "s=1.0") == ["both[s=1.0]", "small[s=1.0,r=1]", "small[s=1.0,r=2]"]
    assert "--only leaves out every 'small[r=2]'" in said(
        capsys, "explain", "r.yaml", "small[r=2]", "--only", "r=1", status=2
    )


def test_explain_says_what_another_value_changed(
    kitchen: Bench, built: None, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.recipe(STEPS.replace("b: -0.5", "b: -0.6"), head=HEAD)
    text = said(capsys, "explain", "r.yaml", "lora[s=0.5,r=2]")
    assert "both[s=0.5]" in text
    assert "-0.5 -> -0.6" in text


def test_graph_draws_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(
        capsys, "graph", "r.yaml", "--only", "r=2", "--only", "s=0.5", "--format", "dot", "--variants"
    )
    assert text.count("shape=note") == 1
    assert '"both[s=0.5]" -> "small[s=0.5,r=2]"' in text
    assert said(capsys, "graph", "r.yaml", "--variants").count("save<br>") == 4


def test_report_tells_of_what_is_asked_for(built: None, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(said(capsys, "report", "r.yaml", "--json", "--only", "r=2"))
    assert {step["id"] for step in told["steps"] if step["kind"] == "save"} == {
        "lora[s=0.5,r=2]",
        "lora[s=1.0,r=2]",
    }


def test_lock_and_attest_take_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "r.yaml", "-q", "--only", "r=2"]) == 0
    stated = json.loads(said(capsys, "attest", "r.yaml", "--only", "r=2"))
    assert {subject["name"] for subject in stated["subject"]} == {f"out/{NAMES[1]}", f"out/{NAMES[3]}"}
    before = Path("r.lock").read_bytes()
    said(capsys, "lock", "r.yaml", "--only", "r=1")
    assert Path("r.lock").read_bytes() == before


def test_what_is_not_in_the_matrix_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "plan", "status", "explain", "verify", "graph", "report"):
        lock = ["--lock", "r.lock"] if command == "verify" else []
        if command == "verify":
            assert main(["lock", "r.yaml", "-q"]) == 0
        assert "r.yaml: error: 'r' is never 3 - 'r' has 2, 1" in said(
            capsys, command, "r.yaml", "--only", "r=3", *lock, status=2
        )
    assert not Path("out").exists()


def test_set_of_an_axis_tells_of_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'r' is an axis, no param - --only r=VALUE takes the variants with it" in said(
        capsys, "run", "r.yaml", "--set", "r=2", status=2
    )


def test_every_command_shows_the_ids_of_variants_whole(
    built: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Brackets are markup to the library that prints."""
    Path("out", NAMES[1]).unlink()
    for command in (
        ["plan", "--variants"],
        ["explain"],
        ["explain", "lora[s=0.5,r=2]"],
        ["run", "--progress", "plain"],
    ):
        assert "lora[s=0.5,r=2]" in said(capsys, command[0], "r.yaml", *command[1:])
    Path("out", NAMES[1]).write_bytes(b"mine")
    assert f"'{NAMES[1]}' is there and was changed" in said(capsys, "run", "r.yaml", status=5)


def test_what_a_variant_is_made_of_can_be_recovered(built: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recover", f"out/{NAMES[1]}", "-o", "again.yaml", "--inputs", "."]) == 0
    wanted = Path("out", NAMES[1]).read_bytes()
    assert main(["run", "again.yaml", "-q", "--output-root", "elsewhere"]) == 0
    assert [path.read_bytes() for path in Path("elsewhere").rglob("*.safetensors")] == [wanted]


def test_recipes_with_and_without_a_matrix_are_compared_by_meaning(
    kitchen: Bench, built: None, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.recipe(STEPS, "same.yaml", head="matrix:\n  s: [1.0, 0.50]\n  r: [2, 1]\n")
    text = said(capsys, "diff", "r.yaml", "same.yaml")
    assert "rank" not in text
    kitchen.recipe(STEPS, "other.yaml", head="matrix: {s: [0.5, 1.0], r: [1, 3]}\n")
    told = json.loads(said(capsys, "diff", "r.yaml", "other.yaml", "--json"))
    assert "small[s=0.5,r=3]" in json.dumps(told)
    assert "lora[s=0.5,r=1]" not in json.dumps(told["steps"])


def test_events_name_the_variants(kitchen: Bench) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lorapipe", "run", "r.yaml", "--progress", "json", "--only", "r=2"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert {e["step"] for e in events if e["event"] == "step-done" and e["how"] == "written"} == {
        "lora[s=0.5,r=2]",
        "lora[s=1.0,r=2]",
    }
