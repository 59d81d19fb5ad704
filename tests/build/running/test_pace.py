"""Time left: by bytes where it writes, else by operations, and nothing made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorapipe.build.events import Hashing, Planned, Progress, StepDone, StepStarted
from lorapipe.build.run import Options, build, plan
from lorapipe.build.running.pace import Left, Pace
from lorapipe.recipe.parsing import load_recipe

from ...bench import Bench
from ...clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_bytes_per_second_are_those_of_the_last_seconds(clock: Clock) -> None:
    """A disk's cache takes the first gigabytes at once; what comes after them is the disk's own speed."""
    pace = Pace(clock)
    pace.tell(StepStarted("o", "save", 1, 1))
    pace.tell(Progress("o", 0, 10_000, "bytes"))
    assert pace.rate is None
    for second in range(1, 31):
        clock.now = float(second)
        pace.tell(Progress("o", 4_000 + second * 100, 10_000, "bytes"))

    assert pace.rate == pytest.approx(100, rel=0.1)
    left = pace.of_phase()
    assert left is not None
    assert left.seconds == pytest.approx(30, rel=0.1)


def test_time_goes_on_between_two_events(clock: Clock) -> None:
    pace = Pace(clock)
    pace.tell(StepStarted("s", "svd-resize", 1, 1))
    clock.now = 10.0
    pace.tell(Progress("s", 1, 4, "modules", 0.25))
    assert pace.of_phase() == Left(30.0)
    clock.now = 25.0
    assert pace.of_phase() == Left(15.0)
    clock.now = 99.0
    assert pace.of_phase() == Left(0.0)


def test_modules_count_by_what_they_cost(clock: Clock) -> None:
    pace = Pace(clock)
    pace.tell(StepStarted("s", "svd-resize", 1, 1))
    clock.now = 10.0
    pace.tell(Progress("s", 90, 100, "modules", 0.5))  # the large ones are to come
    assert pace.of_phase() == Left(10.0)


def test_nothing_is_foretold_of_a_moment(clock: Clock) -> None:
    pace = Pace(clock)
    assert (pace.rate, pace.of_phase(), pace.left()) == (None, None, None)
    pace.tell(StepStarted("s", "svd-resize", 1, 1))
    clock.now = 0.5
    pace.tell(Progress("s", 1, 2))
    assert pace.of_phase() is None
    clock.now = 5.0
    pace.tell(Progress("s", 1, 1000))
    assert pace.of_phase() is None


def test_each_file_that_is_hashed_has_a_time_of_its_own(clock: Clock) -> None:
    pace = Pace(clock)
    pace.tell(Hashing(Path("a"), 0, 100))
    clock.now = 4.0
    pace.tell(Hashing(Path("a"), 100, 100))
    pace.tell(Hashing(Path("b"), 0, 1000))
    assert pace.of_phase() is None
    clock.now = 8.0
    pace.tell(Hashing(Path("b"), 200, 1000))
    assert (pace.rate, pace.of_phase(), pace.left()) == (50.0, Left(16.0), None)


def test_a_file_that_is_hashed_beside_a_step_does_not_disturb_its_time(clock: Clock) -> None:
    pace = Pace(clock)
    pace.tell(StepStarted("o", "save", 1, 1))
    for second in range(1, 5):
        clock.now = float(second)
        pace.tell(Progress("o", second * 100, 1000, "bytes"))
    pace.tell(Hashing(Path("a"), 1, 1))
    clock.now = 5.0
    pace.tell(Progress("o", 500, 1000, "bytes"))
    assert (pace.rate, pace.of_phase()) == (100.0, Left(5.0))


def two_files(bench: Bench) -> Planned:
    """``a -> small -> o1``, and ``a -> o2``."""
    bench.lora("a", rank=8)
    recipe = bench.recipe("""
        a: {load: a.safetensors}
        small: {svd-resize: a, rank: 4}
        o1: {save: small, to: o1.safetensors}
        o2: {save: a, to: o2.safetensors}
    """)
    return Planned(plan(load_recipe(recipe), read=True))


def test_what_is_to_come_is_told_by_the_speed_of_what_was_done(bench: Bench, clock: Clock) -> None:
    planned = two_files(bench)
    sizes = {o.step.id: o.spec.nbytes for o in planned.plan.outputs}  # type: ignore[union-attr]  # they are files
    first, second = [p.step for p in planned.plan.schedule if p.step in sizes]
    pace = Pace(clock)
    pace.tell(planned)
    for position in planned.plan.schedule:
        if position.step == second:
            break
        pace.tell(StepStarted(position.step, "any", 1, 4))
        clock.now += 8.0
        if position.step == first:
            pace.tell(Progress(first, sizes[first], sizes[first], "bytes"))
        pace.tell(StepDone(position.step, "written" if position.step == first else "built", 8.0))

    left = pace.left()
    assert left is not None
    assert left.seconds == pytest.approx(8.0 * sizes[second] / sizes[first])


def three_files(bench: Bench) -> tuple[Planned, list[str], int]:
    """Three outputs of one size, the order in which they are written, that size."""
    bench.lora("a", rank=8)
    steps = "\n".join(f"o{n}: {{save: a, to: o{n}.safetensors}}" for n in (1, 2, 3))
    planned = Planned(plan(load_recipe(bench.recipe(f"a: {{load: a.safetensors}}\n{steps}")), read=True))
    sizes = {o.step.id: o.spec.nbytes for o in planned.plan.outputs}  # type: ignore[union-attr]  # they are files
    assert len(set(sizes.values())) == 1
    order = [position.step for position in planned.plan.schedule if position.step in sizes]
    return planned, order, sizes[order[0]]


def test_two_steps_at_work_take_no_longer_than_both_of_them(bench: Bench, clock: Clock) -> None:
    """Each writes a tenth in a second: after five both are at their half, and in five more both are done."""
    planned, (first, second, third), size = three_files(bench)
    pace = Pace(clock)
    pace.tell(planned)
    pace.tell(StepStarted(first, "save", 2, 4))
    pace.tell(StepStarted(second, "save", 3, 4))
    for tick in range(1, 6):
        clock.now = float(tick)
        pace.tell(Progress(first, tick * size // 10, size, "bytes"))
        pace.tell(Progress(second, tick * size // 10, size, "bytes"))

    assert pace.rate == pytest.approx(2 * size / 10, rel=0.01)
    assert (pace.rate_of(first), pace.rate_of(third)) == (pytest.approx(size / 10, rel=0.01), None)
    assert pace.of_phase(first) == pace.of_phase(second)
    phase, left = pace.of_phase(second), pace.left()
    assert phase is not None
    assert phase.seconds == pytest.approx(5.0, rel=0.01)
    assert pace.of_phase() is None  # which of them is not said
    assert left is not None
    assert not left.least
    assert left.seconds == pytest.approx(5.0, rel=0.01)


def test_what_steps_did_side_by_side_is_the_measure_of_the_rest(bench: Bench, clock: Clock) -> None:
    """Two files in ten seconds are one in five, and so long is the third for."""
    planned, (first, second, third), size = three_files(bench)
    pace = Pace(clock)
    pace.tell(planned)
    for number, step in enumerate((first, second), 2):
        pace.tell(StepStarted(step, "save", number, 4))
    for tick in range(1, 11):
        clock.now = float(tick)
        for step in (second, first):
            pace.tell(Progress(step, tick * size // 10, size, "bytes"))
    pace.tell(StepDone(second, "written", 10.0))
    pace.tell(StepDone(first, "written", 10.0))

    left = pace.left()
    assert left is not None
    assert left.seconds == pytest.approx(5.0, rel=0.01)
    pace.tell(StepStarted(third, "save", 4, 4))
    clock.now = 14.0
    pace.tell(Progress(third, size // 10, size, "bytes"))  # alone it is slower
    left = pace.left()
    assert left is not None
    assert left.seconds == pytest.approx(36.0, rel=0.1)


def test_one_step_that_is_done_says_nothing_of_another_at_work(clock: Clock) -> None:
    pace = Pace(clock)
    pace.tell(StepStarted("o", "save", 1, 2))
    pace.tell(StepStarted("s", "svd-resize", 2, 2))
    for tick in range(1, 5):
        clock.now = float(tick)
        pace.tell(Progress("o", tick * 100, 1000, "bytes"))
    pace.tell(StepDone("s", "built", 4.0))
    assert (pace.rate, pace.of_phase()) == (100.0, Left(6.0))


def test_where_a_large_step_of_unknown_speed_is_to_come_it_is_at_least(
    bench: Bench, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = two_files(bench)
    pace = Pace(clock)
    pace.tell(planned)
    pace.tell(StepStarted("small", "svd-resize", 2, 4))
    clock.now = 10.0
    pace.tell(Progress("small", 2, 4, "modules", 0.5))
    left = pace.left()
    assert left is not None
    assert not left.least  # some kilobytes to write do not matter
    assert left.seconds == pytest.approx(10.0, abs=0.01)

    monkeypatch.setattr("lorapipe.build.running.pace._SLOW", {True: 100.0, False: 1.0})
    assert pace.left() == Left(10.0, least=True)


def test_a_result_that_goes_into_the_store_has_that_time_too(bench: Bench, clock: Clock) -> None:
    planned = two_files(bench)
    cost = planned.plan.steps["small"].cost
    pace = Pace(clock)
    pace.tell(planned)
    pace.tell(StepStarted("small", "svd-resize", 2, 4))
    clock.now = 10.0
    pace.tell(Progress("small", 4, 4, "modules", 1.0))
    assert pace.of_phase() == Left(0.0)
    for part in (1, 2):
        clock.now = 10.0 + part
        pace.tell(Progress("small", part * cost.written // 4, cost.written, "stored"))
    assert pace.rate == pytest.approx(cost.written / 4, rel=0.01)
    left = pace.of_phase()
    assert left is not None
    assert left.seconds == pytest.approx(2.0, rel=0.01)


def test_what_is_in_the_store_takes_no_time_and_gives_no_speed(bench: Bench, clock: Clock) -> None:
    bench.lora("a", rank=8)
    recipe = bench.recipe("""
        a: {load: a.safetensors}
        small: {svd-resize: a, rank: 4}
        o1: {save: small, to: o1.safetensors}
    """)
    build(load_recipe(recipe), Options(workers=1))
    (bench.folder / "o1.safetensors").unlink()
    pace = Pace(clock)
    pace.tell(Planned(plan(load_recipe(recipe), read=True)))
    pace.tell(StepStarted("small", "svd-resize", 1, 2))
    clock.now = 5.0
    pace.tell(StepDone("small", "store", 5.0))
    pace.tell(StepStarted("o1", "save", 2, 2))

    assert pace.left() is None
    clock.now = 10.0
    pace.tell(Progress("o1", 50, 100, "bytes"))
    assert pace.left() == Left(5.0)


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("shuffle", "{shuffle: a}"),
        ("svd-resize", "{svd-resize: a, rank: 4}"),
        ("combine", "{combine: {a: 1, b: 1}, method: ties, density: 0.5, rank: 4}"),
        ("extract-lora", "{extract-lora: tuned, base: base, rank: 4}"),
    ],
)
def test_work_is_shared_out_by_the_operations_of_each_module(bench: Bench, kind: str, step: str) -> None:
    """The shares rise by what each module takes, in the order of the work, and end at 1."""
    bench.checkpoint()
    bench.lora("a", rank=8)
    bench.lora("b", rank=8, seed=1)
    recipe = f"""
        base: {{load: base.safetensors}}
        a: {{load: a.safetensors}}
        b: {{load: b.safetensors}}
        tuned: {{merge-into-checkpoint: base, loras: a}}
        m: {step}
        o: {{save: m, to: o.safetensors}}
    """
    heard: list[Progress] = []
    built = build(
        load_recipe(bench.recipe(recipe)),
        Options(workers=1),
        listen=lambda event: heard.append(event) if isinstance(event, Progress) else None,
    )

    cost = built.plan.steps["m"].cost
    shares = [event.part for event in heard if (event.step, event.unit) == ("m", "modules")]
    assert len(cost.items) > 1
    assert sum(cost.items) == cost.flops
    assert shares[: len(cost.items)] == pytest.approx(
        [sum(cost.items[: n + 1]) / cost.flops for n in range(len(cost.items))]
    )
    assert shares[-1] == 1.0
    stored = [event for event in heard if (event.step, event.unit) == ("m", "stored")]
    assert (stored[-1].done, stored[-1].part) == (cost.written, 1.0)


def test_a_part_is_never_more_than_all() -> None:
    assert [Progress("s", 5, 4).part, Progress("s", 1, 0).part, Progress("s", 1, 4).part] == [1.0, 0.0, 0.25]
