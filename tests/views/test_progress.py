"""Progress: a bar where somebody watches, lines in a log, nothing when asked to be quiet."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorapipe.build.events import Event, Hashing, Note, OutputReady, Progress, StepDone, StepStarted
from lorapipe.build.run import Options, build
from lorapipe.recipe.parsing import load_recipe
from lorapipe.views.progress import note_lines, progress_view

from ..bench import KEYS, TE, Bench
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


def test_a_terminal_has_a_bar_that_is_gone_at_the_end_and_facts_that_stay() -> None:
    console = terminal()
    with progress_view(console) as tell:
        for event in BUILD:
            tell(event)

    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert "svd-resize: small" in drawn
    assert "small: keeps 94.00% of the energy, at worst 90.00% (x.weight)" in drawn
    # The last thing is to clear the bar's line and to show the cursor again.
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


@pytest.mark.parametrize("width", [40, 80])
def test_a_bar_stays_on_one_line_of_the_terminal(width: int) -> None:
    console = terminal(width)
    with progress_view(console) as tell:
        tell(StepStarted("a" * 200, "merge-into-checkpoint", 1, 1))
        tell(Progress("a" * 200, 1, 2))
        tell(Hashing(Path("x" * 300), 1, 2))

    for part in console.file.getvalue().replace("\x1b[", "\n\x1b[").splitlines():  # type: ignore[attr-defined]
        assert len(part) <= width + 8


def test_quiet_says_nothing() -> None:
    for console in (log(), terminal()):
        with progress_view(console, quiet=True) as tell:
            for event in BUILD:
                tell(event)
        assert text_of(console) == ""


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


@pytest.mark.parametrize(
    ("fact", "value", "lines"),
    [
        ("energy", {"a": 1.0}, ["s: keeps 100.00% of the energy, at worst 100.00% (a)"]),
        ("energy", {}, ["s: energy: {}"]),
        ("error", {"a": 0.02, "b": 0.04}, ["s: misses 3.00% of the norm, at worst 4.00% (b)"]),
        ("left out", {"that rest": 2, "that move": 1}, ["s: left out: 2 that rest, 1 that move"]),
        ("underflow", 0, []),
        ("underflow", 3, ["s: 3 values became zero in the output's dtype"]),
        ("underflow", 1, ["s: 1 value became zero in the output's dtype"]),
        ("other", "x", ["s: other: x"]),
    ],
)
def test_facts_in_words(fact: str, value: object, lines: list[str]) -> None:
    assert note_lines(Note("s", fact, value)) == lines


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


def test_ranks_that_the_data_chose_are_told_as_a_range() -> None:
    assert note_lines(Note("s", "ranks", {"a": 4, "b": 17, "c": 2})) == ["s: ranks from 2 to 17"]
