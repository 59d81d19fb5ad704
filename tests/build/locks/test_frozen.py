"""Inputs at the lock's word are hashed beside the work, and the build waits for them only where it must."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from lorapipe.build.engines.halt import Halt
from lorapipe.build.locks.frozen import Beside
from lorapipe.errors import InputError
from lorapipe.plan.files import Certainty
from lorapipe.plan.plan import Plan
from lorapipe.remote.state import Version
from lorapipe.store.digest import Hashed, Progress, hash_file

from ...bench import Bench
from ...views.screens import planned

Hash = Callable[[Path, Progress], Hashed]

STEPS = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: 1.0, b: 1.0}}
    out: {save: both, to: o.safetensors}
"""


def assumed(bench: Bench, certainty: Certainty = Certainty.LOCKED, **wrong: str) -> Plan:
    """A plan that takes its inputs at the lock's word; ``wrong`` are digests by step that are not theirs."""
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    made, _ = planned(bench, STEPS, read=True)
    steps = dict(made.steps)
    for name in "ab":
        source = steps[name].source
        assert source is not None
        told = replace(source, certainty=certainty, sha256=wrong.get(name, source.sha256))
        steps[name] = replace(steps[name], source=told)
    return replace(made, steps=steps)


def elsewhere(version: Version, go_on: Progress) -> str:
    raise AssertionError("all inputs are here")


@contextmanager
def beside(plan: Plan, hash_it: Hash = hash_file) -> Iterator[Beside]:
    made = Beside(plan, hash_it, elsewhere, Halt())
    try:
        yield made
    finally:
        made.close()


def wait_for_all(plan: Plan, made: Beside) -> None:
    for step in plan.steps.values():
        if step.source is not None:
            made.wait(step.source)


def test_what_is_right_is_waited_for_and_says_nothing(bench: Bench) -> None:
    plan = assumed(bench)
    with beside(plan) as made:
        wait_for_all(plan, made)
        made.look()


def test_only_what_is_not_checked_is_hashed(bench: Bench) -> None:
    read: list[str] = []

    def note(path: Path, progress: Progress) -> Hashed:
        read.append(path.name)
        return hash_file(path, progress)

    plan = assumed(bench, Certainty.CHECKED)
    with beside(plan, note) as made:
        wait_for_all(plan, made)
    assert read == []
    plan = assumed(bench)
    with beside(plan, note) as made:
        wait_for_all(plan, made)
    assert read == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize(
    ("certainty", "code", "words"),
    [
        (Certainty.LOCKED, "input-changed", "the lock has 000000000000..."),
        (Certainty.PINNED, "sha256-mismatch", "the recipe pins 000000000000..."),
    ],
)
def test_another_file_is_named_with_its_place_and_step(
    bench: Bench, certainty: Certainty, code: str, words: str
) -> None:
    plan = assumed(bench, certainty, b="0" * 64)
    with beside(plan) as made:
        source_a, source_b = plan.steps["a"].source, plan.steps["b"].source
        assert source_a is not None
        assert source_b is not None
        made.wait(source_a)
        with pytest.raises(InputError) as caught:
            made.wait(source_b)
    assert (caught.value.code, caught.value.step) == (code, "b")
    assert words in str(caught.value)
    assert str(bench.folder / "r.yaml") in str(caught.value.where)


def test_looking_waits_for_nothing_and_tells_what_is_known(bench: Bench) -> None:
    go_on, plan = threading.Event(), assumed(bench, a="0" * 64)

    def slowly(path: Path, progress: Progress) -> Hashed:
        assert go_on.wait(10)
        return hash_file(path, progress)

    with beside(plan, slowly) as made:
        made.look()
        go_on.set()
        deadline = time.monotonic() + 10

        def keep_looking() -> None:
            while time.monotonic() < deadline:
                made.look()

        with pytest.raises(InputError, match="the lock has 000000000000"):
            keep_looking()


def test_a_build_that_ends_does_not_wait_for_the_hashing(bench: Bench) -> None:
    reached = threading.Event()

    def endlessly(path: Path, progress: Progress) -> Hashed:
        while True:
            reached.set()
            progress(1, 2)

    made = Beside(assumed(bench), endlessly, elsewhere, Halt())
    assert reached.wait(10)
    started = time.monotonic()
    made.close()
    assert time.monotonic() - started < 1


def test_a_file_that_was_written_to_before_it_was_hashed_is_not_what_the_work_saw(bench: Bench) -> None:
    plan = assumed(bench)
    path = bench.folder / "a.safetensors"

    def late(each: Path, progress: Progress) -> Hashed:
        raw = path.read_bytes()
        time.sleep(0.02)
        path.write_bytes(raw)  # the same bytes, as the lock has them, but not all the time
        return hash_file(each, progress)

    with beside(plan, late) as made:
        source = plan.steps["a"].source
        assert source is not None
        with pytest.raises(InputError, match="changed after it was hashed"):
            made.wait(source)


def test_a_file_that_went_is_named(bench: Bench) -> None:
    plan = assumed(bench)
    (bench.folder / "a.safetensors").unlink()
    source = plan.steps["a"].source
    assert source is not None
    with beside(plan) as made, pytest.raises(InputError, match="no such file"):
        made.wait(source)
