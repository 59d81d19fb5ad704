"""``lorapipe run``: what it prints where, what its options do, and how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lorapipe.cli import main

from ..bench import SHAPES, TE, TO_Q, Bench

STEPS = """
    a: {load: a.safetensors}
    half: {scale: a, by: $(by)}
    small: {svd-resize: half, rank: 2}
    out: {save: small, to: out/o.safetensors}
"""
HEAD = "params: {by: 0.5}\n"


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench.lora("a")
    bench.recipe(STEPS, head=HEAD)
    monkeypatch.chdir(bench.folder)
    return bench


def table(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_what_was_made_goes_to_stdout_and_how_to_stderr(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "r.yaml"]) == 0

    said = capsys.readouterr()
    heading, output, content = table(said.out)
    assert heading == ["output", "size", "sha256"]
    assert output[0] == "out/o.safetensors"
    assert " ".join(output[-4:]).startswith("written in ")
    assert " ".join(content) == "LoRA, SD1.x, 4 modules, rank 2"
    assert [line.split(" in ")[0] for line in said.err.splitlines() if line.startswith("[")] == [
        "[1/4] a: built",
        "[2/4] half: built",
        "[3/4] small: built",
        "[4/4] out: written",
    ]
    assert "small: keeps " in said.err


def test_a_second_run_says_up_to_date_and_nothing_else(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", "r.yaml"])
    capsys.readouterr()

    assert main(["run", "r.yaml"]) == 0

    said = capsys.readouterr()
    assert table(said.out)[1][-3:] == ["up", "to", "date"]
    assert said.err == ""


def test_quiet_says_nothing_but_errors(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "r.yaml", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")

    (kitchen.folder / "out" / "o.safetensors").write_bytes(b"edited")
    assert main(["run", "r.yaml", "-q"]) == 5
    said = capsys.readouterr()
    assert said.out == ""
    assert "was changed since lorapipe wrote it" in said.err


def test_force_replaces_what_lorapipe_did_not_write(kitchen: Bench) -> None:
    path = kitchen.folder / "out" / "o.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"precious")
    assert main(["run", "r.yaml", "-q"]) == 5
    assert path.read_bytes() == b"precious"

    assert main(["run", "r.yaml", "-q", "--force"]) == 0
    assert TO_Q + ".alpha" in load_file(path)


def test_set_gives_a_param_another_value(kitchen: Bench) -> None:
    main(["run", "r.yaml", "-q"])
    half = load_file("out/o.safetensors")[f"{TO_Q}.lora_up.weight"]
    main(["run", "r.yaml", "-q", "--set", "by=2", "--set", "by=1"])
    whole = load_file("out/o.safetensors")[f"{TO_Q}.lora_up.weight"]

    assert (whole.norm() / half.norm()).item() == pytest.approx(2**0.5)


def test_outputs_go_under_another_root(
    kitchen: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "r.yaml", "--output-root", str(tmp_path / "there")]) == 0

    assert (tmp_path / "there" / "out" / "o.safetensors").is_file()
    assert not (kitchen.folder / "out").exists()
    made = (tmp_path / "there" / "out" / "o.safetensors").resolve()
    assert table(capsys.readouterr().out)[1][0] == str(made)


@pytest.mark.parametrize("by", ["option", "variable"])
def test_inputs_are_found_in_the_model_folders(
    kitchen: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (kitchen.folder / "a.safetensors").rename(models / "a.safetensors")
    assert main(["run", "r.yaml", "-q"]) == 4

    extra = ["--models", str(models)] if by == "option" else []
    if by == "variable":
        monkeypatch.setenv("LORAPIPE_MODELS", os.pathsep.join([str(tmp_path / "no"), str(models)]))

    assert main(["run", "r.yaml", "-q", *extra]) == 0


def test_the_lock_goes_where_it_is_told(kitchen: Bench, tmp_path: Path) -> None:
    assert main(["run", "r.yaml", "-q", "--lock", str(tmp_path / "my.lock")]) == 0

    assert (tmp_path / "my.lock").is_file()
    assert not (kitchen.folder / "r.lock").exists()


@pytest.mark.parametrize("workers", ["1", "2", "7"])
def test_the_number_of_workers_changes_no_byte(kitchen: Bench, workers: str) -> None:
    main(["run", "r.yaml", "-q", "--workers", "3"])
    before = Path("out/o.safetensors").read_bytes()

    assert main(["run", "r.yaml", "-q", "--workers", workers, "--output-root", "other"]) == 0

    assert Path("other/out/o.safetensors").read_bytes() == before


def test_a_recipe_in_another_folder_is_run_from_anywhere(
    kitchen: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["run", "bench/r.yaml"]) == 0

    assert (kitchen.folder / "out" / "o.safetensors").is_file()
    assert (kitchen.folder / "r.lock").is_file()
    assert table(capsys.readouterr().out)[1][0] == "bench/out/o.safetensors"


def test_a_warning_of_the_plan_is_told_by_the_run_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(bench.folder)  # whose path is not told then
    bench.checkpoint()
    bench.lora("a", modules={TO_Q: SHAPES[TO_Q], TE.replace("layers_0", "layers_1"): SHAPES[TE]})
    recipe = bench.recipe("""
        base: {load: base.safetensors}
        a: {load: a.safetensors}
        model: {merge-into-checkpoint: base, loras: a, unmatched: warn}
        out: {save: model, to: o.safetensors}
    """)

    assert main(["run", str(recipe)]) == 0

    said = capsys.readouterr()
    assert "warning: step 'model': 1 of 2 modules of 'a' has no place in the checkpoint\n" in said.err
    assert "warning" not in said.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing argument 'RECIPE'"),
        (["r.yaml", "--workers", "0"], "0 is not in the range x>=1"),
        (["r.yaml", "--workers", "two"], "'two' is not a valid integer"),
        (["r.yaml", "--set", "by"], "--set takes name=value, not 'by'"),
        (["r.yaml", "--set", "bye=1"], "no param 'bye' - did you mean 'by'?"),
        (["r.yaml", "--device", "gpu"], "no device 'gpu' - the devices are auto, cpu, cuda"),
        (["r.yaml", "--output-root", "r.yaml"], "is a file"),
        (["r.yaml", "--lock", "."], "is a directory"),
        (["r.yaml", "--sett", "by=1"], "No such option"),
        (["r.yaml", "other.yaml"], "unexpected extra argument"),
    ],
)
def test_a_wrong_command_line_has_status_2_and_writes_nothing(
    kitchen: Bench, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    before = sorted(kitchen.folder.iterdir())

    assert main(["run", *arguments]) == 2

    said = capsys.readouterr()
    assert says in said.err
    assert "Traceback" not in said.err
    assert sorted(kitchen.folder.iterdir()) == before


def test_a_missing_recipe_has_status_4(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nope.yaml"]) == 4
    assert capsys.readouterr().err == (
        "nope.yaml: error: no such file or directory"
        " - name a recipe, which is a YAML file; 'lorapipe init' writes one\n"
    )


def test_on_a_terminal_there_is_a_bar_and_no_line_is_too_long(kitchen: Bench) -> None:
    import pty

    command = [sys.executable, "-m", "lorapipe", "run", "r.yaml"]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "TERM": "xterm", "COLUMNS": "40", "NO_COLOR": "1"}
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdout=slave, stderr=slave, stdin=slave, env=environment)
    os.close(slave)
    drawn = io.BytesIO()
    try:
        while chunk := os.read(master, 4096):
            drawn.write(chunk)
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(master)

    assert process.wait(60) == 0
    text = drawn.getvalue().decode()
    assert "\x1b[?25h" in text  # the cursor, hidden while the bar moved, is back
    assert "\x1b[3" not in text  # no colour
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text[text.index("output") :]).splitlines()
    assert max(map(len, shown)) <= 40
    assert "written" in text


# --- progress -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "live", "plain"])
def test_in_a_log_there_is_no_carriage_return_and_no_escape(
    kitchen: Bench, capfd: pytest.CaptureFixture[str], mode: str
) -> None:
    assert main(["run", "r.yaml", "--progress", mode]) == 0
    said = capfd.readouterr()
    assert "\r" not in said.err + said.out
    assert "\x1b" not in said.err + said.out
    counts = [line[:5] for line in said.err.splitlines() if line.startswith("[")]
    assert counts == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]


def test_json_is_all_that_is_on_stderr(kitchen: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "r.yaml", "--progress", "json"]) == 0
    said = capfd.readouterr()
    lines = [json.loads(line) for line in said.err.splitlines()]
    assert (lines[0]["event"], lines[-1]["event"]) == ("begin", "finished")
    assert table(said.out)[0] == ["output", "size", "sha256"]

    assert main(["run", "r.yaml", "--progress", "json", "--quiet"]) == 0
    said = capfd.readouterr()
    assert said.out == ""
    assert json.loads(said.err.splitlines()[-1])["event"] == "finished"


def test_json_goes_to_the_descriptor_that_is_named(
    kitchen: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "events").open("wb") as file:
        assert main(["run", "r.yaml", "--progress", "json", "--progress-fd", str(file.fileno())]) == 0
    events = [json.loads(line)["event"] for line in (tmp_path / "events").read_bytes().splitlines()]
    assert (events[0], events[-1]) == ("begin", "finished")
    assert capfd.readouterr().err == ""

    assert main(["run", "r.yaml", "--progress", "json", "--progress-fd", "987"]) == 2
    assert "--progress-fd 3 3>" in capfd.readouterr().err


def test_an_error_is_an_event_and_then_a_text_for_people(
    kitchen: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "r.yaml", "--progress", "json", "--set", "bye=1"]) == 2
    first, last, *text = capfd.readouterr().err.splitlines()
    assert json.loads(first)["event"] == "begin"
    assert (json.loads(last)["event"], json.loads(last)["status"]) == ("failed", 2)
    assert text == ["r.yaml: error: no param 'bye' - did you mean 'by'?"]


def test_none_shows_what_was_made_and_no_steps(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "r.yaml", "--progress", "none"]) == 0
    said = capsys.readouterr()
    assert re.fullmatch(r"1 built, 1 written, [0-9.]+ kB in [0-9.]+ s on cpu\n", said.err)
    assert table(said.out)[1][0] == "out/o.safetensors"


def test_the_totals_tell_what_came_from_the_store(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "r.yaml"])
    Path("out/o.safetensors").unlink()
    capsys.readouterr()
    assert main(["run", "r.yaml"]) == 0
    assert re.search(r"^1 from the store, 1 written, ", capsys.readouterr().err, re.MULTILINE)


def test_verbose_names_keys_and_files(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "r.yaml", "-v"]) == 0
    said = capsys.readouterr().err
    assert re.search(
        r"^small: will run: no result with this key in the store\n  key [0-9a-f]{64}$", said, re.M
    )
    assert re.search(r"a\.safetensors, [0-9.]+ kB, sha256 [0-9a-f]{64}, checked$", said, re.M)


def test_what_was_made_is_named_as_it_is_read_from_the_users_folder(
    kitchen: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "r.yaml"]) == 0
    assert "\nout/o.safetensors " in capsys.readouterr().out
    monkeypatch.chdir(kitchen.folder / "out")
    assert main(["run", "../r.yaml"]) == 0
    assert "\no.safetensors " in capsys.readouterr().out
    (kitchen.folder / "elsewhere").mkdir()
    monkeypatch.chdir(kitchen.folder / "elsewhere")
    assert main(["run", "../r.yaml"]) == 0
    assert f"\n{kitchen.folder.resolve()}/out/o.safetensors " in capsys.readouterr().out


SWEEP = """
    a: {load: a.safetensors}
    small: {svd-resize: a, rank: $(rank)}
    good: {check: small, energy: {of: a, total: $(least)}}
    out: {save: small, to: out/$(rank).safetensors}
    whole: {save: a, to: out/a.safetensors}
"""


def sweep(kitchen: Bench, least: float) -> None:
    kitchen.recipe(SWEEP, head=f"matrix: {{rank: [2, 4]}}\nparams: {{least: {least}}}\n")


def test_a_sweep_ends_with_a_row_a_variant_and_says_nothing_of_them_twice(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(kitchen, 0.0)
    assert main(["run", "r.yaml"]) == 0
    said = capsys.readouterr()
    whole, _, heading, *rows = table(said.out)[1:]
    assert whole[0] == "out/a.safetensors"
    assert heading == ["rank", "energy", "kept", "least", "kept", "energy", "in", "all", "size", "output"]
    assert [(row[0], row[-2], row[-1]) for row in rows] == [
        (rank, f"out/{rank}.safetensors", "written") for rank in ("2", "4")
    ]
    assert rows[1][1] == "100.00%"  # it has no more ranks
    assert "keeps" not in said.err
    assert main(["run", "r.yaml"]) == 0
    assert [" ".join(row[-4:]) for row in table(capsys.readouterr().out)[-2:]] == [
        f"out/{rank}.safetensors up to date" for rank in ("2", "4")
    ]


def test_where_a_check_holds_back_a_variant_the_others_are_made_and_all_are_told(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(kitchen, 0.99)
    assert main(["run", "r.yaml", "--progress", "none"]) == 8
    said = capsys.readouterr()
    heading, low, high = said.out.splitlines()
    assert heading.startswith("rank")
    assert low.endswith("out/2.safetensors  held back by good")
    assert high.endswith("out/4.safetensors  written")
    assert "not made: out[rank=2]" in said.err
    assert not Path("out/2.safetensors").exists()
    assert Path("out/4.safetensors").exists()

    assert main(["run", "r.yaml", "-q"]) == 8
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("least", "status"), [(0.0, 0), (0.99, 8)])
def test_as_json_there_is_all_that_was_made_and_nothing_else(
    kitchen: Bench, capsys: pytest.CaptureFixture[str], least: float, status: int
) -> None:
    sweep(kitchen, least)
    assert main(["run", "r.yaml", "--json", "-q"]) == status
    told = json.loads(capsys.readouterr().out)
    made = {Path(one["path"]).relative_to(kitchen.folder).as_posix() for one in told["outputs"]}
    missing = {"out/2.safetensors"} if status else set()
    assert made == {"out/2.safetensors", "out/4.safetensors", "out/a.safetensors"} - missing
    (of,) = told["sweep"]["outputs"]
    assert [one["state"] for one in of["variants"]] == ["held back" if status else "written", "written"]


def test_as_json_a_recipe_without_a_matrix_has_no_sweep(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "r.yaml", "--json", "--progress", "none"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["sweep"], [one["written"] for one in told["outputs"]]) == (None, [True])


def test_as_json_what_failed_before_the_end_is_no_result(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out/o.safetensors").write_bytes(b"mine")
    assert main(["run", "r.yaml", "--json", "-q"]) == 5
    assert capsys.readouterr().out == ""
