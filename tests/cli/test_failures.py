"""Every exception leaves as text and a status."""

# ruff: noqa: E501 - an error is compared whole, one case a line

from __future__ import annotations

import io
import sys

import click
import pytest

from lorapipe import errors
from lorapipe.cli.failures import run_command


def failing(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (errors.UsageError("c", "wrong"), 2, "error: wrong\n"),
        (errors.RecipeError("c", "wrong", hint="mend"), 3, "error: wrong - mend\n"),
        (errors.InputError("c", "wrong", where="f"), 4, "f: error: wrong\n"),
        (errors.BuildError("c", "wrong"), 5, "error: wrong\n"),
        (errors.LockError("c", "wrong"), 6, "error: wrong\n"),
        (errors.WorkPending("c", "wrong"), 7, "error: wrong\n"),
        (errors.CheckFailed("c", "wrong"), 8, "error: wrong\n"),
        (errors.Interrupted("c", "wrong"), 130, "error: wrong\n"),
        (errors.LorapipeError("c", "wrong"), 1, "error: wrong\n"),
        (errors.ManyErrors([errors.BuildError("c", "a"), errors.InputError("c", "b")]), 4, "error: a\nerror: b\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (ZeroDivisionError("by\x1b0"), 1, "internal error: ZeroDivisionError: by\\x1b0 - please report it; LORAPIPE_DEBUG=1 shows where it happened\n"),
        (MemoryError(), 1, "internal error: MemoryError - please report it; LORAPIPE_DEBUG=1 shows where it happened\n"),
    ],
)  # fmt: skip
def test_every_exception_becomes_text_and_the_status_of_its_class(
    error: BaseException,
    status: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LORAPIPE_DEBUG", raising=False)
    assert run_command(failing(error), []) == status
    captured = capsys.readouterr()
    assert captured.err.lstrip("\n") == text
    assert captured.out == ""


def test_every_class_of_error_has_a_status_that_the_tests_reach() -> None:
    classes = [
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.LorapipeError)
    ]
    assert {one.exit_status for one in classes} == {1, 2, 3, 4, 5, 6, 7, 8, 130}


def test_a_traceback_is_shown_only_to_who_debugs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAPIPE_DEBUG", "1")
    assert run_command(failing(ZeroDivisionError("x")), []) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_command_that_ends_well_is_status_zero(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def command() -> None:
        click.echo("done")

    assert run_command(command, []) == 0
    assert capsys.readouterr().out == "done\n"


def test_a_name_that_the_terminal_cannot_show_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def show() -> None:
        sys.stdout.write("é")

    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))

    assert run_command(show, []) == 0
    assert written.getvalue() == b"\\xe9"
