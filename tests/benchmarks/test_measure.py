from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure import Failed, apart, free_memory, measure, warm

HELD = "x = bytearray(300 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1"


def test_peak_memory_is_the_processs_own(tmp_path: Path) -> None:
    # From a process of its own: a child's peak begins with that of the process it was forked
    # from, and a test runner may be large by now.
    script = f"""
import sys
from pathlib import Path
from benchmarks.measure import measure
for code in ("pass", {HELD!r}):
    print(measure((sys.executable, "-c", code), folder=Path({str(tmp_path)!r})).peak)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, check=True, capture_output=True, text=True
    )
    small, large = map(int, done.stdout.split())
    assert large >= 300 << 20
    assert small < 100 << 20


def test_a_childs_cost_counts_when_it_was_waited_for(tmp_path: Path) -> None:
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HELD!r}], check=True)"
    assert measure((sys.executable, "-c", inner), folder=tmp_path).peak >= 300 << 20


def test_cpu_and_wall_are_told_apart(tmp_path: Path) -> None:
    slept = measure(("sleep", "0.2"), folder=tmp_path)
    assert slept.wall >= 0.2
    assert slept.cpu < slept.wall


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise SystemExit(3)", "failed with exit status 3: "),
        (
            "import sys; sys.exit('cannot read /some/where/secret.txt')",
            "failed with exit status 1: cannot read secret.txt",
        ),
        ("import os; os.kill(os.getpid(), 9)", "killed, for memory as it seems"),
    ],
)
def test_a_failure_says_why_and_names_no_folder(code: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(Failed) as failed:
        measure((sys.executable, "-c", code), folder=tmp_path)
    assert str(failed.value) == told


def test_what_cannot_be_started_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="cannot be started: No such file"):
        measure((str(tmp_path / "nothing"),), folder=tmp_path)


def test_what_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="took too long"):
        measure(("sleep", "60"), folder=tmp_path, limit=0.2)


def test_our_settings_of_threads_reach_no_contestant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LORAPIPE_STORE", "elsewhere")
    seen = "[os.environ.get(name) for name in ('OMP_NUM_THREADS', 'LORAPIPE_STORE')]"
    code = f"import os, sys; sys.exit({seen} != [None, 'here'])"
    measure((sys.executable, "-c", code), folder=tmp_path, env={"LORAPIPE_STORE": "here"})


def test_apart_is_another_process() -> None:
    assert apart(os.getpid) != os.getpid()


def test_warm_takes_files_of_any_size(tmp_path: Path) -> None:
    for name, size in (("empty", 0), ("odd", (1 << 20) + 3)):
        (tmp_path / name).write_bytes(b"." * size)
    warm([tmp_path / "empty", tmp_path / "odd"])


def test_free_memory_is_part_of_what_there_is() -> None:
    assert 0 < free_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
