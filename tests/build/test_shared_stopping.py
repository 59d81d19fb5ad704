"""Ctrl-C and SIGTERM while a result comes from a shared store that gives nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lorapipe

from ..remote.servers import Bucket, Faults
from .teams import machine


def test_who_stops_does_not_wait_for_a_server_that_stalls(s3: Bucket, tmp_path: Path) -> None:
    first, one = (machine(tmp_path / name, s3.url("team")) for name in ("first", "one"))
    first.run()
    one.plan()  # which fetches what is small
    s3.forget()
    s3.faults = Faults(stall_after=100, only=lambda method, path: "/blobs/" in path)
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(lorapipe.__file__).parents[1]),
        "LORAPIPE_STORE": str(one.folder / "store"),
        "LORAPIPE_SHARED_STORE": s3.url("team"),
        "LORAPIPE_REMOTE_TIMEOUT": "60",
    }
    argv = [sys.executable, "-m", "lorapipe", "run", "r.yaml"]
    with subprocess.Popen(argv, cwd=one.folder, env=environment, stderr=subprocess.PIPE, text=True) as run:
        until = time.monotonic() + 60
        while not any("/blobs/" in asked.path for asked in s3.asked):
            assert time.monotonic() < until, "it never came to fetch"
            time.sleep(0.05)
        time.sleep(0.2)
        stopped = time.monotonic()
        run.send_signal(signal.SIGTERM)
        said = run.communicate(timeout=60)[1]
        took = time.monotonic() - stopped

    assert took < 10, said  # a second, on a machine that does nothing else
    assert run.returncode == 130
    assert said.splitlines()[-1] == "error: stopped by SIGTERM - run again to go on"
    assert list((one.folder / "store" / "temp").iterdir()) == []
