"""Documents whose examples are run: what is a block of one, how it is run, what its output is held against.

In a document, in order, in a copy of ``recipes/`` that is the working folder, with ``a.safetensors``,
``b.safetensors`` and ``my.yaml`` besides:

- ```` ```sh ```` is run line by line; a line of which a failure is shown ends in ``# status 3``;
- ```` ```text ```` after it is what all its lines print, where a line ``...`` stands for any lines
  (without a command before it, it is a picture);
- ```` ```yaml title="my.yaml" ```` is that file from there on, which a later line has to use;
- ```` ```yaml ```` without a title is a recipe that is run (of a workflow in ``.github/`` its lines);
- ```` ```python ```` is run.

    python -m tests.documents           # tells which outputs shown are not what is printed
    python -m tests.documents --write   # puts what is printed in their place
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lorapipe.cli import main
from lorapipe.store.memo import FINE_NS

__all__ = [
    "DOCS",
    "DOCUMENTS",
    "GUIDES",
    "README",
    "ROOT",
    "Block",
    "blocks",
    "copy_recipes",
    "run",
    "same",
    "working_folder",
]

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
GUIDES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "steps")
"""The pages that are run; those of steps hold recipes that ``tests/test_recipes.py`` runs."""
DOCUMENTS = (README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md")))

FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WORKFLOW = re.compile(r"- run: (lorapipe .*)")
STEP = re.compile(r"\[[0-9]+/[0-9]+\] ")
STATUS = re.compile(r"# status (\d+)")
ENVIRONMENTS = ("python3 -m venv", ".venv/bin/", "pip ", "git ", "cd ", ". .venv")
"""Lines that make or enter an environment, which the tests have: not run."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its title ("" without), its text and where that begins."""

    language: str
    title: str
    text: str
    start: int


def blocks(document: Path) -> list[Block]:
    """The fenced blocks of a document."""
    found = FENCE.finditer(document.read_text(encoding="utf-8"))
    return [Block(m[1], m[2] or "", m[3], m.start(3)) for m in found]


def shell_lines(document: Path) -> list[str]:
    """The lines of a document's ``sh`` blocks."""
    shown = [block.text for block in blocks(document) if block.language == "sh"]
    return [line for text in shown for line in text.splitlines() if line]


def copy_recipes(folder: Path) -> Path:
    """``recipes/`` as it is in a fresh clone, in ``folder``."""
    unbuilt = shutil.ignore_patterns("out", "*.lock", "__pycache__")
    return Path(shutil.copytree(ROOT / "recipes", folder / "recipes", ignore=unbuilt))


def working_folder(folder: Path) -> Path:
    """The folder that documents are run in."""
    made = copy_recipes(folder)
    for name, data in (("a", "ink-style"), ("b", "lantern-char")):
        shutil.copy2(made / "data" / f"{data}.safetensors", made / f"{name}.safetensors")
    shutil.copy2(made / "quickstart.yaml", made / "my.yaml")
    time.sleep(1.5 * FINE_NS / 1e9)  # then they are old enough for the memo, as a reader's are
    return made


def commands(text: str) -> list[str]:
    """The commands of a ``sh`` block: its lines, those that end in a backslash joined with the next."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line and not line.startswith(("#", *ENVIRONMENTS))]


def run(document: Path) -> Iterator[tuple[Block, str]]:
    """Run a document's blocks in the working folder; gives each output shown with what was printed.

    Raises AssertionError where a command ends with another status than the document says.
    """
    printed: str | None = None
    waiting = set[str]()
    for block in blocks(document):
        if block.language == "yaml":
            lines = _run_yaml(block)
            waiting |= set() if lines else {block.title}
        elif block.language == "sh":
            printed = "".join(map(_run_line, commands(block.text)))
            waiting -= {name for name in waiting if name in block.text}
        elif block.language == "python":
            printed = _run_python(block.text)
        elif block.language == "text" and printed is not None:
            yield block, printed
            printed = None
    assert not waiting, f"{document}: no command uses {waiting}"


def _run_yaml(block: Block) -> list[str]:
    """Write a block to its file and run what is to be run at once; gives the lines that were run."""
    path = Path(block.title or "shown.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
    lines = [] if block.title else ["lorapipe run -q shown.yaml"]
    if block.title.startswith(".github/"):
        lines = WORKFLOW.findall(block.text)
    for line in lines:
        _run_line(line)
    return lines


def _run_line(line: str) -> str:
    status = int(found[1]) if (found := STATUS.search(line)) else 0
    simple = line.startswith("lorapipe ") and not re.search("[|>]", line)
    ended, printed = _lorapipe(line) if simple else _shell(line)
    assert ended == status, f"{line}: status {ended}\n{printed}"
    return printed


def _lorapipe(line: str) -> tuple[int, str]:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        status = main(shlex.split(line, comments=True)[1:])
    return status, said.getvalue()


def _shell(line: str) -> tuple[int, str]:
    program = f'lorapipe() {{ "{sys.executable}" -m lorapipe "$@"; }}; export PYTHONPATH="{ROOT}"; '
    done = subprocess.run(program + line, shell=True, capture_output=True, text=True, check=False)  # noqa: S602 - a line of our own pages
    return done.returncode, done.stdout + done.stderr


def _run_python(code: str) -> str:
    Path("shown.py").write_text(code, encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        runpy.run_path("shown.py")
    Path("shown.py").unlink()
    return said.getvalue()


def same(shown: str, printed: str) -> bool:
    """Whether an output is the one shown, but for times, digests and lines left out."""
    parts = re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE)
    pattern = "(?s:.*)".join(re.escape(_lasting(part)) for part in parts)
    return re.fullmatch(pattern, _lasting(printed)) is not None


def _lasting(text: str) -> str:
    """What is alike on every machine: no times, no digests (another torch, other last bits), no widths.

    Of steps that may be at work at a time is not told which ends first.
    """
    text = re.sub(r"\b[0-9a-f]{10,64}\b", "DIGEST", text)
    text = re.sub(r"\b[0-9]+(\.[0-9]+)? (s|ms)\b", "TIME", text)
    text = re.sub(r"[ \t]+", " ", text)
    lines = [line.rstrip() + "\n" for line in text.splitlines()]
    steps = 1 + max((number for number, line in enumerate(lines) if STEP.match(line)), default=-1)
    return "".join([*sorted(lines[:steps]), *lines[steps:]])


def _refresh(document: Path, *, write: bool) -> int:
    """How many outputs of a document are not what is printed; they are put in their place if asked for."""
    stale = [(block, printed) for block, printed in run(document) if not same(block.text, printed)]
    text = document.read_text(encoding="utf-8")
    for block, printed in reversed(stale):
        lines = "".join(line.rstrip() + "\n" for line in printed.splitlines())
        text = text[: block.start] + lines + text[block.start + len(block.text) :]
    if write and stale:
        document.write_text(text, encoding="utf-8")
    return len(stale)


def _all(paths: list[Path], *, write: bool) -> int:
    total = 0
    for document in paths or GUIDES:
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"LORAPIPE_STORE": f"{folder}/store", "COLUMNS": "80", "CUDA_VISIBLE_DEVICES": ""}
            os.chdir(working_folder(Path(folder)))
            if count := _refresh(document, write=write):
                print(f"{document.relative_to(ROOT)}: {count}")  # noqa: T201 - it is a program, too
                total += count
            os.chdir(ROOT)
    return total


if __name__ == "__main__":
    arguments = sys.argv[1:]
    named = [Path(name).resolve() for name in arguments if name != "--write"]
    sys.exit(1 if _all(named, write="--write" in arguments) and "--write" not in arguments else 0)
