"""What the documents show is true: every block is run, every command and link exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import lorapipe
from lorapipe import errors
from lorapipe.cli.main import COMMANDS, cli
from lorapipe.recipe.parsing import parse
from lorapipe.steps import KINDS, find_kind

from .documents import DOCUMENTS, GUIDES, README, ROOT, blocks, copy_recipes, same, shell_lines

INSTALL_AND_RUN = (
    "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt ."
    " && .venv/bin/lorapipe run recipes/quickstart.yaml"
)
INSTALL_AND_TEST = (
    "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt '.[test]' && .venv/bin/pytest"
)


def shown(document: Path, language: str) -> list[str]:
    """The fenced blocks of a document in one language."""
    return [block.text for block in blocks(document) if block.language == language]


YAML_BLOCKS = [
    pytest.param(block, id=f"{document.stem}-{number}")
    for document in DOCUMENTS
    for number, block in enumerate(shown(document, "yaml"))
    if document not in GUIDES and document.parent.name != "steps"  # tests/test_docs.py runs those
]
LORAPIPE_LINES = [
    line for document in DOCUMENTS for line in shell_lines(document) if line.startswith("lorapipe ")
]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like a clone as far as the README's examples go."""
    copy_recipes(tmp_path)
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in ``folder``, with a store there and the lorapipe under test."""
    environment = {
        **os.environ,
        "LORAPIPE_STORE": str(folder / "store"),
        "PYTHONPATH": str(Path(lorapipe.__file__).parent.parent),
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "80",
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


# README


def test_it_is_read_in_one_minute() -> None:
    assert len(README.read_text().splitlines()) < 150


def test_two_commands_do_all_their_own_set_up() -> None:
    assert [line for line in shell_lines(README) if "venv" in line] == [INSTALL_AND_RUN, INSTALL_AND_TEST]


def test_ci_finds_the_test_command() -> None:
    """``.ci/run`` takes the first line of the README that has '.[test]' in it."""
    (line,) = [line for line in README.read_text().splitlines() if "'.[test]'" in line]
    assert line == INSTALL_AND_TEST


def test_the_commands_name_files_that_exist() -> None:
    for name in ("constraints.txt", "recipes/quickstart.yaml", ".ci/run", "LICENSE"):
        assert (ROOT / name).is_file()


def test_the_recipe_shown_is_the_quickstart() -> None:
    told, quickstart = shown(README, "yaml")[0], (ROOT / "recipes" / "quickstart.yaml").read_text()
    assert quickstart.partition("\nlorapipe: 1\n")[2] == told.partition("lorapipe: 1\n")[2]


def test_the_output_shown_is_what_a_run_prints(checkout: Path) -> None:
    ran = python(checkout, "-m", "lorapipe", "run", "recipes/quickstart.yaml")
    assert ran.returncode == 0, ran.stderr
    assert same(shown(README, "text")[0], ran.stderr + ran.stdout)


def test_the_exact_file_has_the_digest_shown(checkout: Path) -> None:
    """What ``concat`` makes is multiplied and rounded only, which every CPU does alike."""
    python(checkout, "-m", "lorapipe", "run", "recipes/quickstart.yaml")
    lock = (checkout / "recipes" / "quickstart.lock").read_text()
    if 'torch: "2.13.0"' not in lock:
        pytest.skip("the digest shown is of a file that names torch 2.13.0 in its provenance")
    (digest,) = re.findall(r"out/lantern-ink\.safetensors .* ([0-9a-f]{12})  written", README.read_text())
    assert f'sha256: "{digest}' in lock


def test_the_mistake_shown_is_reported_so(checkout: Path) -> None:
    recipe = shown(README, "yaml")[0].replace("rank:", "rnak:")
    (checkout / "my.yaml").write_text(recipe)
    ran = python(checkout, "-m", "lorapipe", "validate", "my.yaml")
    assert ran.returncode == 3
    assert ran.stderr == shown(README, "text")[1]


def test_the_python_shown_gives_the_bytes_of_the_recipe(checkout: Path) -> None:
    (code,) = shown(README, "python")
    ran = python(checkout, "-W", "error", "-c", code)
    assert ran.returncode == 0, ran.stderr
    by_call = (checkout / "lantern-ink-r8.safetensors").read_bytes()
    again = python(checkout, "-m", "lorapipe", "run", "recipes/quickstart.yaml")
    assert again.returncode == 0, again.stderr
    assert (checkout / "recipes" / "out" / "lantern-ink-r8.safetensors").read_bytes() == by_call


def test_each_recipe_has_a_row_that_names_a_step_of_it() -> None:
    rows = re.findall(
        r"\| \[([a-z-]+\.yaml)\]\(recipes/([a-z-]+\.yaml)\) \| `([a-z-]+)` \|", README.read_text()
    )
    assert {link for _, link, _ in rows} == {path.name for path in (ROOT / "recipes").glob("*.yaml")}
    for name, link, kind in rows:
        recipe = parse((ROOT / "recipes" / link).read_text(), link)
        assert name == link
        assert kind in {step.kind for step in recipe.steps.values()}


def test_each_kind_is_shown_by_a_recipe() -> None:
    recipes = [parse(path.read_text(), path.name) for path in (ROOT / "recipes").glob("*.yaml")]
    assert {step.kind for recipe in recipes for step in recipe.steps.values()} == set(KINDS)


# All documents


@pytest.mark.parametrize("block", YAML_BLOCKS)
def test_every_recipe_shown_is_valid(block: str) -> None:
    assert parse(block, "shown.yaml").steps


@pytest.mark.parametrize("line", LORAPIPE_LINES)
def test_every_command_shown_exists(line: str) -> None:
    _, name, *arguments = shlex.split(re.sub(r"\d?> ?\S+", "", line), comments=True)
    assert name in COMMANDS
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    command.make_context(name, arguments)  # reads the command line, raises on what it does not know


def test_commands_are_shown_at_all() -> None:
    assert {line.split()[1] for line in LORAPIPE_LINES} >= {"run", "plan", "validate", "inspect", "steps"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = document.parent / path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_file_named_exists(document: Path) -> None:
    """Paths in code spans that begin with a folder of the repository."""
    folders = "lorapipe|tests|schemas|recipes|docs"
    named = re.findall(rf"`((?:{folders})/[a-z0-9_./-]*)`", document.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]


# docs/design.md and CHANGELOG.md against the code


def test_the_design_names_every_folder() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    package = Path(lorapipe.__file__).parent
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert folders == set(re.findall(r"^\| `([a-z]+)/` \|", text, re.MULTILINE))


def test_the_design_has_every_exit_status() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    classes = [getattr(errors, name) for name in errors.__all__]
    statuses = {0} | {c.exit_status for c in classes if isinstance(getattr(c, "exit_status", None), int)}
    assert statuses == {int(n) for n in re.findall(r"^\| ([0-9]+) \|", text, re.MULTILINE)}


def test_the_changelog_begins_with_outputs_and_names_every_kind() -> None:
    released = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    assert released
    for version in released:
        sections = re.findall(r"^### (.*)$", version, re.MULTILINE)
        assert sections[:1] == ["Outputs"]
    outputs = "".join(re.findall(r"### Outputs\n\n(.*?)\n### ", "".join(released), re.DOTALL))
    assert {name for name in KINDS if f"`{name}`" in outputs} == set(KINDS)


def test_a_kind_of_a_higher_version_is_in_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    risen = [find_kind(name) for name in KINDS if find_kind(name).version > 1]
    assert not [kind.name for kind in risen if f"`{kind.name}` is of version {kind.version}" not in text]


def test_the_weights_for_kohyas_numbers_follow_the_relation() -> None:
    """``w |w| r / R`` for ratios 0.7 and -0.4 and ranks 8 and 12."""
    recipe = parse(shown(ROOT / "docs" / "from-kohya.md", "yaml")[1], "shown.yaml")
    weights = [term.weight for term in recipe.steps["as-kohya"].terms()]
    wanted = [w * abs(w) * r / 20 for w, r in ((0.7, 8), (-0.4, 12))]
    assert json.dumps([round(w, 9) for w in weights]) == json.dumps([round(w, 9) for w in wanted])
