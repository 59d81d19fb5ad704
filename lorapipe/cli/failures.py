"""The only way out: every exception as text on stderr and an exit status."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from lorapipe.errors import BuildError, LorapipeError

__all__ = ["run_command"]

_INTERRUPTED = 130
_INTERNAL = 1

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says where there is no room for more."""


def run_command(command: click.Command, arguments: Sequence[str] | None = None) -> int:
    """Run a click command and return its exit status.

    A :class:`~lorapipe.errors.LorapipeError` becomes its diagnostic and the status of
    its class, a wrong command line 2, Ctrl-C 130, and anything else 1 with a request to
    report it; ``LORAPIPE_DEBUG=1`` adds a traceback to any of them.
    """
    _print_anything()
    try:
        result = command.main(
            args=None if arguments is None else list(arguments), prog_name="lorapipe", standalone_mode=False
        )
        _flush()
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", _INTERRUPTED)
    except click.ClickException as error:
        print(_usage(error), file=sys.stderr)  # noqa: T201 - see _say
        return error.exit_code
    except LorapipeError as error:
        return _say(_diagnostic(error), error.exit_status)
    except Exception as error:  # noqa: BLE001 - what no one foresaw is shown as a fault of lorapipe
        if isinstance(error, OSError) and error.errno in _FULL:
            full = _no_room(error)
            return _say(_diagnostic(full), full.exit_status)
        return _say(_internal(error), _INTERNAL)
    return result if isinstance(result, int) else 0


def _print_anything() -> None:
    """Escape what standard output's encoding lacks, as standard error does: no name may stop a build."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Write what waits to be written, so that a full disk is an error of ours, not Python's."""
    if sys.stdout is not None:  # as it is where the shell closed it: >&-
        with contextlib.suppress(BrokenPipeError):  # nobody reads it any more
            sys.stdout.flush()


def _no_room(error: OSError) -> BuildError:
    """What is printed, into a file on a full disk; what is built has errors of its own."""
    hint = "make room where the output goes, or send it elsewhere"
    return BuildError("disk-full", f"the output cannot be written: {error.strerror}", hint=hint)


def _say(text: str, status: int) -> int:
    if os.environ.get("LORAPIPE_DEBUG") == "1":
        traceback.print_exc()
    print(text, file=sys.stderr)  # noqa: T201 - the one place that writes errors
    return status


def _usage(error: click.ClickException) -> str:
    """What click says of a command line, in which a shell may have put the names of a stranger's files."""
    from lorapipe.views.text import visible

    shown = io.StringIO()
    error.show(shown)
    return "\n".join(visible(line) for line in shown.getvalue().rstrip("\n").split("\n"))


def _diagnostic(error: LorapipeError) -> str:
    from lorapipe.views.diagnostics import diagnostic

    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return diagnostic(error, colour=colour, folder=_here())


def _here() -> Path | None:
    """The folder that the user is in, unless that is gone."""
    try:
        return Path.cwd()
    except OSError:
        return None


def _internal(error: Exception) -> str:
    from lorapipe.views.text import visible

    what = visible(f"{type(error).__name__}: {error}".rstrip(": "))
    return f"internal error: {what} - please report it; LORAPIPE_DEBUG=1 shows where it happened"
