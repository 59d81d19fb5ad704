"""``lorapipe diff``: LoRAs, checkpoints, recipes; what is no pair; the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorapipe.cli import main

from ..bench import CONV1, Bench


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(bench.folder)
    return bench


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["diff", *arguments]) == status
    told = capsys.readouterr()
    return told.out if status in (0, 8) else told.err


def test_two_loras(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen.lora("a", rank=4)
    kitchen.lora("b", rank=8, seed=1)
    lines = said(capsys, "a.safetensors", "b.safetensors").splitlines()
    assert lines[0] == "rank 4 -> 8: 4 modules"
    assert lines[1].split() == ["model", "block", "modules", "norm", "new", "norm", "change", "cosine"]
    assert [line.split()[0] for line in lines[2:]] == ["unet", "te", "all"]
    assert CONV1 in said(capsys, "a.safetensors", "b.safetensors", "--modules")


def test_two_checkpoints(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen.checkpoint("a")
    kitchen.checkpoint("b", seed=1)
    out = said(capsys, "a.safetensors", "b.safetensors")
    assert "first_stage_model" in out
    assert out.splitlines()[0].split()[:3] == ["model", "block", "tensors"]
    assert (
        len(json.loads(said(capsys, "a.safetensors", "b.safetensors", "--json", "--modules"))["weights"]) == 6
    )


def test_two_recipes(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen.lora("a")
    recipe = "a: {load: a.safetensors}\n  r: {svd-resize: a, rank: 2}\n  o: {save: r, to: o.safetensors}"
    one = kitchen.recipe(recipe)
    one.rename("one.yaml")
    kitchen.recipe(recipe.replace("rank: 2", "rank: 1")).rename("two.yaml")
    out = said(capsys, "one.yaml", "two.yaml")
    assert out.startswith("step r: rank 2 -> 1\n")
    assert "not known before the inputs are hashed: --hash\n" in out
    assert said(capsys, "one.yaml", "two.yaml", "--hash").endswith("  other\n")
    assert said(capsys, "one.yaml", "one.yaml") == "no difference in meaning: both build the same\n"
    assert json.loads(said(capsys, "one.yaml", "two.yaml", "--json"))["steps"] == {"r": ["rank 2 -> 1"]}


def test_recipes_whose_inputs_are_missing_are_compared_all_the_same(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = "a: {load: a.safetensors}\n  o: {save: a, to: o.safetensors}"
    kitchen.recipe(recipe).rename("one.yaml")
    kitchen.recipe(recipe.replace("a.safe", "b.safe")).rename("two.yaml")
    out = said(capsys, "one.yaml", "two.yaml")
    assert out.startswith("step a: file a.safetensors -> b.safetensors\n")
    assert out.count("keys are not known: ") == 2


def test_nothing_is_written_for_a_look(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen.lora("a")
    kitchen.lora("b", seed=1)
    before = sorted(kitchen.folder.rglob("*"))
    said(capsys, "a.safetensors", "b.safetensors")
    assert sorted(kitchen.folder.rglob("*")) == before


def test_the_status_is_0_unless_asked_to_check(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    a = kitchen.lora("a")
    kitchen.lora("b", seed=1)
    Path("c.safetensors").write_bytes(a.read_bytes())
    assert "the same file: sha256 " in said(capsys, "a.safetensors", "c.safetensors", "--check")
    assert main(["diff", "a.safetensors", "b.safetensors", "--check"]) == 8
    told = capsys.readouterr()
    assert "unet" in told.out
    assert told.err == "error: 'b.safetensors' differs from 'a.safetensors'\n"


@pytest.mark.parametrize(
    ("pair", "status", "says"),
    [
        (
            ("a.safetensors", "base.safetensors"),
            2,
            "error: 'a.safetensors' is a LoRA, 'base.safetensors' is a checkpoint",
        ),
        (
            ("a.safetensors", "r.yaml"),
            2,
            "error: 'r.yaml' is a recipe, 'a.safetensors' is not - compare what",
        ),
        (("a.safetensors", "nope.safetensors"), 4, "nope.safetensors: error: no such file"),
        (("nope.yaml", "r.yaml"), 4, "nope.yaml: error: no such file"),
        (("a.txt", "a.safetensors"), 3, "error: 'a.txt' does not end like a file of weights"),
    ],
)
def test_what_is_no_pair_is_told_with_the_remedy(
    kitchen: Bench, capsys: pytest.CaptureFixture[str], pair: tuple[str, str], status: int, says: str
) -> None:
    kitchen.lora("a")
    kitchen.checkpoint()
    kitchen.recipe("a: {load: a.safetensors}\n  o: {save: a, to: o.safetensors}")
    assert said(capsys, *pair, status=status).startswith(says)
