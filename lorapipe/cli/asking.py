"""Questions to a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lorapipe.drafts.finding import Found
    from lorapipe.drafts.jobs import Chosen

__all__ = ["ask_file", "ask_files", "ask_job", "ask_path"]


def ask_job(titles: Mapping[str, str]) -> str:
    """One of the jobs, by number or name."""
    click.echo("What is to be made?")
    _list(list(titles), list(titles.values()))
    names = dict(zip(map(str, range(1, len(titles) + 1)), titles, strict=True))

    def read(text: str) -> str:
        if (name := names.get(text, text)) not in titles:
            raise click.UsageError(f"one of 1 to {len(titles)}, not '{text}'")
        return name

    return str(click.prompt("Number or name", default="1", value_proc=read))


def ask_files(found: Sequence[Found], what: str) -> list[Chosen]:
    """Some of the files, each with a weight."""
    from lorapipe.errors import UsageError

    def read(text: str) -> list[Chosen]:
        if text == "all":
            return [(one, 1.0) for one in found]
        try:
            terms = [_term(word) for word in text.replace(",", " ").split()]
        except UsageError as error:
            raise click.UsageError(error.message) from error
        return [(_numbered(found, number), weight) for number, weight in terms]

    click.echo(f"{what}:")
    _list([one.given for one in found], [one.said for one in found])
    chosen: list[Chosen] = click.prompt(
        "Which? Numbers, such as 1 2=0.7 for a weight", default="all", value_proc=read
    )
    return chosen


def ask_file(found: Sequence[Found], question: str) -> Found:
    """One of the files."""
    _list([one.given for one in found], [one.said for one in found])
    one: Found = click.prompt(question, default="1", value_proc=lambda text: _numbered(found, text))
    return one


def ask_path(question: str, default: Path) -> Path:
    """A path to write to."""
    return Path(str(click.prompt(question, default=str(default))))


def _term(word: str) -> tuple[str, float]:
    """A number of the list and its weight."""
    from lorapipe.drafts.oneliners import parse_term

    return parse_term(word) if "=" in word else (word, 1.0)


def _numbered(found: Sequence[Found], text: str) -> Found:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= len(found):
        raise click.UsageError(f"a number from 1 to {len(found)}, not '{text}'")
    return found[int(text) - 1]


def _list(names: Sequence[str], notes: Sequence[str]) -> None:
    from lorapipe.views.text import visible

    shown = [visible(name) for name in names]
    width = max(map(len, shown))
    for number, (name, note) in enumerate(zip(shown, notes, strict=True), 1):
        click.echo(f"  {number:>2}  {name:<{width}}  {visible(note)}")
