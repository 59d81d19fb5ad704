"""Ctrl-C and SIGTERM: within a second, with one line, without a trace."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lorapipe.cli.stopping import Stopped, leave, stoppable
from lorapipe.errors import Interrupted

from ..bench import Bench

ROOT = Path(__file__).resolve().parents[2]
LARGE = 1 << 30
"""Bytes of a sparse file, which takes no room and a second to hash."""


def started(recipe: Path, *options: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "lorapipe", "run", str(recipe), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=stderr, env=environment)


def until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not ready():
        assert process.poll() is None
        time.sleep(0.01)


def opened(process: subprocess.Popen[bytes]) -> set[str]:
    """The files that a process has open, where the system tells."""
    folder = Path(f"/proc/{process.pid}/fd")
    if not folder.is_dir():
        pytest.skip("this system does not tell which files are open")
    found = set()
    with suppress(OSError):
        for fd in folder.iterdir():
            with suppress(OSError):
                found.add(str(fd.readlink()))
    return found


def stopped(process: subprocess.Popen[bytes], *numbers: int) -> tuple[int, float, list[str]]:
    """Send signals one after the other: the status, the seconds to the end, the lines of the message."""
    begin = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.02)
    _, said = process.communicate(timeout=30)
    took = time.monotonic() - begin
    return process.returncode, took, [] if said is None else said.decode().splitlines()


@pytest.fixture
def large(bench: Bench) -> Path:
    """A recipe that loads a checkpoint of 1 GiB of zeros: its hashing takes a second."""
    header = b'{"odd.weight":{"dtype":"F32","shape":[1024,262144],"data_offsets":[0,1073741824]}}      '
    with (bench.folder / "base.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + LARGE)
    return bench.recipe("base: {load: base.safetensors}\no: {save: base, to: out/o.safetensors}")


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        ([signal.SIGINT], "error: interrupted - run again to go on"),
        ([signal.SIGTERM], "error: stopped by SIGTERM - run again to go on"),
        ([signal.SIGINT] * 3, "error: interrupted - run again to go on"),
        ([signal.SIGINT, signal.SIGTERM], "error: interrupted - run again to go on"),
    ],
    ids=["Ctrl-C", "SIGTERM", "three times", "one and the other"],
)
def test_while_an_input_is_hashed_it_stops_at_once_with_one_line(
    large: Path, tmp_path: Path, numbers: list[int], line: str
) -> None:
    process = started(large)
    base = str(large.with_name("base.safetensors"))
    until(lambda: base in opened(process), process)
    time.sleep(0.2)
    status, took, said = stopped(process, *numbers)
    assert (status, said) == (130, [line])
    assert took < 1
    assert not (large.parent / "out").exists()


def test_while_one_large_tensor_is_written_it_stops_at_once_and_leaves_nothing(
    large: Path, tmp_path: Path
) -> None:
    process = started(large, "--quiet", "--memory", "1GiB")
    out = large.parent / "out"
    until(lambda: out.exists() and any(path.stat().st_size > 1 << 24 for path in out.glob(".lora*")), process)
    status, took, said = stopped(process, signal.SIGINT)
    assert (status, said) == (130, ["error: interrupted - run again to go on"])
    assert took < 1
    assert not out.exists()


def test_while_another_process_holds_what_is_wanted_it_stops_at_once(bench: Bench, tmp_path: Path) -> None:
    bench.lora("a")
    recipe = bench.recipe(
        "a: {load: a.safetensors}\nm: {shuffle: a, seed: 1}\no: {save: m, to: out/o.safetensors}"
    )
    assert started(recipe, "--quiet").communicate()[1] == b""
    locks = [os.open(path, os.O_RDWR) for path in (tmp_path / "store" / "locks").iterdir()]
    (bench.folder / "out" / "o.safetensors").unlink()
    try:
        for fd in locks:
            fcntl.flock(fd, fcntl.LOCK_EX)
        process = started(recipe)
        assert process.stderr is not None
        said = b""
        while b"waiting" not in said:
            said += process.stderr.readline()
        status, took, rest = stopped(process, signal.SIGINT)
    finally:
        for fd in locks:
            os.close(fd)
    assert (status, rest[-1]) == (130, "error: interrupted - run again to go on")
    assert took < 1


def test_a_terminal_has_its_cursor_and_its_line_back(large: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = started(large, stderr=theirs)
    os.close(theirs)
    shown = b""

    def show() -> None:
        nonlocal shown
        with suppress(OSError):  # its other end is closed
            while piece := os.read(ours, 4096):
                shown += piece

    reader = threading.Thread(target=show)
    reader.start()
    until(lambda: b"hashing" in shown, process)
    status, took, _ = stopped(process, signal.SIGINT)
    reader.join()
    os.close(ours)
    assert status == 130
    assert took < 1
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") >= 0
    assert b"interrupted" in shown.splitlines()[-1]


# --- what may go wrong with it --------------------------------------------------------------


@pytest.fixture
def handlers() -> Iterator[None]:
    """See that the signals' own handlers are back afterwards."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    hook = sys.unraisablehook
    timer = signal.setitimer(signal.ITIMER_REAL, 0)  # that of the tests' own time limit
    yield
    signal.setitimer(signal.ITIMER_REAL, *timer)
    assert [signal.getsignal(number) for number in numbers] == before
    assert sys.unraisablehook is hook


def _busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.usefixtures("handlers")
def test_whoever_swallows_it_is_told_again() -> None:
    swallowed = 0
    with pytest.raises(Interrupted), stoppable():  # noqa: PT012  # when it is raised is the point
        while swallowed < 3:
            # As the library does that is being imported.
            with suppress(BaseException):
                if not swallowed:
                    signal.raise_signal(signal.SIGINT)
                _busy(5)
            swallowed += 1
        _busy(5)
        pytest.fail("it was not told")
    assert swallowed == 3


@pytest.mark.usefixtures("handlers")
def test_an_object_that_is_collected_swallows_it_silently_and_it_comes_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Collected:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted), stoppable():  # noqa: PT012  # when it is raised is the point
        Collected()
        _busy(5)
        pytest.fail("it was not told")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("handlers")
def test_cleaning_up_is_not_disturbed() -> None:
    cleaned = False
    with pytest.raises(Interrupted), stoppable():  # noqa: PT012  # when it is raised is the point
        try:
            signal.raise_signal(signal.SIGINT)
            _busy(1)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            _busy(0.3)  # longer than it takes to be told again
            cleaned = True
    assert cleaned


@pytest.mark.usefixtures("handlers")
def test_what_an_interruption_broke_is_an_interruption() -> None:
    with pytest.raises(Interrupted) as caught, stoppable():  # noqa: PT012  # when it is raised is the point
        try:
            signal.raise_signal(signal.SIGTERM)
            _busy(1)
        except Stopped:
            raise ImportError("numpy has no attribute 'matrix'") from None
    assert caught.value.code == "terminated"


@pytest.mark.usefixtures("handlers")
def test_another_error_is_itself() -> None:
    with pytest.raises(ValueError, match="x"), stoppable():
        raise ValueError("x")


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_it_does_nothing() -> None:
    done: list[str] = []

    def work() -> None:
        with stoppable():
            done.append("worked")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["worked"]


def test_an_output_that_the_shell_closed_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    monkeypatch.setattr(sys, "stdout", None)
    leave(0)
    assert statuses == [0]
