"""What every part of the page is made of: tables, pictures, folded parts, facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lorapipe.views.report.markup import Html, Node, cut, tag
from lorapipe.views.report.numerals import Numeral

__all__ = ["Cell", "facts", "folded", "hint", "note", "picture", "section", "table"]

Cell = Node | Numeral


def section(ident: str, title: Node, *content: Node) -> Html:
    """A part of the page that the list at its head leads to."""
    return tag("section", tag("h2", title), *content, id=ident)


def note(*text: Node) -> Html:
    """A sentence of explanation."""
    return tag("p", *text, class_="note")


def facts(pairs: Iterable[tuple[str, Cell]]) -> Html:
    """A few numbers with their names, side by side."""
    cards = (tag("div", tag("dt", told), tag("dd", _words(cell))) for told, cell in pairs)
    return tag("dl", *cards, class_="facts")


def folded(summary: Node, *content: Node) -> Html:
    """Content that is there when it is asked for."""
    return tag("details", tag("summary", summary), *content)


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Html:
    """A table whose first column names its rows; numbers carry their exact value for sorting."""
    body = list(rows)
    numeric = [any(isinstance(row[i], Numeral) for row in body) for i in range(len(headings))]
    head = (
        tag("th", text, scope="col", class_="n" if right else None)
        for text, right in zip(headings, numeric, strict=True)
    )
    made = tag(
        "table",
        tag("caption", cut(caption)),
        tag("thead", tag("tr", *head)),
        tag("tbody", *(_row(row) for row in body)),
    )
    return tag("div", made, class_="scroll", tabindex="0", role="region", aria_label=cut(caption))


def picture(
    ident: str, title: str, told: str, drawn: tuple[float, float, Html], *, fit: bool = False
) -> Html:
    """An SVG of a width, a height and shapes, with its name and description.

    On a narrow screen it is scrolled, or shrinks to ``fit``.
    """
    width, height, shapes = drawn
    head = (tag("title", cut(title), id=f"{ident}-t"), tag("desc", cut(told, 400), id=f"{ident}-d"))
    drawing = tag(
        "svg",
        *head,
        shapes,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        role="img",
        aria_labelledby=f"{ident}-t {ident}-d",
    )
    scrolled = tag("div", drawing, class_="scroll", tabindex="0", role="region", aria_label=cut(title))
    return tag("figure", scrolled, tag("figcaption", cut(told, 400)), class_="fit" if fit else None)


def hint(*lines: str) -> Html:
    """What is told when the pointer rests on a shape: its element ``title``."""
    return tag("title", "\N{MIDDLE DOT}".join(f" {cut(line)} " for line in lines).strip())


def _row(row: Sequence[Cell]) -> Html:
    first, *others = row
    return tag("tr", _cell("th", first, scope="row"), *(_cell("td", cell) for cell in others))


def _cell(kind: str, cell: Cell, **attributes: str) -> Html:
    if isinstance(cell, Numeral):
        exact = None if cell.number is None else repr(cell.number)
        return tag(kind, cell.words, class_="n", data_v=exact, **attributes)
    return tag(kind, cell, **attributes)


def _words(cell: Cell) -> Node:
    if not isinstance(cell, Numeral):
        return cell
    return tag("span", cell.words, data_v=None if cell.number is None else repr(cell.number))
