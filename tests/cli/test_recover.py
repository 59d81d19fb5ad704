"""``lorapipe recover``: the recipe on standard output, what it leaves open on standard error."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorapipe.cli import main

from ..bench import Bench


@pytest.fixture
def built(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A folder in which a recipe was run; the tests stand in it."""
    bench.lora("a")
    monkeypatch.chdir(bench.folder)
    bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: out/o.safetensors, dtype: fp16}")
    assert main(["run", "-q", "r.yaml"]) == 0
    capsys.readouterr()
    return bench


def test_the_recipe_is_printed_and_runs(built: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recover", "out/o.safetensors"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    (built.folder / "again.yaml").write_text(printed.out)

    assert main(["validate", "again.yaml"]) == 0
    assert main(["run", "-q", "again.yaml"]) == 0
    assert Path("o.safetensors").read_bytes() == Path("out/o.safetensors").read_bytes()


def test_the_recipe_is_written_with_paths_as_seen_from_it(
    built: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("recovered").mkdir()
    assert main(["recover", "out/o.safetensors", "-o", "recovered/r.yaml", "--inputs", "."]) == 0
    assert capsys.readouterr() == ("", "")
    assert "load: ../a.safetensors\n" in Path("recovered/r.yaml").read_text()
    assert main(["run", "-q", "recovered/r.yaml"]) == 0
    assert Path("recovered/o.safetensors").read_bytes() == Path("out/o.safetensors").read_bytes()

    assert main(["recover", "out/o.safetensors", "-o", "recovered/r.yaml"]) == 5
    assert capsys.readouterr().err == (
        "recovered/r.yaml: error: it is there already - name another, or say --force\n"
    )
    assert main(["recover", "out/o.safetensors", "-o", "recovered/r.yaml", "--force"]) == 0


def test_what_was_not_found_is_said(built: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert main(["recover", "out/o.safetensors", "--inputs", "empty"]) == 0
    assert capsys.readouterr().err.startswith("warning: not found: a.safetensors, sha256 ")


def test_a_file_that_tells_nothing_is_an_error_with_a_remedy(
    built: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recover", "a.safetensors"]) == 4
    assert capsys.readouterr().err == (
        "a.safetensors: error: it does not tell how it was made - another program wrote it, or it was"
        " saved as .ckpt, .pt or .bin, after a shuffle, or with 'provenance: none': the recipe and its"
        " lock are with whoever made it\n"
    )
