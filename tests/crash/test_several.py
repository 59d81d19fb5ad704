"""Several tasks at a time in one process: what they share, what is told of them, and how all of them end."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lorapipe.build.events import Event, Note, Progress, StepDone, StepStarted
from lorapipe.build.result import Built
from lorapipe.build.run import Options, build
from lorapipe.errors import BuildError, LorapipeError, Place
from lorapipe.recipe.parsing import load_recipe
from lorapipe.store.store import open_store

from ..bench import Bench

MANY = 6
SOON_S = 5.0

HEAD = """
    a: {load: a.safetensors}
    base: {load: base.safetensors}
    common: {scale: a, by: 0.5}
    odd: {svd-resize: common, rank: 3}
    even: {svd-resize: a, rank: 2}
"""

CHECKED = """
    held: {check: odd, norm: {max: 0.001}}
    secret: {save: odd, to: out/secret.safetensors}
"""

EACH = """
    s{n}: {{scale: common, by: 0.{n}}}
    r{n}: {{svd-resize: s{n}, rank: {rank}}}
    h{n}: {{shuffle: {of}, seed: {n}}}
    j{n}: {{concat: [r{n}, h{n}]}}
    k{n}: {{check: j{n}, finite: true}}
    m{n}: {{merge-into-checkpoint: base, loras: {{j{n}: 0.5}}}}
    o{n}: {{save: j{n}, to: out/{of}/o{n}.safetensors}}
    c{n}: {{save: m{n}, to: out/c{n}.safetensors}}
"""


@pytest.fixture(autouse=True)
def hasty() -> Iterator[None]:
    """Threads take turns a thousand times as often as they do."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def independent(bench: Bench, many: int = MANY, *, checked: bool = False) -> Path:
    """A recipe of many tasks that share steps, on small files; ``checked``: half of it is held back."""
    bench.lora("a", rank=4)
    bench.checkpoint()
    each = [EACH.format(n=n, rank=1 + n % 4, of=("even", "odd")[n % 2]) for n in range(1, many + 1)]
    steps = "".join([HEAD, CHECKED if checked else "", *each])
    return bench.recipe(steps.replace("\n\n", "\n"))


def run(recipe: Path, hook: Callable[[str], None] = lambda point: None, workers: int = 8) -> Built:
    return build(load_recipe(recipe), Options(workers=workers), hook=hook)


def outputs(bench: Bench) -> dict[str, bytes]:
    found = sorted((bench.folder / "out").rglob("*.safetensors"))
    return {path.relative_to(bench.folder).as_posix(): path.read_bytes() for path in found}


def hidden(bench: Bench) -> list[str]:
    """What is left of what was being written, beside outputs and in the store, and folders made for it."""
    empty = [path for path in bench.folder.rglob("*") if path.is_dir() and not any(path.iterdir())]
    return sorted(path.name for path in (*bench.folder.parent.rglob(".lorapipe-*"), *empty))


def forget_store(bench: Bench) -> None:
    shutil.rmtree(bench.folder.parent / "store", ignore_errors=True)
    shutil.rmtree(bench.folder / "out", ignore_errors=True)


def press_ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


class Witness:
    """A listener that sees whether it is called by two threads at once, and in which order of each step."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.told: Counter[str] = Counter()
        self._inside = 0
        self._state: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        self._inside += 1
        time.sleep(0)
        if self._inside != 1:
            self.wrong.append(f"{event} while another is told")
        self._see(event)
        self._inside -= 1

    def _see(self, event: Event) -> None:
        if isinstance(event, StepStarted):
            if not 1 <= event.position <= event.count or event.step in self._state:
                self.wrong.append(f"{event}, {self._state.get(event.step)}")
            self._state[event.step] = "started"
        elif isinstance(event, Progress | Note | StepDone):
            if self._state.get(event.step) != "started":
                self.wrong.append(f"{event}, {self._state.get(event.step)}")
            if isinstance(event, StepDone):
                self._state[event.step] = "done"
                self.told[event.how] += 1


def test_the_same_bytes_and_lock_for_any_number_of_tasks_at_a_time(bench: Bench) -> None:
    recipe = independent(bench)
    run(recipe, workers=1)
    want, lock = outputs(bench), recipe.with_suffix(".lock").read_bytes()
    assert len(want) == 2 * MANY
    for workers in (2, 8):
        forget_store(bench)
        recipe.with_suffix(".lock").unlink()
        run(recipe, workers=workers)
        assert outputs(bench) == want
        assert recipe.with_suffix(".lock").read_bytes() == lock


def test_of_several_steps_at_work_is_told_one_event_at_a_time_and_each_in_its_order(bench: Bench) -> None:
    """With a check that fails, so that the main thread tells of what is held back meanwhile."""
    recipe = independent(bench, checked=True)
    witness = Witness()
    with pytest.raises(LorapipeError) as caught:
        build(load_recipe(recipe), Options(workers=8), listen=witness)

    assert caught.value.exit_status == 8
    assert witness.wrong == []
    assert witness.told["does not hold"] == 1
    assert witness.told["held back"] == 1 + MANY  # the checked step's own save, and those of each odd number
    assert witness.told["written"] == MANY


def test_an_error_of_one_task_is_told_with_its_place_and_what_others_finished_stays(bench: Bench) -> None:
    """The others are in the middle of their files when it comes."""
    recipe = independent(bench)
    writing, failed = threading.Barrier(3, timeout=SOON_S), threading.Event()
    points: Counter[str] = Counter()

    def hook(point: str) -> None:
        points[point] += 1
        if point == "output:write" and points["output:published"] >= 2 and not failed.is_set():
            with_others = threading.current_thread().name
            if writing.wait() == 0:
                failed.set()
                raise OSError(28, f"No space left on device, in {with_others}")
            failed.wait(SOON_S)

    with pytest.raises(BuildError) as caught:
        run(recipe, hook, workers=4)
    error = caught.value
    assert error.code == "disk-full"
    assert isinstance(error.where, Place)
    assert error.step is not None
    assert error.step[0] in "oc"
    assert hidden(bench) == []

    made = outputs(bench)
    assert len(made) >= 2
    with open_store() as store:
        for name in made:
            assert len(store.journal.last(bench.folder / name)) == 1
    again = run(recipe)
    assert len([output for output in again.outputs if output.written]) == 2 * MANY - len(made)
    assert made.items() <= outputs(bench).items()


def test_two_that_fail_at_one_moment_are_one_error(bench: Bench) -> None:
    recipe = independent(bench)
    both = threading.Barrier(2, timeout=SOON_S)

    def hook(point: str) -> None:
        if point == "output:write":
            both.wait()
            raise OSError(28, "No space left on device")

    with pytest.raises(BuildError) as caught:
        run(recipe, hook, workers=2)
    assert caught.value.code == "disk-full"
    assert hidden(bench) == []
    assert outputs(bench) == {}


def test_who_waits_for_the_database_hears_that_all_is_over(bench: Bench) -> None:
    """Another process is in the middle of a transaction: it would be waited for for a minute."""
    recipe = independent(bench)
    with open_store() as store:
        store.database.prepare()
        database = store.paths.database
    asked_at: list[float] = []

    def ask() -> None:
        asked_at.append(time.monotonic())
        press_ctrl_c()

    with closing(sqlite3.connect(database, check_same_thread=False, isolation_level=None)) as other:

        def hook(point: str) -> None:
            if point == "journal:record" and not other.in_transaction:
                other.execute("BEGIN IMMEDIATE")
                threading.Timer(0.3, ask).start()

        with pytest.raises(KeyboardInterrupt):
            run(recipe, hook, workers=4)
        assert time.monotonic() - asked_at[0] < 2
        other.execute("ROLLBACK")
    assert hidden(bench) == []
    run(recipe)


@pytest.mark.parametrize("first", [3, 24])
def test_ctrl_c_while_several_are_at_work_leaves_nothing_and_the_next_build_goes_on(
    bench: Bench, first: int
) -> None:
    """At points all along a build, in whichever thread it passes them."""
    recipe = independent(bench, many=2)
    run(recipe, workers=1)
    want = outputs(bench)
    for at in range(first, 1000, 42):
        forget_store(bench)
        passed = 0

        def hook(point: str, at: int = at) -> None:
            nonlocal passed
            passed += 1
            if passed == at:
                press_ctrl_c()

        try:
            run(recipe, hook)
        except KeyboardInterrupt:
            assert hidden(bench) == []
            assert outputs(bench).items() <= want.items()
            run(recipe)
            assert outputs(bench) == want
        else:
            break


def test_a_result_that_is_changed_while_several_are_at_work_is_made_anew(bench: Bench) -> None:
    """The others are stopped, and the plan is made again."""
    recipe = independent(bench)
    run(recipe, workers=1)
    want = outputs(bench)
    shutil.rmtree(bench.folder / "out")
    changed = 0

    def hook(point: str) -> None:
        nonlocal changed
        if point == "output:write" and not changed:
            changed += 1
            blobs = (bench.folder.parent / "store" / "blobs").rglob("*")
            blob = max((path for path in blobs if path.is_file()), key=lambda path: path.stat().st_size)
            data = bytearray(blob.read_bytes())
            data[-1] ^= 1
            blob.chmod(0o644)
            blob.write_bytes(data)

    run(recipe, hook)
    assert changed
    assert outputs(bench) == want
    assert hidden(bench) == []
