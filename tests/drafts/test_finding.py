"""Files of weights in a folder, told by their headers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lorapipe.drafts import finding
from lorapipe.drafts.finding import find_weights, look_at
from lorapipe.errors import InputError

DATA = Path(__file__).resolve().parents[2] / "recipes" / "data"


def test_a_lora_and_a_checkpoint_in_a_few_words() -> None:
    char, model = look_at("ink-style.safetensors", DATA), look_at("sd15-excerpt.safetensors", DATA)
    assert (char.lora, char.said) == (True, "LoRA, SD1.x, rank 4-8, 14 modules")
    assert (model.lora, model.said) == (False, "checkpoint, SD1.x, 932 kB")
    assert char.families & model.families


def test_two_levels_deep_in_order_but_nothing_hidden_and_no_results(tmp_path: Path) -> None:
    seen = ["b.safetensors", "x/a.safetensors", "x/y/c.safetensors"]
    unseen = [
        "x/y/z/deep.safetensors",
        ".h/h.safetensors",
        "out/o.safetensors",
        ".t.safetensors",
        "notes.txt",
    ]
    for name in [*seen, *unseen]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / "sketch-1000.safetensors", tmp_path / name)
    (tmp_path / "bad.pt").write_bytes(b"x")
    found, troubles = find_weights(tmp_path, tmp_path / "out")
    assert [one.given for one in found] == seen
    assert ["bad.pt" in str(trouble.where) for trouble in troubles] == [True]


def test_too_many_files_are_to_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MAX_FILES", 2)
    for number in range(3):
        shutil.copy(DATA / "sketch-1000.safetensors", tmp_path / f"{number}.safetensors")
    with pytest.raises(InputError, match="more than 2 files of weights"):
        find_weights(tmp_path, tmp_path / "out")
