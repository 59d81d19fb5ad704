"""``lorapipe steps``: what kinds of steps there are, and what each takes."""

from __future__ import annotations

import click

from lorapipe.cli.completing import kinds
from lorapipe.errors import UsageError
from lorapipe.recipe.language import core_language
from lorapipe.recipe.plugins import find_schemas_of
from lorapipe.recipe.suggest import did_you_mean
from lorapipe.views.language import kind_page, kind_table

__all__ = ["command"]


@click.command("steps")
@click.argument("kind", required=False, shell_complete=kinds)
def command(kind: str | None) -> None:
    """List the kinds of steps, or tell all about one KIND: its options, defaults, an example."""
    language = core_language().extended(find_schemas_of())
    if kind is None:
        click.echo(kind_table(language.kinds.values()))
    elif kind in language.kinds:
        click.echo(kind_page(language.kind(kind)))
    else:
        also = {word: one.name for one in language.kinds.values() for word in one.also_known_as}
        hint = did_you_mean(kind, language.kinds, also) or f"the kinds are {', '.join(language.kinds)}"
        raise UsageError("unknown-kind", f"no step kind '{kind}'", hint=hint)
