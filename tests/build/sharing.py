"""Builds of one recipe at once, in processes forked from one that has loaded torch: a script for tests.

    sharing.py RECIPE COUNT

prints, for each process, a line of JSON: how each step came to be.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import torch  # noqa: F401 - loaded once, so that a fork costs milliseconds

import lorapipe.build.running.executor  # noqa: F401 - likewise
from lorapipe.build.events import Event, StepDone
from lorapipe.build.run import Options, build
from lorapipe.recipe.parsing import load_recipe


def run(recipe: str, answer: int) -> None:
    done: dict[str, str] = {}

    def listen(event: Event) -> None:
        if isinstance(event, StepDone):
            done[event.step] = event.how

    build(load_recipe(Path(recipe)), Options(workers=1), listen=listen)
    os.write(answer, json.dumps(done).encode() + b"\n")


def start(recipe: str, answer: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        run(recipe, answer)
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the parent must see it and the child must end
        traceback.print_exc()
    finally:
        os._exit(status)


def main(recipe: str, count: str) -> int:
    children = [start(recipe, 1) for _ in range(int(count))]
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
