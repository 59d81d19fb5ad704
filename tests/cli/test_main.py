"""The command line as a whole: help, version, wrong commands, and what is not loaded."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import lorapipe
from lorapipe.cli import main
from lorapipe.cli.main import COMMANDS, SECTIONS

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m lorapipe`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lorapipe", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def modules_after(*arguments: str) -> set[str]:
    """What is loaded when a command line is done."""
    script = (
        "import sys; from lorapipe.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there(name: str) -> None:
    module, summary = COMMANDS[name]
    command = importlib.import_module(module).command
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help
    assert summary.endswith(".")


def test_help_lists_the_commands_and_imports_none() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert summary in done.stdout
    loaded = modules_after("--help")
    assert not loaded & {"torch", "numpy", "networkx", "jsonschema", "yaml", "rich", "safetensors"}
    assert not [name for name in loaded if name in {module for module, _ in COMMANDS.values()}]


def test_help_is_one_screen() -> None:
    lines = run("--help", COLUMNS="80").stdout.splitlines()

    assert len(lines) <= 34
    assert max(map(len, lines)) <= 79
    assert {f"{title}:" for title in SECTIONS} <= set(lines)


def test_help_and_version_are_quick() -> None:
    """The fastest of a few: other processes share the machine."""
    for option in ("--help", "--version"):
        spent = []
        for _ in range(3):
            begin = time.perf_counter()
            run(option)
            spent.append(time.perf_counter() - begin)
        assert min(spent) < 0.3


def test_the_version_is_the_packages() -> None:
    assert run("--version").stdout == f"lorapipe {lorapipe.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["valdate"], "Error: no command 'valdate' - did you mean 'validate'?"),
        (["zzz"], "Error: no command 'zzz' - the commands are run, plan, "),
        (["validate"], "Error: Missing argument 'RECIPE...'."),
        (["validate", "--nope"], "Error: No such option"),
        (["--nope"], "Error: No such option"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert text in capsys.readouterr().err


def test_a_reader_that_goes_away_leaves_no_traceback() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"'{sys.executable}' -m lorapipe schema | head -n 1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("argument", ["--help", "schema", "steps"])
def test_a_full_disk_under_what_is_printed_is_an_error_in_one_line(argument: str, unbuffered: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lorapipe", argument],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 5
    assert done.stderr == (
        "error: the output cannot be written: No space left on device"
        " - make room where the output goes, or send it elsewhere\n"
    )


def test_no_cycles_are_looked_for_when_the_process_ends() -> None:
    script = (
        "import atexit, gc; from lorapipe.cli import main;"
        "atexit.register(lambda: print('kept', gc.get_freeze_count() > len(gc.get_objects())));"
        "main(['--version']); print('before', gc.get_freeze_count())"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[1:] == ["before 0", "kept True"]
