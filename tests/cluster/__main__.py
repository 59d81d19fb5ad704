"""Clusters on loopback, and what becomes of them: ``python -m tests.cluster``.

Each scene is a scheduler, workers and builds as commands of their own. Prints what was done, and ends
with 1 if anything went wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from .lab import command, digests, lab, made_sweep, soon, started, until

Scene = Callable[[Path, Path, dict[str, str]], str]


def fresh(recipe: Path, folder: Path) -> Path:
    """The recipe with its inputs in a folder of its own."""
    place = folder / "bench"
    shutil.copytree(recipe.parent, place, ignore=shutil.ignore_patterns("out", "*.lock"))
    return place / recipe.name


def run(recipe: Path, *options: str, **env: str) -> tuple[int, str, float]:
    """Exit status, what was said, seconds."""
    began = time.monotonic()
    said = [*command(recipe, *options), "-q"]
    done = subprocess.run(said, capture_output=True, text=True, check=False, env={**os.environ, **env})
    return done.returncode, done.stderr.strip(), time.monotonic() - began


def checked(recipe: Path, good: dict[str, str]) -> None:
    assert digests(recipe) == good, "other bytes, or files beside them"


def same_bytes(recipe: Path, folder: Path, good: dict[str, str]) -> str:
    here = fresh(recipe, folder)
    with lab(folder / "lab", 3) as found:
        status, said, took = run(here, "--scheduler", str(found.file))
        assert (status, said) == (0, ""), said
        checked(here, good)
    return f"24 outputs byte-equal to threads, {took:.1f} s"


def killed_workers(recipe: Path, folder: Path, good: dict[str, str]) -> str:
    """One worker after another dies at its task; each has a nanny, which starts it again."""
    here, killed = fresh(recipe, folder), 0
    with lab(folder / "lab", 2) as found:
        build = started(here, "--scheduler", str(found.file))
        for step in ("small[strength=0.25,rank=4]", "mixed[strength=0.5", "out[strength=0.75"):
            assert until(build, step)
            victim = found.workers[killed % 2]
            for child in psutil.Process(victim.pid).children(recursive=True):
                if "multiprocessing.spawn" in " ".join(child.cmdline()) and "resource" not in child.name():
                    child.kill()
            killed += 1
        assert build.stderr is not None
        rest = build.stderr.read()
        assert build.wait() == 0, rest
        checked(here, good)
    return f"{killed} times, nothing lost, nothing half written"


def lost_for_good(recipe: Path, folder: Path, good: dict[str, str]) -> str:
    """A worker without a nanny is gone when it dies; the other one does its work."""
    here = fresh(recipe, folder)
    with lab(folder / "lab", 1) as found:
        found.hire(nanny=False)
        assert found.count(2)
        build = started(here, "--scheduler", str(found.file))
        assert until(build, "mixed[")
        found.workers[1].kill()
        assert build.stderr is not None
        rest = build.stderr.read()
        assert build.wait() == 0, rest
        checked(here, good)
    return "the other does its work"


def deadly_step(recipe: Path, folder: Path, good: dict[str, str]) -> str:
    """Each worker that is given one step dies of it, as of too little memory."""
    here = fresh(recipe, folder)
    deadly = folder / "deadly.py"
    deadly.write_text(
        "import os\nfrom lorapipe.build.cluster import station\n"
        "if not hasattr(station, 'whole'): station.whole = station.do\n"  # it is imported twice
        "def do(found, order, *a, **k):\n"
        "    if order.task.step == 'mixed[strength=0.5,rank=8]': os._exit(9)\n"
        "    return station.whole(found, order, *a, **k)\n"
        "station.do = do\n"
    )
    with lab(folder / "lab", 0) as found:
        for _ in range(2):
            found.hire("--preload", str(deadly))
        assert found.count(2)
        status, said, took = run(here, "--scheduler", str(found.file))
        assert status == 5, said
        assert "step 'mixed[strength=0.5,rank=8]': error: it was given to 4 workers" in said, said
        assert len(said.splitlines()) == 1, said
    return f"one error after {took:.1f} s, which names the step"


def killed_scheduler(recipe: Path, folder: Path, good: dict[str, str]) -> str:
    here = fresh(recipe, folder)
    with lab(folder / "lab", 2) as found:
        build = started(here, "--scheduler", str(found.file))
        assert until(build, "mixed[")
        began = time.monotonic()
        found.scheduler.kill()
        assert build.stderr is not None
        rest = build.stderr.read()
        assert build.wait() == 5, rest
        took = time.monotonic() - began
        assert "scheduler" in rest.strip().splitlines()[-1], rest
        found.dismiss()
        found.open()
        found.hire()
        status, said, _ = run(here, "--scheduler", str(found.file))
        assert status == 0, said
        checked(here, good)
    return f"one error after {took:.1f} s; run again it went on"


def interrupted(recipe: Path, folder: Path, good: dict[str, str]) -> str:
    """Ctrl-C in a terminal reaches all processes that were started there."""
    here, told = fresh(recipe, folder), []
    with lab(folder / "lab", 2) as found:
        for options in (("--scheduler", str(found.file)), ("--workers", "2")):
            build = started(here, *options)
            assert until(build, "mixed[")
            below = psutil.Process(build.pid).children(recursive=True)
            began = time.monotonic()
            os.killpg(build.pid, signal.SIGINT)
            assert build.stderr is not None
            rest = build.stderr.read()
            assert build.wait() == 130, rest
            assert "Traceback" not in rest, rest
            told.append(f"{time.monotonic() - began:.1f} s")
            assert soon(lambda below=below: not any(child.is_running() for child in below))
            assert soon(lambda: not list((here.parent / "out").glob(".lorapipe*")))
        for seconds in (0.5, 1.0, 1.5, 2.0, 3.0):  # while it starts
            build = started(here, "--workers", "2", "--progress", "none")
            time.sleep(seconds)
            os.killpg(build.pid, signal.SIGINT)
            assert build.stderr is not None
            rest = build.stderr.read()
            assert build.wait() in (0, 130), rest
            assert len(rest.splitlines()) <= 1, rest
        status, said, _ = run(here, "--scheduler", str(found.file))
        assert status == 0, said
        checked(here, good)
    took = " (on a cluster) and ".join(told)
    return f"130 after {took} (processes here); nothing left running or half written"


def killed_client(recipe: Path, folder: Path, good: dict[str, str]) -> str:
    from distributed import Client

    here = fresh(recipe, folder)
    with lab(folder / "lab", 2) as found:
        build = started(here, "--scheduler", str(found.file))
        assert until(build, "mixed[")
        build.kill()
        build.wait()
        with Client(scheduler_file=str(found.file), set_as_default=False) as client:
            assert soon(lambda: not any(client.processing().values()))
        assert soon(lambda: not list((here.parent / "out").glob(".lorapipe*")))
        status, said, _ = run(here, "--scheduler", str(found.file))
        assert status == 0, said
        checked(here, good)
    return "its tasks end, and the next build goes on"


def another_version(recipe: Path, folder: Path, good: dict[str, str]) -> str:
    here = fresh(recipe, folder)
    other = folder / "another.py"
    other.write_text("import lorapipe.version\nlorapipe.version.__version__ = '0.0.1'\n")
    with lab(folder / "lab", 1) as found:
        found.hire("--preload", str(other))
        assert found.count(2)
        status, said, took = run(here, "--scheduler", str(found.file))
        assert status == 5, said
        assert "lorapipe is 0.0.1 there" in said, said
        assert not (here.parent / "out").exists()
    return f"{took:.1f} s: {said.splitlines()[0]}"


def another_machine(recipe: Path, folder: Path, good: dict[str, str]) -> str:
    """A worker that takes itself for another machine; then the same with a store that both share."""
    here = fresh(recipe, folder)
    other = folder / "another.py"
    other.write_text("import lorapipe.build.cluster.planned as p\np.machine = lambda: 'another'\n")
    shared = folder / "shared"
    shared.mkdir()
    with lab(folder / "lab", 0) as found:
        for name in ("one", "two"):
            found.hire("--preload", str(other), env={"LORAPIPE_STORE": str(folder / name)})
        assert found.count(2)
        status, said, _ = run(here, "--scheduler", str(found.file))
        assert status == 5, said
        assert "is for the processes of one machine" in said, said
        more = {"LORAPIPE_STORE": str(folder / "mine"), "LORAPIPE_SHARED_STORE": f"file://{shared}"}
        status, said, took = run(here, "--scheduler", str(found.file), **more)
        assert status == 0, said
        checked(here, good)
        again = subprocess.run(
            [sys.executable, "-m", "lorapipe", "run", str(here), "--json", "-q"],
            capture_output=True, text=True, check=True, env={**os.environ, **more},
        )  # fmt: skip
        assert not any(output["written"] for output in json.loads(again.stdout)["outputs"])
    return f"refused; with a store that all share {took:.1f} s, and the outputs are the client's"


def another_disk(recipe: Path, folder: Path, good: dict[str, str]) -> str:
    """A worker that sees another disk under the name of the store."""
    here, store = fresh(recipe, folder), folder / "store"
    store.mkdir()
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode
    ):
        return "not tried: it takes the right to mount"
    with lab(folder / "lab", 1) as found:
        worker = (
            f"mount -t tmpfs none {store} && exec {sys.executable} -m distributed.cli.dask_worker "
            f"--scheduler-file {found.file} --nthreads 1 --no-dashboard --local-directory {folder}"
        )
        hidden = subprocess.Popen([unshare, "-m", "sh", "-c", worker], start_new_session=True)
        found.workers.append(hidden)
        assert found.count(2)
        status, said, _ = run(here, "--scheduler", str(found.file), LORAPIPE_STORE=str(store))
        assert status == 5, said
        assert "is not the same folder there" in said, said
        assert not (here.parent / "out").exists()
    return said.splitlines()[0]


SCENES: dict[str, Scene] = {
    "three workers": same_bytes,
    "workers killed at their tasks": killed_workers,
    "a worker lost for good": lost_for_good,
    "a step that its workers die of": deadly_step,
    "the scheduler killed": killed_scheduler,
    "Ctrl-C": interrupted,
    "the client killed": killed_client,
    "a worker of another version": another_version,
    "workers on other machines": another_machine,
    "a worker that does not see the store": another_disk,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--only", choices=SCENES, action="append", help="one scene; may be repeated")
    parser.add_argument("--modules", type=int, default=24)
    parser.add_argument("--width", type=int, default=320)
    asked = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="lorapipe-cluster-") as place:
        os.environ["LORAPIPE_STORE"] = f"{place}/store of threads"
        recipe = made_sweep(Path(place, "bench"), asked.modules, asked.width)
        subprocess.run([sys.executable, "-m", "lorapipe", "run", str(recipe), "-q"], check=True)
        good = digests(recipe)
        for number, name in enumerate(asked.only or SCENES):
            folder = Path(place, str(number))
            folder.mkdir()
            os.environ["LORAPIPE_STORE"] = str(folder / "store")
            began = time.monotonic()
            try:
                told = SCENES[name](recipe, folder, good)
            except AssertionError as error:
                wrong, told = wrong + 1, f"WRONG: {error!r}"
            sys.stdout.write(f"{name}: {told}; {time.monotonic() - began:.0f} s\n")
            sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
