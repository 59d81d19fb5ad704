"""Folders that client and workers share, and locks in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lorapipe.build.cluster import reach
from lorapipe.build.cluster.reach import Mark, marked, reached
from lorapipe.errors import BuildError


def codes(mark: object) -> list[str]:
    return [error.code for error in reached(mark)]  # type: ignore[arg-type]


def elsewhere(folder: Path) -> str:
    """What another process says of the marks that are in a folder."""
    code = (
        "import sys; from pathlib import Path; from lorapipe.build.cluster.reach import Mark, reached;"
        "found = [e.code for p in Path(sys.argv[1]).glob('.lorapipe*') for e in reached(Mark(p, 'it'))];"
        "print(*found)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_folder_that_is_shared_is_reached_and_keeps_nothing(tmp_path: Path) -> None:
    with marked([(tmp_path, "the store")]) as (mark,):
        assert isinstance(mark, Mark)
        assert elsewhere(tmp_path) == ""
    assert not list(tmp_path.iterdir())


def test_a_folder_to_be_is_looked_at_where_it_will_be(tmp_path: Path) -> None:
    with marked([(tmp_path / "out" / "deep", "outputs"), (tmp_path / "out", "outputs")]) as marks:
        assert [mark.path.parent for mark in marks if isinstance(mark, Mark)] == [tmp_path]
    assert not (tmp_path / "out").exists()


def test_another_folder_of_that_name_is_told_apart(tmp_path: Path) -> None:
    (error,) = reached(Mark(tmp_path / ".lorapipe-1-0123456789abcdef.tmp", "the store"))
    assert error.code == "folder-not-shared"
    assert str(tmp_path) in error.message
    assert error.remedy


def test_locks_that_are_not_seen_elsewhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / ".lorapipe-1-0123456789abcdef.tmp"
    path.touch()  # as a file looks whose lock is another machine's own
    assert codes(Mark(path, "the store")) == ["locks-not-shared"]


def test_a_folder_that_may_not_be_written_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(folder: Path) -> tuple[Path, int]:
        raise PermissionError(13, "Permission denied")

    with marked([(tmp_path, "the output folder")]) as (mark,):
        monkeypatch.setattr(reach, "create_file", refused)
        (error,) = reached(mark)
    assert (error.code, error.exit_status) == ("output-unwritable", 5)
    with pytest.raises(BuildError, match="cannot be written"), marked([(tmp_path, "it")]):
        pass


def test_a_shared_store_is_tried_by_a_token(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    with marked([], f"file://{store}") as (token,):
        assert codes(token) == []
        store.rename(tmp_path / "moved")
        store.mkdir()  # as another disk looks under that name
        assert codes(token) == ["store-unreachable"]
