"""``lorapipe concat``, ``resize``, ``merge`` and ``extract``: a recipe beside the output, and its run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lorapipe.cli import main

from ..bench import Bench


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    bench.checkpoint("m")
    monkeypatch.chdir(bench.folder)
    return bench


def delta(path: str) -> dict[str, torch.Tensor]:
    """alpha / rank * up @ down of each module of a kohya file, in float64."""
    tensors = load_file(path)
    stems = [key.removesuffix(".lora_up.weight") for key in tensors if key.endswith(".lora_up.weight")]
    found = {}
    for stem in stems:
        up, down = (tensors[f"{stem}.lora_{side}.weight"].double().flatten(1) for side in ("up", "down"))
        found[stem] = float(tensors[f"{stem}.alpha"]) / len(down) * (up.flatten(1) @ down)
    return found


def test_concat_adds_by_weights_and_leaves_its_recipe(kitchen: Bench) -> None:
    assert main(["concat", "a.safetensors=0.7", "b.safetensors=-0.4", "-o", "o/c.safetensors", "-q"]) == 0
    ours, a, b = delta("o/c.safetensors"), delta("a.safetensors"), delta("b.safetensors")
    for stem, found in ours.items():
        assert torch.allclose(found, 0.7 * a[stem] - 0.4 * b[stem], rtol=1e-5, atol=1e-6)
    assert "sum: {concat: {a: 0.7, b: -0.4}}" in Path("o/c.yaml").read_text()


def test_the_recipe_left_makes_the_same_bytes(kitchen: Bench) -> None:
    assert (
        main(["resize", "a.safetensors", "--rank", "1", "--dtype", "fp16", "-o", "r.safetensors", "-q"]) == 0
    )
    made = Path("r.safetensors").read_bytes()
    Path("r.safetensors").unlink()
    assert main(["run", "r.yaml", "-q"]) == 0
    assert Path("r.safetensors").read_bytes() == made


def test_the_same_line_again_has_nothing_to_do_and_another_one_replaces(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["concat", "a.safetensors", "-o", "c.safetensors"]
    assert main(line) == 0
    capsys.readouterr()
    assert main(line) == 0
    assert "up to date" in capsys.readouterr().out
    before = Path("c.safetensors").read_bytes()
    assert main([*line[:1], "a.safetensors=0.5", *line[2:]]) == 0
    assert Path("c.safetensors").read_bytes() != before


def test_merge_and_extract_undo_each_other(kitchen: Bench) -> None:
    assert (
        main(["merge", "m.safetensors", "a.safetensors", "-o", "t.safetensors", "--dtype", "fp32", "-q"]) == 0
    )
    assert (
        main(
            [
                "extract",
                "t.safetensors",
                "--base",
                "m.safetensors",
                "--rank",
                "8",
                "-o",
                "d.safetensors",
                "-q",
            ]
        )
        == 0
    )
    given, found = delta("a.safetensors"), delta("d.safetensors")
    for stem in found:
        assert torch.linalg.norm(found[stem] - given[stem]) < 1e-4 * torch.linalg.norm(given[stem])


def test_a_recipe_of_a_person_is_not_replaced(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text("lorapipe: 1\n")
    assert main(["concat", "a.safetensors", "-o", "c.safetensors"]) == 5
    assert "'c.yaml' is there and was not written from one line" in capsys.readouterr().err
    assert Path("c.yaml").read_text() == "lorapipe: 1\n"
    assert not Path("c.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["concat", "a.safetensors", "--conv-rank", "2"], "--conv-rank and --dynamic go with --rank"),
        (["concat", "=2"], "'=2' is no file with a weight"),
        (["resize", "a.safetensors", "--rank", "2", "--dynamic", "sv-fro"], "takes a rule and a number"),
        (["resize", "a.safetensors", "--rank", "2", "--dynamic", "sv=1"], "'dynamic' has no 'sv'"),
        (["merge", "m.safetensors", "none.safetensors"], "none.safetensors"),
        (["extract", "a.safetensors", "--rank", "2"], "Missing option '--base'"),
    ],
)
def test_what_is_wrong_in_the_line_is_said(
    kitchen: Bench, capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    assert main([*words, "-o", "c.safetensors"]) in (2, 3, 4)
    assert text in capsys.readouterr().err
    assert not Path("c.safetensors").exists()


def test_an_output_elsewhere_needs_a_recipe_here(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["concat", "a.safetensors", "-o", "s3://bucket/c.safetensors"]) == 2
    assert "--output-root makes it elsewhere, too" in capsys.readouterr().err
    assert not Path("s3:").exists()
