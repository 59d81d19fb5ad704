"""Builds in processes of their own, forked from one that has loaded torch: a script for tests.

Reads a line of JSON, a list of jobs ``[recipe, store, seed, number]``; runs them at once,
each killed by SIGKILL at its ``number``-th point (never, if 0); prints the list of exit
statuses, minus the signal where one ended it. Ends with its input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import torch  # noqa: F401 - loaded once, so that a fork costs milliseconds

import lorapipe.build.executor  # noqa: F401 - likewise
from lorapipe.build.run import Options, build
from lorapipe.recipe.parsing import load_recipe


def run_job(recipe: str, store: str, seed: int, number: int) -> None:
    os.environ["LORAPIPE_STORE"] = store
    passed = 0

    def hook(point: str) -> None:
        nonlocal passed
        passed += 1
        if passed == number:
            os.kill(os.getpid(), signal.SIGKILL)

    build(load_recipe(Path(recipe), {"seed": seed}), Options(workers=1), hook=hook)


def start(job: list[object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        run_job(*job)  # type: ignore[arg-type]  # what JSON gave is what the test wrote
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the parent must see it and the child must end
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> None:
    for line in sys.stdin:
        children = [start(job) for job in json.loads(line)]
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        print(json.dumps(statuses), flush=True)  # noqa: T201 - the answer that the test reads


if __name__ == "__main__":
    main()
