"""A page of HTML taken apart, without a browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

__all__ = ["Page", "numbers_of", "read_page"]

VOID = {"meta", "br"}


@dataclass
class Page(HTMLParser):
    """Every element with its attributes, and the text; ``faults`` are tags that do not fit together."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    raw: dict[str, list[str]] = field(default_factory=lambda: {"style": [], "script": []})
    stack: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if len({name for name, _ in attrs}) != len(attrs):
            self.faults.append(f"<{tag}> has an attribute twice")
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.stack or self.stack.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        inside = self.stack[-1] if self.stack else ""
        self.raw.get(inside, self.texts).append(data)

    def handle_comment(self, data: str) -> None:
        self.faults.append(f"a comment: {data}")

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def attributes(self, name: str) -> list[str | None]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]


def read_page(text: str) -> Page:
    """The page's elements; every tag that is opened is closed in its turn."""
    page = Page()
    page.feed(text)
    page.close()
    assert page.faults == []
    assert page.stack == []
    return page


def numbers_of(value: object) -> set[float]:
    """Every number in what a JSON file holds."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return set()
    if isinstance(value, int | float):
        return {float(value)}
    inner = value.values() if isinstance(value, dict) else value
    assert isinstance(value, dict | list)
    return {number for one in inner for number in numbers_of(one)}  # type: ignore[attr-defined]
