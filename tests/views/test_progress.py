"""Progress: a bar where somebody watches, lines in a log, nothing when asked to be quiet."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lorapipe.build.events import Event, Hashing, Note, OutputReady, Planned, Progress, StepDone, StepStarted
from lorapipe.build.run import Options, build, plan
from lorapipe.recipe.parsing import load_recipe
from lorapipe.views.progress import Lines, progress_view
from lorapipe.views.said import Teller

from ..bench import KEYS, TE, Bench
from ..clock import Clock
from .screens import HOSTILE, log, steering, terminal, text_of

BUILD: tuple[Event, ...] = (
    Hashing(Path("in/a.safetensors"), 5, 10),
    StepStarted("a", "load", 1, 2),
    StepDone("a", "built", 0.04),
    StepStarted("small", "svd-resize", 2, 2),
    Progress("small", 1, 4),
    Progress("small", 4, 4),
    Note("small", "energy", {"x.weight": 0.9, "y.weight": 0.98}),
    StepDone("small", "store", 1.26),
    OutputReady("out", Path("o.safetensors"), "ab" * 32, 10, written=True),
)


def test_a_log_has_a_line_for_each_step_and_each_fact() -> None:
    console = log()
    with progress_view(console) as tell:
        for event in BUILD:
            tell(event)

    assert text_of(console) == (
        "[1/2] a: built in 0.0 s\n"
        "small: keeps 94.00% of the energy, at worst 90.00% (x.weight)\n"
        "[2/2] small: store in 1.3 s\n"
    )


def test_a_terminal_has_a_board_that_is_gone_at_the_end_and_facts_that_stay() -> None:
    console = terminal()
    with progress_view(console) as tell:
        for event in BUILD:
            tell(event)

    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert "hashing a.safetensors" in drawn or "svd-resize" in drawn
    assert "small: keeps 94.00% of the energy, at worst 90.00% (x.weight)" in drawn
    # The last thing is to clear the board's lines and to show the cursor again.
    assert drawn.rindex("\x1b[2K") > drawn.rindex("small:")
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")


def test_the_cursor_comes_back_when_the_build_is_interrupted() -> None:
    console = terminal()

    def interrupted() -> None:
        with progress_view(console) as tell:
            tell(BUILD[1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")


@pytest.mark.parametrize("how", [{"quiet": True}, {"mode": "none"}, {"mode": "none", "verbose": True}])
def test_quiet_and_none_say_nothing(how: dict[str, Any]) -> None:
    for console in (log(), terminal()):
        with progress_view(console, **how) as tell:
            for event in BUILD:
                tell(event)
        assert text_of(console) == ""


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_where_colours_are_forced_a_log_stays_a_log(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """As GitHub's runners do, whose logs are no terminals."""
    monkeypatch.setenv(variable, "1")
    console = Console(file=io.StringIO(), highlight=False)
    assert console.is_terminal
    for mode in ("auto", "live"):
        with progress_view(console, mode) as tell:
            for event in BUILD:
                tell(event)
    assert not steering(text_of(console))


def test_a_dumb_terminal_is_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    console = terminal()
    with progress_view(console) as tell:
        for event in BUILD:
            tell(event)
    assert text_of(console).startswith("[1/2] a: built in 0.0 s\n")
    assert not steering(text_of(console))


def test_plain_is_plain_on_a_terminal_too() -> None:
    console = terminal()
    with progress_view(console, "plain") as tell:
        for event in BUILD:
            tell(event)
    assert text_of(console).startswith("[1/2] a: built in 0.0 s\n")
    assert not steering(text_of(console))


def test_a_long_step_has_a_line_every_thirty_seconds_and_no_more() -> None:
    clock, lines = Clock(), list[str]()
    tell = Lines(lines.append, Teller(steps=True), clock).tell
    tell(StepStarted("o", "save", 2, 2))
    for second in range(100):
        clock.now = float(second)
        tell(Progress("o", second * 50_000_000, 5_000_000_000, "bytes"))
    clock.now = 100.0
    tell(StepDone("o", "written", 100.0))

    assert lines == [
        "[2/2] o: 30%, 1.5 GB of 5 GB, 50 MB/s, 1:10 left",
        "[2/2] o: 60%, 3 GB of 5 GB, 50 MB/s, 0:40 left",
        "[2/2] o: 90%, 4.5 GB of 5 GB, 50 MB/s, 0:10 left",
        "[2/2] o: written in 100.0 s",
    ]


def test_steps_side_by_side_have_each_its_own_place_and_speed_in_a_log() -> None:
    clock, lines = Clock(), list[str]()
    tell = Lines(lines.append, Teller(steps=True), clock).tell
    tell(StepStarted("o1", "save", 2, 3))
    tell(StepStarted("o2", "save", 3, 3))
    for second in range(1, 62):
        clock.now = float(second)
        tell(Progress("o1", second * 50_000_000, 5_000_000_000, "bytes"))
        tell(Progress("o2", second * 80_000_000, 5_000_000_000, "bytes"))
    tell(StepDone("o1", "written", 61.0))
    tell(StepDone("o2", "written", 62.0))

    assert lines == [
        "[2/3] o1: 30%, 1.5 GB of 5 GB, 50 MB/s, 1:10 left",
        "[3/3] o2: 48%, 2.4 GB of 5 GB, 80 MB/s, 0:32 left",
        "[2/3] o1: 60%, 3 GB of 5 GB, 50 MB/s, 0:40 left",
        "[3/3] o2: 96%, 4.8 GB of 5 GB, 80 MB/s, 0:02 left",
        "[2/3] o1: written in 61.0 s",
        "[3/3] o2: written in 62.0 s",
    ]


def test_hashing_for_long_and_modules_by_what_they_cost_are_told_too() -> None:
    clock, lines = Clock(), list[str]()
    tell = Lines(lines.append, Teller(steps=True), clock).tell
    for second in range(0, 41, 5):
        clock.now = float(second)
        tell(Hashing(Path("m/base.safetensors"), second * 100_000_000, 8_000_000_000))
    tell(StepStarted("s", "svd-resize", 1, 3))
    clock.now = 80.0
    tell(Progress("s", 1, 722, "modules", 0.25))

    assert lines == [
        "hashing base.safetensors: 37%, 3 GB of 8 GB, 100 MB/s, 0:50 left",
        "[1/3] s: 25%, 1 of 722 modules, 2:00 left",
    ]


def test_verbose_adds_keys_decisions_and_states_of_files(bench: Bench) -> None:
    bench.lora("a", rank=8)
    recipe = bench.recipe(
        "a: {load: a.safetensors}\ns: {svd-resize: a, rank: 4}\no: {save: s, to: o.safetensors}"
    )
    console = log()
    with progress_view(console, verbose=True) as tell:
        built = build(load_recipe(recipe), Options(workers=1), listen=tell)
    steps, (output,) = built.plan.steps, built.outputs
    source = steps["a"].source
    assert source is not None
    size = f"{source.size / 1000:.3g} kB"

    lines = text_of(console).splitlines()
    assert lines[0] == f"hashed {source.path}, {size}"
    assert lines[1].startswith("plan: torch ")
    assert lines[2:8] == [
        "a: will run: fused into what uses it",
        f"  {source.path}, {size}, sha256 {source.sha256}, checked",
        "s: will run: no result with this key in the store",
        f"  key {steps['s'].key}",
        f"o: will run: {steps['o'].reason}",
        f"  key {steps['o'].key}",
    ]
    assert f"o: {output.path} is written, {output.size / 1000:.3g} kB, sha256 {output.sha256}" in lines


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_shown_and_not_obeyed(name: str) -> None:
    told: tuple[Event, ...] = (
        Hashing(Path(name.replace("\x00", "")), 1, 2),
        StepStarted("a", name, 1, 1),
        Note("a", "energy", {name: 0.5}),
        Note("a", name, name),
        StepDone("a", "built", 0.1),
    )
    console = log()
    with progress_view(console) as tell:
        for event in told:
            tell(event)
    assert not steering(text_of(console))
    assert len(text_of(console).splitlines()) == 3

    screen = terminal(100)
    with progress_view(screen) as tell:
        for event in told:
            tell(event)
    drawn = screen.file.getvalue()  # type: ignore[attr-defined]
    for theirs in ("\x1b[31m", "\x1b]0", "\x07", "\x9b", "\u202e", "\x08"):
        assert theirs not in drawn


def test_a_whole_build_in_a_log(bench: Bench) -> None:
    bench.lora("a", rank=8)
    recipe = bench.recipe(
        "a: {load: a.safetensors}\ns: {svd-resize: a, rank: 8}\no: {save: s, to: o.safetensors}"
    )
    console = log()

    with progress_view(console) as tell:
        build(load_recipe(recipe), Options(workers=1), listen=tell)

    lines = text_of(console).splitlines()
    assert [line.split(" in ")[0] for line in lines] == [
        "[1/3] a: built",
        f"s: keeps 100.00% of the energy, at worst 100.00% ({KEYS[TE]})",
        "[2/3] s: built",
        "[3/3] o: written",
    ]


SWEEP = """
    a: {load: a.safetensors}
    s: {svd-resize: a, rank: $(rank)}
    o: {save: s, to: $(rank).safetensors}
"""


@pytest.mark.parametrize("verbose", [False, True])
def test_of_many_variants_the_first_is_told_and_what_stands_in_the_table_is_not(
    bench: Bench, verbose: bool
) -> None:
    bench.lora("a", rank=8)
    recipe = bench.recipe(SWEEP, head="matrix: {rank: [2, 4, 6]}\n")
    console = log()
    with progress_view(console, verbose=verbose) as tell:
        tell(Planned(plan(load_recipe(recipe))))
        for rank in (2, 4, 6):
            tell(Note(f"s[rank={rank}]", "energy", {"x": 0.5}))
            tell(Note(f"o[rank={rank}]", "underflow", rank - 2))
        tell(Note("a", "underflow", 1))

    said = [line for line in text_of(console).splitlines() if "zero" in line or "keeps" in line]
    if verbose:
        assert len(said) == 3 + 2 + 1
    else:
        assert said == [
            "o[rank=4]: 2 values became zero in the output's dtype (-v tells it of other variants)",
            "a: 1 value became zero in the output's dtype",
        ]
