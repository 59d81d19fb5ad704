"""What an editor shows of a recipe, asked of the language server that most of them use.

npm install --prefix /tmp/editor yaml-language-server
PATH=/tmp/editor/node_modules/.bin:$PATH pytest tests/editor
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from lorapipe.recipe.language import core_language
from lorapipe.recipe.schemas import BUNDLE_NAME, bundle

from .server import Editor

ROOT = Path(__file__).resolve().parents[2]
KINDS = core_language().kinds
HEAD = "lorapipe: 1\nsteps:\n"
NAMES = count()


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    program = shutil.which("yaml-language-server")
    if program is None or shutil.which("node") is None:
        pytest.skip("yaml-language-server (npm) is not installed; the head of this file says how")
    folder = tmp_path_factory.mktemp("editor")
    schema = folder / BUNDLE_NAME
    schema.write_text(json.dumps(bundle(core_language().files)), encoding="utf-8")
    editor = Editor([program, "--stdio"], schema, folder)
    empty = document(editor, "")
    for _ in range(200):  # it asks for its settings when it has been told that there are some
        if editor.complete(empty, 0, 0):
            break
        time.sleep(0.05)
    yield editor
    editor.close()


def document(editor: Editor, text: str) -> str:
    return editor.open(f"{next(NAMES)}.yaml", text)


def offered(editor: Editor, text: str) -> set[str]:
    """Labels at the mark ``|`` of a text; those of whole snippets (``object(...)``) left out."""
    before, _, after = text.partition("|")
    lines = before.split("\n")
    found = editor.complete(document(editor, before + after), len(lines) - 1, len(lines[-1]))
    return {label for label in found if re.fullmatch(r"[a-z0-9_.-]+", label)}


@pytest.mark.parametrize("step", ["  a:\n    |\n", "  a: {s|}\n"])
def test_an_empty_step_is_offered_the_kinds_and_nothing_else(editor: Editor, step: str) -> None:
    """In braces the server says nothing before the first letter, whatever the schema."""
    assert offered(editor, HEAD + step) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_behind_a_kind_only_its_options_are_offered(editor: Editor, kind: str) -> None:
    options = {*KINDS[kind].options, "description"} - {kind}
    assert offered(editor, f"{HEAD}  a:\n    {kind}: x\n    |\n") == options
    assert offered(editor, f"{HEAD}  a: {{{kind}: x, d|}}\n") == options


def test_words_are_offered_where_an_option_takes_only_these(editor: Editor) -> None:
    dtype = KINDS["save"].options["dtype"].choices
    assert offered(editor, HEAD + "  a: {save: x, to: y.pt, dtype: |}\n") == set(dtype)


def test_the_head_of_a_recipe_is_offered(editor: Editor) -> None:
    assert offered(editor, "|") >= {"lorapipe", "name", "params", "matrix", "defaults", "steps"}
    assert offered(editor, "lorapipe: 1\ndefaults:\n  |\nsteps: {}\n") == {"device", "compute"}


def test_of_a_matrix_the_rules_are_offered_and_what_is_wrong_is_shown(editor: Editor) -> None:
    """For axes, which are nobody's to suggest, the server has a word of its own."""
    steps = "steps:\n  a: {load: x.pt}\n"
    assert offered(editor, f"lorapipe: 1\nmatrix:\n  |\n{steps}") >= {"exclude", "include"}
    right = "{r: [4, 8.5, a, true, $(p)], exclude: [{r: 4}], include: [{r: 16}]}"
    assert editor.diagnostics(document(editor, f"lorapipe: 1\nmatrix: {right}\n{steps}")) == []
    for wrong in ("[4]", "{r: 4}", "{r: []}", "{r: [null]}", "{R: [4]}", "{r: [4], exclude: [{}]}"):
        (found,) = editor.diagnostics(document(editor, f"lorapipe: 1\nmatrix: {wrong}\n{steps}"))
        assert found["range"]["start"]["line"] == 1


def test_a_hover_shows_what_the_schema_says(editor: Editor) -> None:
    recipe = document(editor, HEAD + "  a: {svd-resize: b, rank: 8}\n")
    plain = KINDS["svd-resize"].options["rank"].description.partition(".")[0]
    assert plain in editor.hover(recipe, 2, HEAD.count("\n") + 20)
    assert KINDS["svd-resize"].main.description in editor.hover(recipe, 2, 8)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("a: {svd-resize: b, rank: 8, ^rnak: 4}", "Property rnak is not allowed."),
        ("a: {^laod: x}", "Property laod is not allowed."),
        ("a: {svd-resize: b, rank: ^four}", "'rank' takes a whole number from 1"),
        ("a: {save: b, to: x.pt, dtype: ^fp17}", "'dtype' takes "),
    ],
)
def test_a_mistake_is_shown_where_it_is(editor: Editor, step: str, message: str) -> None:
    """As our own validator does, and never as "not valid under any of the given schemas"."""
    column = 2 + step.index("^")
    (found,) = editor.diagnostics(document(editor, f"{HEAD}  {step.replace('^', '')}\n"))
    assert found["message"].startswith(message)
    assert found["range"]["start"] == {"line": 2, "character": column}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_nothing_is_wrong_with_the_recipes(editor: Editor, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert editor.diagnostics(document(editor, re.sub(r"^# yaml-language-server:.*\n", "", text))) == []
