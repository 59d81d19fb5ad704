"""What shells offer at TAB, asked through the shells themselves where they are installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lorapipe
from lorapipe.cli import main

RECIPE = (
    "lorapipe: 1\nparams: {strength: 0.7, rank: 8}\n"
    "matrix: {size: [4, 16], mode: [a b], exclude: [{size: 4}]}\n"
    "steps:\n  char: {load: a.pt}\n  chair: {shuffle: char}\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a recipe, weights and other files, and ``lorapipe`` on its path."""
    (tmp_path / "my.yaml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "broken.yaml").write_text("steps: {", encoding="utf-8")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "a b.safetensors").touch()
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "x.safetensors").touch()
    (tmp_path / ".hidden.yaml").touch()
    program = tmp_path / "bin" / "lorapipe"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lorapipe "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return tmp_path


def environment(folder: Path, **more: str) -> dict[str, str]:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    package = str(Path(lorapipe.__file__).parent.parent)
    return {**os.environ, "PATH": path, "PYTHONPATH": package, "HOME": str(folder), **more}


def bash(folder: Path, *words: str) -> list[str]:
    """What bash would offer for the last of the words."""
    script = (
        'source <(lorapipe completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));'
        ' _lorapipe_completion lorapipe 2>/dev/null; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    command = ["bash", "--norc", "-c", script, "bash", "lorapipe", *words]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=True
    )
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("va",), ["validate"]),
        (("explain", "my.yaml", ""), ["char", "chair"]),
        (("explain", "my.yaml", "chai"), ["chair"]),
        (("verify", "my.yaml", "--lock", ""), [""]),  # left to bash
        (("explain", "broken.yaml", ""), [""]),
        (("explain", "m"), ["my.yaml"]),
        (("validate", "my.yaml", "b"), ["bin", "broken.yaml"]),
        (("run", "my.yaml", "--set", ""), ["strength=", "rank="]),
        (("run", "my.yaml", "--set", "rank=4", "--set", "s"), ["strength="]),
        (("report", "my.yaml", "--set", "s"), ["strength="]),
        (("run", "my.yaml", "--only", "s"), ["size=4", "size=16"]),
        (("run", "--set", ""), [""]),
        (("run", "my.yaml", "--any"), ["--any-profile"]),
        (("run", "my.yaml", "--device", "c"), ["cpu", "cuda", "cuda:1"]),
        (("steps", "sv"), ["svd-resize"]),
        (("inspect", ""), ["a b.safetensors", "bin", "loras"]),
        (("concat", "loras/"), ["loras/x.safetensors"]),
        (("merge", "~/lo"), ["~/loras"]),
        (("fmt", ".h"), [".hidden.yaml"]),
        (("graph", "my.yaml", "--format", ""), ["mermaid", "dot"]),
        (("init", "s"), ["svd", "sweep"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
    ],
)
def test_bash(folder: Path, words: tuple[str, ...], offered: list[str]) -> None:
    assert bash(folder, *words) == offered


def test_bash_itself_quotes_and_leaves_words_open(folder: Path) -> None:
    """An interactive bash on a terminal: its history holds what it made of the answers."""
    pty = pytest.importorskip("pty")
    bash = shutil.which("bash") or pytest.skip("bash is not installed")
    (folder / "char").mkdir()  # no id of a step is taken for a folder
    typed = {
        "lorapipe inspect a\t": "lorapipe inspect a\\ b.safetensors",
        "lorapipe inspect lor\t\t": "lorapipe inspect loras/x.safetensors",
        "lorapipe graph my.yaml --set str\t8": "lorapipe graph my.yaml --set strength=8",
        "lorapipe explain my.yaml char\t": "lorapipe explain my.yaml char",
        "lorapipe graph bro\t": "lorapipe graph broken.yaml",
    }
    history = folder / "history"
    lines = ["source <(lorapipe completion bash)", *typed, f"history -w {history}", "exit"]
    main_end, other_end = pty.openpty()
    shell = subprocess.Popen(
        [bash, "--norc", "--noprofile", "-i"],
        cwd=folder,
        env=environment(folder, PS1="", TERM="dumb"),
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
    )
    os.close(other_end)
    os.write(main_end, "".join(f"{line}\n" for line in lines).encode())
    with contextlib.suppress(OSError):  # at the end nobody holds the other side
        while os.read(main_end, 4096):
            pass
    assert shell.wait(30) is not None
    os.close(main_end)
    assert [line.rstrip() for line in history.read_text().splitlines()[1:-1]] == list(typed.values())


def test_fish(folder: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    script = (
        "lorapipe completion fish | source; complete -C 'lorapipe explain my.yaml cha';"
        " complete -C 'lorapipe run my.yaml --set s'"
    )
    done = subprocess.run(
        [shutil.which("fish") or "", "--no-config", "-c", script],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["chair\tshuffle", "char\tload", "strength=\t0.7"]


def test_zsh(folder: Path) -> None:
    """The functions that take what is offered are those of the test: it has no terminal."""
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    script = (
        'compdef() {}; compadd() { print -r -- "add $@" }; _describe() { print -r -- "describe $noted" };'
        " source <(lorapipe completion zsh);"
        ' try() { words=("$@"); CURRENT=$#; _lorapipe_completion };'
        " try lorapipe explain my.yaml cha; try lorapipe run my.yaml --set s; try lorapipe inspect ''"
    )
    done = subprocess.run(
        [shutil.which("zsh") or "", "-f", "-c", script],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "describe char:load chair:shuffle",
        "add -U -S  -V unfinished -- strength=",
        "add -U -V files -- a b.safetensors",
        "add -U -S  -V unfinished -- bin/ loras/",
    ]


def test_an_answer_takes_less_than_a_fifth_of_a_second_and_loads_nothing_slow(folder: Path) -> None:
    """The fastest of a few: other processes share the machine."""
    asked = environment(
        folder, COMP_WORDS="lorapipe explain my.yaml ", COMP_CWORD="3", _LORAPIPE_COMPLETE="bash_complete"
    )
    script = (
        "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
        "from lorapipe.cli import main; main([])"
    )
    spent = []
    for _ in range(4):
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=folder, env=asked, capture_output=True, text=True, check=True
        )
        spent.append(time.perf_counter() - begin)
    assert done.stdout == "plain,char\nplain,chair\n"
    assert not set(done.stderr.split()) & {"torch", "numpy", "networkx", "jsonschema", "rich"}
    assert min(spent) < 0.2 + 0.1 * (os.getloadavg()[0] > 2)


def test_the_shell_is_told_by_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert main(["completion"]) == 0
    assert capsys.readouterr().out.startswith("#compdef lorapipe\n")
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert main(["completion"]) == 2
    assert "which shell? one of bash, zsh, fish" in capsys.readouterr().err
