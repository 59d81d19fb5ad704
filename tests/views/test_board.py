"""The board: what is seen of a build at one moment, on terminals of any size and encoding."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from lorapipe.build.events import Event, Hashing, Note, Planned, Progress, StepDone, StepStarted
from lorapipe.build.run import plan
from lorapipe.build.running.pace import Left
from lorapipe.recipe.parsing import load_recipe
from lorapipe.views.board import Board, left_text
from lorapipe.views.cells import glyphs

from ..bench import Bench
from ..clock import Clock
from .screens import HOSTILE, steering

UTF8, ASCII = glyphs("utf-8"), glyphs("ascii")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock, and a process of 1.2 GB."""
    monkeypatch.setattr("lorapipe.views.board.resident", lambda: 1_200_000_000)
    return Clock()


def drawn(board: Board, width: int = 80, height: int = 24, encoding: str = "utf-8") -> list[str]:
    return [line.plain for line in board.lines(width, height, glyphs(encoding))]


def merging(bench: Bench, clock: Clock) -> Board:
    """A merge that has written a half of its file in ten seconds."""
    bench.lora("a")
    bench.checkpoint()
    recipe = bench.recipe("""
        base: {load: base.safetensors}
        a: {load: a.safetensors}
        model: {merge-into-checkpoint: base, loras: a}
        out: {save: model, to: o.safetensors}
    """)
    board = Board(clock)
    board.tell(Planned(plan(load_recipe(recipe), read=True)))
    for number, (step, kind) in enumerate(
        [("base", "load"), ("a", "load"), ("model", "merge-into-checkpoint")], 1
    ):
        board.tell(StepStarted(step, kind, number, 4))
        board.tell(StepDone(step, "built", 0.0))
    board.tell(StepStarted("out", "save", 4, 4))
    for second in range(11):
        clock.now = float(second)
        board.tell(Progress("out", second * 350_000_000, 7_000_000_000, "bytes"))
    return board


def test_a_merge_at_half_time_is_this_board(bench: Bench, clock: Clock) -> None:
    assert drawn(merging(bench, clock)) == [
        "✓ base   load                   built in 0.0 s",
        "✓ a      load                   built in 0.0 s",
        "✓ model  merge-into-checkpoint  built in 0.0 s",
        "▸ out    save                   ━━━━━━━━━━━━─────────────  50%",
        "3.5 GB of 7 GB, 350 MB/s, 3 of 4 steps, 0:10 so far, 0:10 left",
        "1.2 GB of memory, on cpu",
    ]


def test_on_a_narrow_terminal_it_is_this(bench: Bench, clock: Clock) -> None:
    assert drawn(merging(bench, clock), width=40) == [
        "✓ base   built in 0.0 s",
        "✓ a      built in 0.0 s",
        "✓ model  built in 0.0 s",
        "▸ out    ━━━━━━━━━━━━─────────────  50%",
        "3.5 GB of 7 GB, 350 MB/s, 3 of 4 steps",
        "0:10 so far, 0:10 left",
        "1.2 GB of memory, on cpu",
    ]


def test_where_the_encoding_has_no_such_signs_it_is_ascii(bench: Bench, clock: Clock) -> None:
    lines = drawn(merging(bench, clock), encoding="ascii")
    assert lines[3] == "> out    save                   ############.............  50%"
    assert "\n".join(lines).isascii()


@pytest.mark.parametrize("encoding", ["latin-1", "cp437", "no-such-encoding"])
def test_any_encoding_will_do(bench: Bench, clock: Clock, encoding: str) -> None:
    assert drawn(merging(bench, clock), encoding=encoding)[0].endswith("built in 0.0 s")


def test_before_the_plan_it_is_the_hashing_that_is_shown(clock: Clock) -> None:
    board = Board(clock)
    assert drawn(board) == ["planning, 0:00 so far, 1.2 GB of memory"]
    for second in range(5):
        clock.now = float(second)
        board.tell(Hashing(Path("models/base.safetensors"), second * 1_000_000_000, 8_000_000_000))

    assert drawn(board) == [
        "hashing base.safetensors  ━━━━━━━━━━━━─────────────  50%",
        "4 GB of 8 GB, 1 GB/s, planning, 0:04 so far, 0:04 left, 1.2 GB of memory",
    ]
    board.tell(Hashing(Path("models/base.safetensors"), 8_000_000_000, 8_000_000_000))
    assert drawn(board) == ["planning, 0:04 so far, 1.2 GB of memory"]


def test_of_many_steps_those_about_the_one_at_work_are_shown(clock: Clock) -> None:
    board = Board(clock)
    count = 60
    for number in range(1, count + 1):  # nobody tells the plan: rows come with the steps
        board.tell(StepStarted(f"s{number}", "load", number, count))
        if number < count:
            board.tell(StepDone(f"s{number}", "built", 0.0))

    lines = drawn(board, height=12)
    assert lines[0] == "✓ 52 done"
    assert lines[-2].startswith("▸ s60")


def test_what_comes_next_is_of_more_interest_than_what_was(bench: Bench, clock: Clock) -> None:
    bench.lora("a")
    steps = "".join(f"s{n}: {{scale: {'a' if n == 1 else f's{n - 1}'}, by: 0.5}}\n" for n in range(1, 41))
    recipe = bench.recipe(f"a: {{load: a.safetensors}}\n{steps}o: {{save: s40, to: o.safetensors}}")
    board = Board(clock)
    board.tell(Planned(plan(load_recipe(recipe), read=True)))
    for number, step in enumerate(["a", *(f"s{n}" for n in range(1, 20))], 1):
        board.tell(StepStarted(step, "scale", number, 42))
        board.tell(StepDone(step, "built", 0.0))
    board.tell(StepStarted("s20", "scale", 21, 42))

    lines = drawn(board, height=12)
    assert lines[0] == "✓ 18 done"
    assert [line[:5].rstrip() for line in lines[1:5]] == ["✓ s18", "✓ s19", "▸ s20", "  s21"]
    assert lines[-2] == "  16 more"


def test_a_check_that_does_not_hold_is_marked(clock: Clock) -> None:
    board = Board(clock)
    board.tell(StepStarted("c", "check", 1, 2))
    board.tell(StepDone("c", "does not hold", 0.1))
    board.tell(StepStarted("o", "save", 2, 2))
    board.tell(StepDone("o", "held back", 0.0))
    assert [line[0] for line in drawn(board)[:2]] == ["✗", "✗"]


def sweeping(bench: Bench, ranks: int) -> tuple[Board, list[str]]:
    """A board that knows the plan of a sweep over ranks, and the steps on its schedule."""
    bench.lora("a", rank=24)
    values = ", ".join(map(str, range(1, ranks + 1)))
    steps = """
        a: {load: a.safetensors}
        small: {svd-resize: a, rank: $(rank)}
        out: {save: small, to: out/r$(rank).safetensors}
    """
    head = f"matrix: {{rank: [{values}]}}\n"
    made = plan(load_recipe(bench.recipe(steps, head=head)), read=True)
    board = Board(Clock())
    board.tell(Planned(made))
    return board, [position.step for position in made.schedule]


def through(board: Board, steps: list[str], how: str = "built") -> None:
    for step in steps:
        board.tell(StepStarted(step, "any", 1, 1))
        board.tell(StepDone(step, how, 0.5))


@pytest.mark.parametrize(
    ("ranks", "small", "out"),
    [
        (24, "━━━━━━───────────────────  25%", "━────────────────────────   4%"),
        (200, "─────────────────────────   3%", "─────────────────────────   0%"),
    ],
)
def test_a_sweep_is_a_line_a_step_and_one_for_each_variant_at_work(
    bench: Bench, clock: Clock, ranks: int, small: str, out: str
) -> None:
    board, steps = sweeping(bench, ranks)
    assert len(steps) == 1 + 2 * ranks
    through(board, ["a", *(f"small[rank={rank}]" for rank in range(1, 5))])
    through(board, ["small[rank=5]"], "store")
    through(board, ["out[rank=1]"], "written")
    for rank, done in ((6, 1), (7, 3)):
        board.tell(StepStarted(f"small[rank={rank}]", "svd-resize", rank, 9))
        board.tell(Progress(f"small[rank={rank}]", done, 4))
    board.tell(StepStarted("out[rank=2]", "save", 9, 9))

    assert drawn(board, width=90) == [
        "✓ a      load        built in 0.5 s",
        f"▸ small  svd-resize  {small}  5 of {ranks}",
        "  ▸ rank=6           ━━━━━━───────────────────  25%",
        "  ▸ rank=7           ━━━━━━━━━━━━━━━━━━───────  75%",
        f"▸ out    save        {out}  1 of {ranks}",
        "  ▸ rank=2",
        f"3 at work, 7 of {1 + 2 * ranks} steps, 0:00 so far, 1.2 GB of memory, on cpu",
    ]


def test_a_sweep_that_is_done_says_how_its_variants_came(bench: Bench, clock: Clock) -> None:
    board, _ = sweeping(bench, 24)
    assert drawn(board)[1] == "  small  svd-resize  24 variants"
    through(board, ["a", *(f"small[rank={rank}]" for rank in range(1, 21))])
    through(board, [f"small[rank={rank}]" for rank in range(21, 25)], "store")
    through(board, [f"out[rank={rank}]" for rank in range(1, 24)], "written")
    through(board, ["out[rank=24]"], "held back")
    assert drawn(board)[1:3] == [
        "✓ small  svd-resize  20 built, 4 from the store",
        "✗ out    save        23 written, 1 held back",
    ]


def test_long_values_of_a_variant_are_read_and_what_failed_is_counted(bench: Bench, clock: Clock) -> None:
    bench.lora("a", rank=8)
    head = "matrix: {strength: [0.25, 0.5], components: [unet-only, both]}\n"
    steps = """
        a: {load: a.safetensors}
        s: {scale: a, by: $(strength)}
        o: {save: s, to: $(strength)-$(components).safetensors}
    """
    board = Board(Clock())
    board.tell(Planned(plan(load_recipe(bench.recipe(steps, head=head)), read=True)))
    through(board, ["o[strength=0.25,components=unet-only]"], "held back")
    board.tell(StepStarted("o[strength=0.5,components=unet-only]", "save", 1, 1))
    lines = drawn(board, width=100)
    assert "  ▸ strength=0.5,components=unet-only" in lines
    assert next(line for line in lines if line.startswith("✗ o")).endswith(" 25%  1 of 4, 1 failed")
    assert max(map(len, drawn(board, width=62))) < 62


def test_all_that_is_at_work_is_seen_before_what_is_not(clock: Clock) -> None:
    board = Board(clock)
    for number in range(1, 61):
        board.tell(StepStarted(f"s{number}", "load", number, 60))
        if number not in (3, 30, 57):
            board.tell(StepDone(f"s{number}", "built", 0.0))
    shown = drawn(board, height=9)
    assert [line[:5] for line in shown if line.startswith("▸")] == ["▸ s3 ", "▸ s30", "▸ s57"]
    assert shown[0] == "✓ 55 done"
    assert shown[-1].startswith("3 at work, 57 of 60 steps")


def test_amounts_are_those_of_the_only_step_that_counts_and_the_rate_is_of_all(clock: Clock) -> None:
    board = Board(clock)
    for step in ("one", "two"):
        board.tell(StepStarted(step, "save", 1, 2))
    for second in range(1, 5):
        clock.now = float(second)
        board.tell(Progress("one", second * 1_000_000, 10_000_000, "bytes"))
    assert drawn(board)[-1].startswith("2 at work, 4 MB of 10 MB, 1 MB/s, 0 of 2 steps")
    for second in range(5, 9):
        clock.now = float(second)
        board.tell(Progress("one", second * 1_000_000, 10_000_000, "bytes"))
        board.tell(Progress("two", second * 2_000_000, 20_000_000, "bytes"))
    assert drawn(board)[-1].startswith("2 at work, 3 MB/s, 0 of 2 steps")


def test_a_hundred_percent_is_whole_and_nothing_less(clock: Clock) -> None:
    board = Board(clock)
    board.tell(StepStarted("o", "save", 1, 1))
    board.tell(Progress("o", 9_999_999, 10_000_000, "bytes"))
    assert drawn(board)[0].endswith("─  99%")
    board.tell(Progress("o", 10_000_000, 10_000_000, "bytes"))
    assert drawn(board)[0].endswith("━ 100%")


def test_time_left_says_where_it_may_be_longer() -> None:
    assert left_text(Left(20.4)) == "0:20 left"
    assert left_text(Left(3600.0, least=True)) == "at least 1:00:00 left"


NAMES = st.sampled_from([*HOSTILE.values(), "a", "漢字" * 40, "e\u0301" * 30, "👩‍👩‍👧" * 9, ""])


@st.composite
def stories(draw: st.DrawFn) -> list[Event]:
    """Events in any order, of steps and files of any name."""
    event = st.one_of(
        st.builds(
            Hashing, NAMES.map(lambda n: Path(n.replace("\x00", ""))), st.integers(0, 9), st.integers(0, 9)
        ),
        st.builds(StepStarted, NAMES, NAMES, st.integers(1, 5), st.just(5)),
        st.builds(
            Progress, NAMES, st.integers(0, 9), st.integers(0, 9), st.sampled_from(["bytes", "modules"])
        ),
        st.builds(StepDone, NAMES, NAMES, st.floats(0, 1e6)),
        st.builds(Note, NAMES, NAMES, NAMES),
    )
    return draw(st.lists(event, max_size=12))


@settings(max_examples=60, deadline=None)
@given(stories(), st.integers(10, 130), st.integers(2, 40), st.sampled_from([UTF8, ASCII]))
def test_whatever_is_told_every_line_fits_and_none_steers(
    story: list[Event], width: int, height: int, signs: object
) -> None:
    board = Board(Clock())
    for event in story:
        board.tell(event)
    lines = [line.plain for line in board.lines(width, height, signs)]  # type: ignore[arg-type]

    assert 1 <= len(lines) < max(2, height)
    assert max(map(cell_len, lines)) < width
    assert not [line for line in lines if steering(line)]
    assert not [line for line in lines if line != line.rstrip()]
    if signs is ASCII:
        assert all(line.isascii() for line in lines)
