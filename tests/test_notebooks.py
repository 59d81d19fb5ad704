"""The example notebooks run, cell after cell, and what they show can be shown.

Each cell is executed as IPython does, the value of its last expression shown, and needs no IPython.
"""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def cells(notebook: Path) -> list[Any]:
    found: list[Any] = json.loads(notebook.read_text("utf-8"))["cells"]
    return found


def shown(source: str, names: dict[str, Any]) -> object:
    """Execute a cell; the value of its last expression, if it ends in one."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)  # noqa: S102  # it is in the repository
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307  # as above


def has_matplotlib() -> bool:
    try:
        import matplotlib  # noqa: F401  # whether it is there
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_a_fresh_clone(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without matplotlib the cells tagged 'plot' are left out."""
    unbuilt = shutil.ignore_patterns("out", "*.lock", "__pycache__")
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes", ignore=unbuilt)
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "store"))
    names: dict[str, Any] = {"__name__": "__main__"}
    values = []
    for cell in cells(notebook):
        plots = "plot" in cell["metadata"].get("tags", ())
        if cell["cell_type"] == "code" and (has_matplotlib() or not plots):
            values.append(shown("".join(cell["source"]), names))

    # matplotlib's figures have one, too, that says nothing.
    pages = [page for value in values if hasattr(value, "_repr_html_") and (page := value._repr_html_())]
    assert len(pages) >= 4
    assert all(page.startswith("<div") and len(page) < 20_000 for page in pages)
    pictures = [value._repr_png_() for value in values if hasattr(value, "_repr_png_")]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert len(pictures) == (2 if has_matplotlib() else 0)
    assert values[-1] is True  # by hand and by the recipe: the same bytes
    assert not [path for path in (tmp_path / "recipes").rglob("*") if path.suffix == ".lock"]
    assert "[6/6] compact: written" in capsys.readouterr().err


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(notebook: Path) -> None:
    found = json.loads(notebook.read_text("utf-8"))
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    identifiers = [cell["id"] for cell in found["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    for cell in found["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_there_is_one() -> None:
    assert NOTEBOOKS
