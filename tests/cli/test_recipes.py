"""Recipes as files: whole or not at all, and nothing replaced unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorapipe.cli.recipes import refuse_existing, write_recipe
from lorapipe.errors import BuildError


def test_folders_are_made(tmp_path: Path) -> None:
    write_recipe(tmp_path / "a" / "b" / "r.yaml", "é\n")
    assert (tmp_path / "a" / "b" / "r.yaml").read_bytes() == "é\n".encode()


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BuildError):
        write_recipe(tmp_path / "file" / "r.yaml", "x")
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_there_is_refused_a_broken_link_too(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "none.yaml")
    (tmp_path / "link.yaml").symlink_to("nowhere")
    for name in ("link.yaml", "."):
        with pytest.raises(BuildError) as caught:
            refuse_existing(tmp_path / name)
        assert caught.value.code == "foreign-file"
        assert caught.value.hint
