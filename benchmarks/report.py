"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.figures import judged, line, middle, ratio, spread
from benchmarks.work import Goal

__all__ = ["markdown"]

Row = Mapping[str, Any]
Section = Mapping[str, Any]

_MIB = 2**20
_NAMES = {
    "wall": "wall",
    "cpu": "CPU seconds",
    "peak": "peak memory",
    "optimum": "error over the optimum",
    "left": "left on disk beside the output",
}

_HEAD = """\
# Side by side

`python -m benchmarks` makes this page. Each program does the same work on the same files, as a whole
process of its own, in turn with the others, round after round. Wall, CPU seconds (user and system) and
peak memory are the kernel's (`wait4`): medians of the rounds, the walls' range in brackets. An **x**
column says how many times lorapipe's a figure is, by the median of the ratios within a round. These
ratios are the claim; the absolute figures belong to this machine.

Files are in the page cache when a run begins. lorapipe's runs begin with an empty store and end when the
file is on disk (`fsync`), as `cp + sync` does and the peers do not. What lorapipe writes goes past the page
cache, `cp` leaves its copy there. Peak memory counts the pages of mapped files; one under 30 MiB is the
harness's own. Errors are against float64 sums made with numpy alone, on a sample of modules; a merge's
values are rounded right when they are the float64 sum rounded to fp16 once. What is left is all that lies
beside the output afterwards; it is shown where a program leaves more than 1 MiB.

![CPU seconds, wall and peak memory as bars](results.svg)
"""


def markdown(results: Mapping[str, Any]) -> str:
    """The whole page; sections in the order of the works."""
    parts = [_HEAD]
    if results["small"]:
        parts.append("**Made with `--small`: these figures test the harness and mean nothing else.**\n")
    parts.append(_facts(results["machine"]))
    for name, section in results["works"].items():
        parts.append(_section(name, section))
        told = [] if results["small"] else _goals(section)
        if told:
            parts.append("| goal | reached | |\n|---|---|---|\n" + "\n".join(told) + "\n")
    return "\n".join(parts)


def _facts(machine: Mapping[str, str]) -> str:
    return "\n".join(
        ["| machine | |", "|---|---|", *(f"| {name} | {value} |" for name, value in machine.items()), ""]
    )


def _section(name: str, section: Section) -> str:
    rows = section["rows"]
    runs = max((len(row["samples"]) for row in rows), default=0)
    when = f"`--only {name}`, {section['date']}, rounds: {runs}"
    noted = f"{when}; load of the machine before: {section['load']:.1f}."
    said = [f"## {section['title']}", "", f"{noted} {section['note']}".strip(), ""]
    said += _scaling(rows) if rows and rows[0]["size"] else _table(rows)
    return "\n".join([*said, ""])


def _table(rows: Sequence[Row]) -> list[str]:
    more = [(title, tell) for name, title, tell in _MORE if any(_shown(row, name) for row in rows)]
    titles = ("", "wall s", "CPU s", "peak MiB", "x wall", "x CPU", "x peak", *(title for title, _ in more))
    lines = [f"| {' | '.join(titles)} |".replace("|  |", "| |"), "|" + "---|" * len(titles)]
    ours = rows[0]
    notes = []
    for row in rows:
        if row["note"] and not row["missing"]:
            notes.append(f"{row['name']}: {row['note']}")
        mark = f" [{len(notes)}]" if notes and notes[-1].startswith(f"{row['name']}: ") else ""
        cells = [f"{_bold(row)}{mark}", _cells(row, ours), *(tell(row) for _, tell in more)]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *(f"[{n}] {note}.  " for n, note in enumerate(notes, 1))]


def _bold(row: Row) -> str:
    return f"**{row['name']}**" if row["role"] == "lorapipe" else str(row["name"])


def _cells(row: Row, ours: Row) -> str:
    if row["missing"]:
        return f"{row['missing']} | | | | | "
    low, high = spread(row, "wall")
    wall, cpu, peak = (middle(row, metric) or 0.0 for metric in ("wall", "cpu", "peak"))
    cells = [f"{_seconds(wall)} ({_seconds(low)}-{_seconds(high)})", _seconds(cpu), f"{peak / _MIB:.0f}"]
    if row is ours:
        return " | ".join([*cells, "1", "1", "1"])
    # The peak of a sample is no measure of the whole.
    metrics = ("wall", "cpu") if "extrapolated" in row["note"] else ("wall", "cpu", "peak")
    times = [_times(ratio(row, ours, metric)) for metric in metrics]
    return " | ".join([*cells, *times, *[""] * (3 - len(times))])


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _times(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _error(row: Row) -> str:
    figures = row["figures"]
    if "error" not in figures:
        return ""
    told = f"{figures['error']:.3e}"
    if "exact" in figures:
        told += f", {100 * figures['exact']:.4f}% rounded right"
    if "optimum" in figures:
        told += f", {figures['optimum']:.5f} of the optimum"
    return told


def _left(row: Row) -> str:
    return f"{row['figures']['left'] / _MIB:.1f}" if "left" in row["figures"] else ""


_MORE = (("error", "error", _error), ("left", "left MiB", _left))
"""Columns that not every work has: the figure, its title, what a row says of it."""


def _shown(row: Row, name: str) -> bool:
    """Whether a figure is worth its column; a store or a journal of some kilobytes is not."""
    return name in row["figures"] and (name != "left" or row["figures"][name] > _MIB)


def _scaling(rows: Sequence[Row]) -> list[str]:
    lines = ["| | modules | input MB | wall s | CPU s | peak MiB |", "|---|---|---|---|---|---|"]
    points = []
    for row in rows:
        modules, size = row["size"]
        if row["missing"]:
            lines.append(f"| {row['name']} | {modules} | {size / 1e6:.0f} | {row['missing']} | | |")
            continue
        wall, cpu, peak = (middle(row, metric) or 0.0 for metric in ("wall", "cpu", "peak"))
        points.append((float(modules), cpu, peak))
        told = f"{_seconds(wall)} | {_seconds(cpu)} | {peak / _MIB:.0f}"
        lines.append(f"| {_bold(row)} | {modules} | {size / 1e6:.0f} | {told} |")
    if len(points) > 2:
        slope, start, gap = line([(modules, cpu) for modules, cpu, _ in points])
        peaks = [peak for *_, peak in points]
        rise = f"CPU seconds = {start:.2f} + {1000 * slope:.2f} for each thousand modules"
        close = f"no run is further from that line than {100 * gap:.0f}% of the largest"
        lines += ["", f"{rise}; {close}. The largest peak is {max(peaks) / min(peaks):.2f} times the least."]
    return lines


def _goals(section: Section) -> list[str]:
    told = []
    for saved in section["goals"]:
        goal = Goal(saved["metric"], saved["limit"], saved["of"], tuple(saved["over"]))
        value = judged(goal, section["rows"])
        words = _NAMES[goal.metric] + (f" over {' or '.join(goal.over)}" if goal.over else "")
        if goal.of != "lorapipe":
            words = f"{goal.of}: {words}"
        if value is None:
            told.append(f"| {words}: {_amount(goal, goal.limit)} | not measured | |")
        else:
            met = "yes" if value <= goal.limit else "**no**"
            told.append(f"| {words}: {_amount(goal, goal.limit)} | {_amount(goal, value)} | {met} |")
    return told


def _amount(goal: Goal, value: float) -> str:
    if goal.over:
        return f"1/{1 / value:.1f}" if goal.limit < 1 else f"{value:.2f}"
    if goal.metric in ("peak", "left"):
        return f"{value / _MIB:.0f} MiB"
    return f"{value:.5f}" if goal.metric == "optimum" else f"{value:.2f} s"
