"""``lorapipe init``: from files to a recipe that runs."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

from lorapipe.cli import init, main
from lorapipe.recipe.formatting import format_text
from lorapipe.recipe.parsing import parse

from .test_main import modules_after

DATA = Path(__file__).resolve().parents[2] / "recipes" / "data"
CHAR, STYLE, MODEL = (
    "loras/lantern-char.safetensors",
    "loras/ink-style.safetensors",
    "sd15-excerpt.safetensors",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / ".store"))
    Path("loras").mkdir()
    for name in (CHAR, STYLE, MODEL):
        shutil.copy(DATA / Path(name).name, name)
    return tmp_path


def written(name: str = "recipe.yaml") -> str:
    text = Path(name).read_text(encoding="utf-8")
    assert format_text(text) == text
    return text


def test_flags_say_it_all() -> None:
    assert main(["init", "concat", CHAR, f"{STYLE}=0.7", "-o", "my.yaml", "--to", "out/c.safetensors"]) == 0
    assert written("my.yaml") == (
        "# Several LoRAs in one file, exactly. Written by lorapipe init; from here on it is yours.\n"
        "lorapipe: 1\n"
        "name: my\n"
        "\n"
        "steps:\n"
        "  lantern-char: {load: loras/lantern-char.safetensors}  # LoRA, SD1.x, rank 12, 15 modules\n"
        "  ink-style:    {load: loras/ink-style.safetensors}     # LoRA, SD1.x, rank 4-8, 14 modules\n"
        "\n"
        "  # 1.0 is a LoRA as it was trained, 0.5 half of it, a negative weight takes it away. The sum is\n"
        "  # exact: its rank is that of all together.\n"
        "  sum: {concat: {lantern-char: 1.0, ink-style: 0.7}}\n"
        "\n"
        "  # layout: kohya, diffusers, peft or comfy writes the names that a program reads.\n"
        "  out: {save: sum, to: out/c.safetensors}\n"
    )
    assert main(["run", "my.yaml", "-q"]) == 0
    assert Path("out/c.safetensors").is_file()


@pytest.mark.parametrize("job", ["concat", "svd", "merge", "sweep"])
def test_without_files_it_takes_those_of_the_folder_by_what_they_are(job: str) -> None:
    assert main(["init", job]) == 0
    steps = parse(written()).steps
    loaded = [str(step.params["load"]) for step in steps.values() if step.kind == "load"]
    assert sorted(loaded) == sorted([CHAR, STYLE, *([MODEL] if job == "merge" else [])])


def test_svd_has_a_rank_to_set_and_sweep_strengths_to_choose_from() -> None:
    assert main(["init", "svd", CHAR, STYLE, "--rank", "4", "-o", "svd.yaml"]) == 0
    assert parse(written("svd.yaml")).steps["small"].params["rank"] == 4
    assert main(["init", "sweep", CHAR, "-o", "sweep.yaml"]) == 0
    assert "matrix:\n  strength: [0.4, 0.6, 0.8, 1.0]\n" in written("sweep.yaml")
    assert main(["run", "sweep.yaml", "-q", "--only", "strength=0.6"]) == 0
    assert [path.name for path in Path("out").iterdir()] == ["sweep-0.6.safetensors"]
    assert main(["run", "sweep.yaml", "-q"]) == 0
    assert len(list(Path("out").iterdir())) == 4


def test_extract_needs_to_know_which_is_the_base(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(MODEL, "tuned.safetensors")
    assert main(["init", "extract"]) == 2
    assert "name the tuned one, and --base the other" in capsys.readouterr().err
    assert main(["init", "extract", "tuned.safetensors", "--base", MODEL, "--rank", "2"]) == 0
    step = parse(written()).steps["difference"]
    assert (step.inputs["extract-lora"][0].step, step.inputs["base"][0].step) == ("tuned", "base")


def test_nothing_is_overwritten_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("recipe.yaml").write_text("mine")
    assert main(["init", "concat", CHAR]) == 5
    assert "'recipe.yaml' is there - give another name to -o, or --force" in capsys.readouterr().err
    assert Path("recipe.yaml").read_text() == "mine"
    assert main(["init", "concat", CHAR, "--force"]) == 0
    written()


def test_a_result_is_not_taken_for_a_source() -> None:
    Path("out").mkdir()
    shutil.copy(CHAR, "out/old.safetensors")
    assert main(["init", "concat"]) == 0
    assert "old" not in written()


def test_what_cannot_be_read_is_said_and_passed_over_unless_it_was_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("bad.safetensors").write_bytes(b"none")
    assert main(["init", "concat"]) == 0
    assert "bad.safetensors" in capsys.readouterr().err
    assert main(["init", "concat", "bad.safetensors", "-o", "b.yaml"]) == 4
    assert main(["init", "concat", "none.safetensors", "-o", "b.yaml"]) == 4
    assert not Path("b.yaml").exists()


def test_without_a_terminal_it_needs_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 2
    assert "which job? - one of concat, svd, merge, extract, sweep" in capsys.readouterr().err


def test_the_jobs_of_the_command_are_those_that_there_are() -> None:
    from lorapipe.drafts.jobs import JOBS

    (job,) = (one for one in init.command.params if one.name == "job")
    assert tuple(job.type.choices) == tuple(JOBS)  # type: ignore[attr-defined]


def asked(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{answer}\n" for answer in answers)))
    monkeypatch.setattr(init, "_interactive", lambda: True)


def test_in_a_terminal_it_asks_for_what_is_not_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(monkeypatch, "9", "svd", "7", "1 2=-0.5", "0", "4", "mine.yaml", "")
    assert main(["init"]) == 0
    shown = capsys.readouterr().out
    assert "1  concat   Several LoRAs in one file, exactly." in shown
    assert "one of 1 to 5, not '9'" in shown
    assert "1  loras/ink-style.safetensors     LoRA, SD1.x, rank 4-8, 14 modules" in shown
    assert "a number from 1 to 2, not '7'" in shown
    recipe = parse(written("mine.yaml"))
    assert {term.step: term.weight for term in recipe.steps["sum"].terms()} == {
        "ink-style": 1.0,
        "lantern-char": -0.5,
    }
    assert recipe.params == {"rank": 4}
    assert recipe.steps["out"].params["to"] == "out/mine.safetensors"


def test_in_a_terminal_it_asks_for_checkpoints_and_before_it_replaces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("recipe.yaml").write_text("mine")
    asked(monkeypatch, "all", "1", "", "", "n")
    assert main(["init", "merge"]) == 5
    assert Path("recipe.yaml").read_text() == "mine"
    asked(monkeypatch, "1", "1", "", "", "y")
    assert main(["init", "merge"]) == 0
    assert parse(written()).steps["merged"].inputs["merge-into-checkpoint"][0].step == "base"
    capsys.readouterr()


def test_torch_is_not_loaded(folder: Path) -> None:
    loaded = modules_after("init", "concat", str(folder / CHAR), "-o", str(folder / "x.yaml"))
    assert "torch" not in loaded
