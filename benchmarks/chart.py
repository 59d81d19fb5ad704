"""The results as one SVG: bars for each work, lines for cost against work.

Colours come from a style sheet inside the file that has a light and a dark half, so that the
picture reads on either background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.figures import middle

__all__ = ["svg"]

Row = Mapping[str, Any]

_WIDTH, _NAMES, _PANEL, _BAR, _LINE = 980, 240, 247, 175, 22
_PLOT = 150
_STYLE = """\
text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px }
.dim { fill: #59636e }
.ours { font-weight: 600 }
.lorapipe { fill: #0969da } .peer { fill: #d4a72c } .floor { fill: #afb8c1 }
.guess { fill-opacity: .45; stroke-dasharray: 3 2; stroke: #9a6700 }
.axis { stroke: #8c959f; fill: none } .line { stroke: #0969da; fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .dim { fill: #9198a1 }
  .lorapipe { fill: #4493f8 } .peer { fill: #bb8009 } .floor { fill: #656c76 }
  .guess { stroke: #d29922 } .axis { stroke: #656c76 } .line { stroke: #4493f8 }
}
"""
_PANELS = (("cpu", "CPU seconds"), ("wall", "wall seconds"), ("peak", "peak memory, MiB"))


def svg(results: Mapping[str, Any]) -> str:
    """The picture. Rows without figures are left out; what is extrapolated is paler, with a dashed edge."""
    drawn: list[str] = []
    top = 46
    for section in results["works"].values():
        rows = [row for row in section["rows"] if row["samples"]]
        if not rows:
            continue
        draw = _lines if rows[0]["size"] else _bars
        drawn += [_text(0, top, section["title"], "title"), *draw(rows, top + 24)]
        top += 24 + (_PLOT + 90 if rows[0]["size"] else _LINE * (len(rows) + 1) + 34)
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-16 0 {_WIDTH + 32} {top}" role="img">'
    title = "<title>lorapipe and its peers: CPU seconds, wall, peak memory</title>"
    told = _text(
        0,
        14,
        "Shorter is better. Paler, with a dashed edge: extrapolated from a sample; peaks are the sample's.",
        "dim",
    )
    return "\n".join([opened, title, f"<style>\n{_STYLE}</style>", told, *drawn, "</svg>", ""])


def _bars(rows: Sequence[Row], top: float) -> list[str]:
    drawn = []
    for number, row in enumerate(rows):
        ours = " ours" if row["role"] == "lorapipe" else ""
        drawn.append(_text(0, top + _LINE * (number + 1) + 14, row["name"], ours.strip()))
    for panel, (metric, title) in enumerate(_PANELS):
        left = _NAMES + panel * _PANEL
        drawn.append(_text(left, top + 8, title, "dim"))
        values = [middle(row, metric) or 0.0 for row in rows]
        widest = max(values) or 1.0
        for number, (row, value) in enumerate(zip(rows, values, strict=True)):
            y, length = top + _LINE * (number + 1), max(1.5, _BAR * value / widest)
            guess = " guess" if "extrapolated" in row["note"] else ""
            box = f'x="{left}" y="{y:.0f}" width="{length:.1f}" height="16" rx="2"'
            drawn.append(f'<rect class="{row["role"]}{guess}" {box}/>')
            drawn.append(
                _text(
                    left + length + 5,
                    y + 13,
                    f"{value / 2**20:.0f}" if metric == "peak" else _short(value),
                    "dim",
                )
            )
    return drawn


def _lines(rows: Sequence[Row], top: float) -> list[str]:
    modules = [(row["size"][0], middle(row, "cpu") or 0.0) for row in rows]
    sizes = [(row["size"][1] / 1e9, (middle(row, "peak") or 0.0) / 2**20) for row in rows]
    return [
        *_plot(modules, 0, top, ("modules", "CPU seconds")),
        *_plot(sizes, _WIDTH / 2, top, ("GB of input", "peak memory, MiB")),
    ]


def _plot(points: Sequence[tuple[float, float]], left: float, top: float, axes: tuple[str, str]) -> list[str]:
    wide, origin = _WIDTH / 2 - 110, top + 14 + _PLOT
    most_x, most_y = max(x for x, _ in points), max(y for _, y in points) or 1.0
    placed = [(left + 10 + wide * x / most_x, origin - (_PLOT - 24) * y / most_y) for x, y in points]
    drawn = [
        _text(left, top + 8, axes[1], "dim"),
        f'<path class="axis" d="M{left + 10:.0f} {top + 16:.0f}V{origin:.0f}H{left + 40 + wide:.0f}"/>',
        f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)}"/>',
        _text(left + 10 + wide / 2, origin + 34, axes[0], "dim"),
    ]
    for (x, y), (across, up) in zip(placed, points, strict=True):
        drawn.append(f'<circle class="lorapipe" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        drawn.append(_text(x - 8, y - 9, _short(up), "dim"))
        drawn.append(_text(x - 8, origin + 16, _short(across), "dim"))
    return drawn


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _text(x: float, y: float, text: str, kind: str) -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{named}>{escape(text)}</text>'
