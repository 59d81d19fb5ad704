"""Recipes as people might write them, comments anywhere: strategies for the laws of ``lorapipe fmt``."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

Draw = Callable[..., object]

WORDS = st.sampled_from(
    [
        "char",
        "out/a b.safetensors",
        "é.pt",
        "no",
        "-",
        "0.70",
        "1e-4",
        "$(w)",
        "",
        "a: b",
        "x # y",
        "*ff*",
        "'",
        "\\",
    ]
)
NOTES = st.sampled_from(
    ["# §1", "#§2", "# §3: {a, b} # ä", "#!§4", "# 'quoted §5", '# "§6', "#   - no item §7", "# §8   "]
)
KEYS = (
    "load",
    "as",
    "svd-resize",
    "rank",
    "conv-rank",
    "description",
    "concat",
    "nonsense",
    "sha256",
    "save",
    "to",
)


def plain(text: str) -> bool:
    return text not in ("", "-", "a: b", "x # y", "*ff*", "'", "\\")


@st.composite
def scalars(draw: Callable[..., str], *, flow: bool) -> str:
    text = draw(WORDS)
    style = draw(st.sampled_from(["plain", "single", "double", "lines", "plain lines"]))
    if style == "plain" and plain(text):
        return text
    if style == "lines":
        return '"' + text.replace("\\", "\\\\") + '\n      and on\\\n        so\n\n      forth"'
    if style == "plain lines" and plain(text) and text:
        return f"{text}\n      goes on\n        and on"
    if style == "double":
        return '"' + text.replace("\\", "\\\\") + '"'
    return "'" + text.replace("'", "''") + "'"


@st.composite
def flows(draw: Callable[..., object], depth: int = 2) -> str:
    """A value in braces or brackets, broken anywhere, with comments at the breaks."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return str(draw(scalars(flow=True)))
    keyed = draw(st.booleans())
    count = draw(st.integers(0, 3))
    items = [
        (f"{key}: " if keyed else "") + str(draw(flows(depth - 1)))
        for key in draw(st.permutations(KEYS))[:count]  # type: ignore[attr-defined]
    ]
    text = "{" if keyed else "["
    for number, item in enumerate(items):
        text += str(draw(gaps())) + item + ("," if number < count - 1 else "")
    return text + str(draw(gaps())) + ("}" if keyed else "]")


@st.composite
def gaps(draw: Callable[..., object]) -> str:
    """What may stand between items in braces."""
    sort = draw(st.integers(0, 9))
    if sort < 6:
        return " " * int(draw(st.integers(1, 2)))  # type: ignore[call-overload]
    note = f" {draw(NOTES)}" if sort > 7 else ""
    own = f"\n   {draw(NOTES)}" if sort == 9 else ""
    return f"{note}{own}\n      "


@st.composite
def blocks(draw: Callable[..., object], depth: int, indent: int) -> list[str]:
    """The lines of a map or list in lines of its own."""
    keyed = draw(st.booleans())
    margin = " " * indent
    lines: list[str] = []
    for key in draw(st.permutations(KEYS))[: draw(st.integers(1, 3))]:  # type: ignore[attr-defined, misc]
        head = f"{margin}{key}:" if keyed else f"{margin}-"
        lines += draw(between())  # type: ignore[arg-type]
        sort = draw(st.integers(0, 5))
        if sort == 0 and depth:
            step = draw(st.integers(1, 4))
            lines += [head + str(draw(behind())), *draw(blocks(depth - 1, indent + step))]  # type: ignore[misc, operator]
        elif sort == 1:
            mark = draw(st.sampled_from(["|", ">", "|-", ">+", "|+", ">2", "|2-"]))
            width = indent + (2 if "2" in str(mark) else int(draw(st.integers(1, 4))))  # type: ignore[call-overload]
            lines += [
                f"{head} {mark}{draw(behind())}",
                *(f"{' ' * width}{word}" for word in ("# text", " more", "end")),
            ]
            lines += [""] * int(draw(st.integers(0, 2)))  # type: ignore[call-overload]
        elif sort == 2:
            lines += [head + str(draw(behind()))]
        else:
            lines += f"{head} {draw(flows())}{draw(behind())}".split("\n")
    return lines


@st.composite
def between(draw: Callable[..., object]) -> list[str]:
    """Lines between items: empty ones, and comments however indented."""
    return [
        "" if empty else " " * int(draw(st.integers(0, 9))) + str(draw(NOTES))  # type: ignore[call-overload]
        for empty in draw(st.lists(st.booleans(), max_size=2))  # type: ignore[attr-defined]
    ]


@st.composite
def behind(draw: Callable[..., object]) -> str:
    return f"  {draw(NOTES)}" if draw(st.integers(0, 3)) == 0 else ""


@st.composite
def recipes(draw: Callable[..., object]) -> str:
    """A text with steps that make no sense, but are YAML as recipes hold it."""
    lines: list[str] = [*draw(between()), "lorapipe: 1" + str(draw(behind()))]  # type: ignore[misc]
    if draw(st.booleans()):
        lines += [f"x-shared: &shared{draw(behind())}", *draw(blocks(2, 2))]  # type: ignore[misc]
    lines += [*draw(between()), "steps:" + str(draw(behind()))]  # type: ignore[misc]
    for name in ("a", "longer", "b2"):
        lines += draw(between())  # type: ignore[arg-type]
        if draw(st.booleans()):
            lines += f"   {name}:{' ' * int(draw(st.integers(1, 3)))}{draw(flows())}{draw(behind())}".split(
                "\n"
            )  # type: ignore[call-overload]
        else:
            lines += [f"   {name}:{draw(behind())}", *draw(blocks(2, 6))]  # type: ignore[misc]
    lines += draw(between())  # type: ignore[arg-type]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    mark = draw(st.sampled_from(["", "", "\ufeff"]))
    return f"{mark}{str(end).join(lines)}{draw(st.sampled_from(['', end]))}"
