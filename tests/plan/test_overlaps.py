"""An output that would fall on an input is known, whatever the two are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lorapipe.plan.overlaps import Overlap, overlap


def model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    return folder


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("llm", (Overlap.SAME, "base")),
        ("link", (Overlap.SAME, "base")),
        ("llm/out.safetensors", (Overlap.INSIDE, "base")),
        ("llm/deep/er/out", (Overlap.INSIDE, "base")),
        ("link/out.safetensors", (Overlap.INSIDE, "base")),
        ("other", None),
        ("llm2/out", None),
    ],
)
def test_an_output_in_a_folder_that_is_loaded_is_known(
    tmp_path: Path, output: str, expected: tuple[Overlap, str] | None
) -> None:
    folder = model(tmp_path / "llm")
    (tmp_path / "link").symlink_to("llm")
    index = folder / "model.safetensors.index.json"
    index.touch()
    for path in (folder, index):
        assert overlap(tmp_path / output, {"base": path}) == expected


def test_an_output_folder_around_an_input_is_known(tmp_path: Path) -> None:
    folder = model(tmp_path / "models" / "llm")
    assert overlap(tmp_path / "models", {"base": folder}) == (Overlap.HOLDS, "base")
    assert overlap(folder, {"base": folder / "model.safetensors"}) == (Overlap.HOLDS, "base")


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_an_output_that_is_an_input_is_known_through_links(tmp_path: Path, link: object) -> None:
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    source.write_bytes(b"weights")
    link(source, target)  # type: ignore[operator]

    assert overlap(target, {"char": source}) == (Overlap.SAME, "char")
    assert overlap(tmp_path / "new.safetensors", {"char": source}) is None
