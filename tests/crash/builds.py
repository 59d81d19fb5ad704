"""Builds in processes of their own, forked from one that has loaded torch: a script for tests.

Reads lines of JSON, each a list of jobs ``{recipe, store, seed, at, after, sends, part, workers}``, and
runs the jobs of a line at once; one with a ``part`` makes that file of the folder ``m`` alone. A job is ended
by the signal ``sends`` (SIGKILL) at its ``at``-th point, or ``after`` so many seconds. Prints the list
of exit statuses, minus the signal where one ended it, and of seconds from a signal to the end. Ends with
its input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from lorapipe.build.run import Options, build
from lorapipe.errors import LorapipeError
from lorapipe.recipe.parsing import load_recipe
from lorapipe.steps import KINDS, find_kind
from tests.build.parting import make_part

LOADED = (
    "torch", "filelock", "jsonschema", "networkx",
    "lorapipe.build.running.executor", "lorapipe.weights.checkpoints.checkpoint",
)  # fmt: skip
"""What a build would import: loaded once, so that a fork costs milliseconds."""


def run_job(job: dict[str, Any]) -> None:
    os.environ["LORAPIPE_STORE"] = job["store"]
    passed = 0

    def hook(point: str) -> None:
        nonlocal passed
        passed += 1
        if passed == job["at"]:
            os.kill(os.getpid(), job["sends"])
            time.sleep(0.3)  # the thread that hears of it is another, and what is left may take less

    if job["part"]:
        make_part(Path(job["recipe"]), {"seed": job["seed"]}, "m", job["part"], hook=hook)
    else:
        recipe = load_recipe(Path(job["recipe"]), {"seed": job["seed"]})
        build(recipe, Options(workers=job["workers"]), hook=hook)


def start(job: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        run_job(job)
        status = 0
    except KeyboardInterrupt:
        status = 130
    except LorapipeError as error:
        status = error.exit_status
        traceback.print_exc()
    except BaseException:  # noqa: BLE001 - whatever it is, the parent must see it and the child must end
        traceback.print_exc()
    finally:
        os._exit(status)


def run_all(jobs: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """Run jobs at once: the status of each, and the seconds that it lived after its signal."""
    pids = [start(job) for job in jobs]
    begun = time.monotonic()
    sent: dict[int, float] = {}
    ends: dict[int, tuple[int, float]] = {}
    while len(ends) < len(jobs):
        for number, (job, pid) in enumerate(zip(jobs, pids, strict=True)):
            if number in ends:
                continue
            now = time.monotonic()
            if job["after"] is not None and number not in sent and now - begun >= job["after"]:
                sent[number] = now
                os.kill(pid, job["sends"])  # not waited for yet: the number is still this child's
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                lived = time.monotonic() - sent.get(number, now)
                ends[number] = (os.waitstatus_to_exitcode(status), lived)
        time.sleep(0.001)
    return [ends[number] for number in range(len(jobs))]


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the parent does with it
    for name in LOADED:
        import_module(name)
    for kind in KINDS:
        find_kind(kind)
    for line in sys.stdin:
        print(json.dumps(run_all(json.loads(line))), flush=True)  # noqa: T201 - the answer that the test reads


if __name__ == "__main__":
    main()
