"""The program from its first moment on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# It says when Python itself is up: before that nobody can hear. Then it waits for a recipe on its stdin.
PROGRAM = (
    "import os, runpy, sys; sys.argv = ['lorapipe', 'validate', '-']; os.write(1, b'.');"
    "runpy.run_module('lorapipe', run_name='__main__', alter_sys=True)"
)


def interrupted(after_s: float) -> tuple[int, str]:
    """Exit status and stderr of a program that gets Ctrl-C so many seconds after Python is up."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    return process.returncode, said.decode()


def test_ctrl_c_in_the_first_moments_is_one_line_whatever_is_being_imported() -> None:
    ends = [interrupted(place / 250) for place in range(25)]
    early = [said for status, said in ends if status != 130]
    late = [said for status, said in ends if status == 130]
    assert {*late} <= {"interrupted\n", "error: interrupted - run again to go on\n"}
    assert len(late) >= 15
    # Before the first lines of lorapipe Python hears it by itself.
    begun = [
        said for said in early if any(f"lorapipe/{name}" in said for name in ("cli", "errors", "recipe"))
    ]
    assert begun == []
