"""The step reference is true: it is what the schemas say, and its recipes are run."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from lorapipe.steps import KINDS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def reference() -> dict[Path, str]:
    made: dict[Path, str] = runpy.run_path(str(DOCS / "reference.py"))["pages"]()
    return made


def test_the_step_reference_is_what_the_schemas_say(reference: dict[Path, str]) -> None:
    stale = [path.name for path, text in reference.items() if not path.is_file() or path.read_text() != text]
    assert stale == [], "python docs/reference.py"
    assert {path.stem for path in (DOCS / "steps").glob("*.md")} == {*KINDS, "index"}


def test_every_kind_has_a_page_with_a_recipe_that_the_tests_run(reference: dict[Path, str]) -> None:
    for kind in KINDS:
        (recipe,) = re.findall(r"^## In a recipe: \[(\S+)\]", reference[DOCS / "steps" / f"{kind}.md"], re.M)
        assert (ROOT / "recipes" / recipe).is_file(), kind  # tests/test_recipes.py runs all that are there
