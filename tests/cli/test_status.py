"""``lorapipe status``: one table, or JSON; what is wrong follows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorapipe.cli import main

from ..bench import Bench


def test_a_row_a_step_and_what_is_not_as_locked(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "-q", "r.yaml"])
    main(["plan", "--hash", "r.yaml"])
    capsys.readouterr()

    assert main(["status", "r.yaml", "--set", "by=0.25"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["step", "file", "size", "locked", "since", "the", "lock"]
    assert lines[1].split()[:3] == ["a", "ok", "a.safetensors"]
    assert lines[2].split() == ["half", "by", "0.5", "->", "0.25"]
    assert lines[3].split()[:4] == ["out", "will", "run", "out/o.safetensors"]
    assert lines[4:] == ["since the lock: param by 0.5 -> 0.25"]


def test_without_a_lock_it_says_who_writes_one(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "r.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "no lock: 'lorapipe run' writes it, and so does 'lorapipe lock' without building"
    )


def test_as_json(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "-q", "r.yaml"])
    assert main(["status", "--json", "r.yaml"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["lock"], told["since"], told["errors"]) == ("r.lock", [], [])
    load, scale, save = told["steps"]
    assert (load["kind"], load["path"], load["size"]) == (
        "load",
        "a.safetensors",
        Path("a.safetensors").stat().st_size,
    )
    assert (scale["state"], scale["path"]) == (None, None)
    assert save["locked"] is not None


def test_a_missing_input_is_in_the_table_and_an_error(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.safetensors").unlink()
    assert main(["status", "r.yaml"]) == 4
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split() == ["a", "missing"]
    assert "r.yaml:4:13: error: no file 'a.safetensors'" in said.err


def test_names_of_steps_that_went_do_not_steer_the_terminal(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", "-q", "r.yaml"])
    lock = Path("r.lock")
    lock.write_text(lock.read_text().replace("  half:\n", '  "\\e[31mx":\n'))
    assert main(["status", "r.yaml"]) == 0
    said = capsys.readouterr().out
    assert "since the lock: step \\x1b[31mx: not in the recipe any more" in said
    assert "\x1b" not in said


def test_the_variants_of_a_step_are_one_row(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    steps = """
        a: {load: a.safetensors}
        half: {scale: a, by: $(by)}
        small: {svd-resize: half, rank: $(rank)}
        out: {save: small, to: out/$(by)-$(rank).safetensors}
    """
    kitchen.recipe(steps, head="matrix: {by: [0.5, 0.25], rank: [1, 2]}\n")
    main(["run", "-q", "r.yaml"])
    Path("out/0.5-1.safetensors").unlink()
    Path("out/0.5-2.safetensors").unlink()
    size = sum(path.stat().st_size for path in Path("out").iterdir())
    capsys.readouterr()

    assert main(["status", "r.yaml"]) == 0
    _, _, half, small, out = capsys.readouterr().out.splitlines()
    assert half.split() == ["half", "2", "variants"]
    assert small.split("  ")[0] == "small"
    assert small.endswith("4 variants")
    words = " ".join(out.split())
    assert words.startswith("out 2 not built, 2 up to date 4 variants")
    assert f"{size / 1000:.3g} kB" in words

    assert main(["status", "r.yaml", "--variants"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 1 + 2 + 4 + 4


def test_what_of_how_many_variants_is_not_as_locked_is_told(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = """
        a: {load: a.safetensors}
        half: {scale: a, by: $(by)}
        out: {save: half, to: out/$(by).safetensors, dtype: $(dtype)}
    """
    head = "params: {dtype: fp16}\nmatrix: {by: [0.5, 0.25, 0.125]}\n"
    kitchen.recipe(steps, head=head)
    main(["run", "-q", "r.yaml"])
    capsys.readouterr()
    assert main(["status", "r.yaml", "--set", "dtype=bf16"]) == 0
    said = capsys.readouterr().out
    assert "dtype fp16 -> bf16 (3 of 3)" in said
