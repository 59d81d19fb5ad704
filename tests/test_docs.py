"""The documentation is true: commands and recipes are run, and the step reference is what the schemas say."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lorapipe.steps import KINDS

from .documents import DOCS, GUIDES, README, ROOT, blocks, run, same, shell_lines, working_folder


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


# Pages


@pytest.fixture
def kitchen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pages are run in, with a store that no other test sees."""
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in ("LORAPIPE_MODELS", "SOURCE_DATE_EPOCH", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    folder = working_folder(tmp_path)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("kitchen")
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_command_and_recipe_runs_and_prints_what_is_shown(page: Path) -> None:
    for block, printed in run(page):
        assert same(block.text, printed), f"python -m tests.documents --write\n{block.text}\n---\n{printed}"


def test_every_guide_shows_something_that_is_run() -> None:
    guides = [page for page in GUIDES if page.parent.name in ("how-to", "coming-from")]
    assert len(guides) > 12
    assert not [page.name for page in guides if not {"sh", "python"} & {b.language for b in blocks(page)}]


def test_an_output_that_is_not_shown_so_is_found(kitchen: Path) -> None:
    (kitchen / "page.md").write_text("```sh\nlorapipe validate resize.yaml\n```\n\n```text\nfine\n```\n")
    ((block, printed),) = run(kitchen / "page.md")
    assert printed == "resize.yaml: ok (3 steps)\n"
    assert not same(block.text, printed)


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("```sh\nlorapipe validate no.yaml\n```\n", "status 4"),
        ("```sh\nlorapipe validate resize.yaml  # status 3\n```\n", "status 0"),
        ("```sh\nfalse\n```\n", "status 1"),
        ("```yaml\nlorapipe: 1\nsteps: {a: {laod: b}}\n```\n", "did you mean 'load'"),
        ('```yaml title="x.yaml"\nlorapipe: 1\n```\n', "no command uses"),
    ],
)
def test_what_a_page_gets_wrong_is_found(kitchen: Path, page: str, found: str) -> None:
    (kitchen / "page.md").write_text(page)
    with pytest.raises(AssertionError, match=found):
        list(run(kitchen / "page.md"))


@pytest.mark.parametrize(
    ("shown", "printed", "alike"),
    [
        ("a\n", "a\n", True),
        ("a\n", "b\n", False),
        ("a\n", "a\nb\n", False),
        ("...\nb\n", "a\nb\n", True),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\nd\n", "a\nb\n", False),
        ("a.c\n", "abc\n", False),
        ("built in 0.0 s\n", "built in 1.5 s\n", True),
        ("at 0123456789ab\n", "at ba9876543210\n", True),
        ("rank 8\n", "rank 9\n", False),
    ],
)
def test_outputs_are_alike_but_for_what_differs_from_machine_to_machine(
    shown: str, printed: str, alike: bool
) -> None:
    assert same(shown, printed) is alike


def test_the_tutorial_installs_as_the_readme_does() -> None:
    installing, *_ = (block.text for block in blocks(DOCS / "tutorial.md") if block.language == "sh")
    (readme,) = [line for line in shell_lines(README) if line.endswith("recipes/quickstart.yaml")]
    assert installing.splitlines()[:2] == readme.split(" && ")[:2]


# The site


@pytest.fixture(scope="module")
def site() -> Mapping[str, Any]:
    read: Mapping[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    return read


def leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for entry in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from leaves(entry)


def test_every_page_has_one_place_in_the_site(site: Mapping[str, Any]) -> None:
    pages = sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
    assert sorted(leaves(site["nav"])) == pages


def test_the_first_page_leads_to_every_guide() -> None:
    linked = set(re.findall(r"\]\(([a-z/-]+\.md)", (DOCS / "index.md").read_text()))
    told = {str(page.relative_to(DOCS)) for page in GUIDES} - {"index.md"}
    assert told <= linked


def test_a_site_that_lacks_something_is_not_built(site: Mapping[str, Any]) -> None:
    """``.ci/run`` builds it with ``--strict``, where these are errors."""
    assert "mkdocs build --strict" in (ROOT / ".ci/run").read_text()
    assert set(site["validation"].values()) == {"warn"}
    assert set(site["validation"]) >= {"omitted_files", "anchors"}
