r"""Recipes in one form: what ``lorapipe fmt`` makes of a text.

    text --read_tree--> Tree --order_steps--> Tree --print_tree--> text

The form is that of the recipes in this repository: two spaces a level, a step's kind first and its
options in their schema's order, the braces of neighbouring steps in one column, quotes where they
are due, lines of up to 100 columns. What is a matter of taste is left: what stands in braces stays
in braces and what stands in lines in lines, line breaks in braces and empty lines (one) stay.

>>> print(format_text("lorapipe: 1\nsteps:\n   a:  {as: 'lora',load: a.pt}  # mine\n"), end="")
lorapipe: 1
steps:
  a: {load: a.pt, as: lora}  # mine
"""

from __future__ import annotations

from lorapipe.errors import RecipeError, gathered
from lorapipe.recipe.formatting.meaning import first_difference
from lorapipe.recipe.formatting.ordering import order_steps
from lorapipe.recipe.formatting.printing import print_tree
from lorapipe.recipe.formatting.reading import read_tree
from lorapipe.recipe.formatting.tree import Tree
from lorapipe.recipe.language import Language, core_language
from lorapipe.recipe.parsing import read
from lorapipe.recipe.source import Span

__all__ = ["format_text"]


def format_text(text: str, file: str = "recipe.yaml", language: Language | None = None) -> str:
    """A recipe's text in its one form: the same recipe, with the same comments.

    It need not be a right recipe, but YAML that a recipe may hold. The line ends are those of its
    first line; a byte order mark is dropped. The result is read again and compared, so that what
    could not be kept is refused, not lost.

    Raises :class:`~lorapipe.errors.RecipeError`, or :class:`~lorapipe.errors.ManyErrors` of them:
    what :func:`~lorapipe.recipe.parsing.read` finds, and ``not-formattable`` with the place.
    """
    document = read(text, file)
    if document.errors:
        raise gathered(document.errors)
    source = document.source
    tree = read_tree(source)
    formatted = print_tree(order_steps(tree, language or core_language()))
    again = read(formatted, file)
    changed = first_difference(document.root, again.root)
    if again.errors or changed is not None:
        span = Span(0, 0, 0, 1) if changed is None else changed.span
        raise RecipeError(
            "not-formattable", "this cannot be kept as it is", hint=_PLAINER, where=source.place(span)
        )
    if _comments(tree) != _comments(read_tree(again.source)):
        raise RecipeError("not-formattable", "its comments cannot be kept", hint=_PLAINER, where=file)
    return (
        formatted.replace("\n", "\r\n")
        if source.text[: len(source.line(0)) + 2].endswith("\r\n")
        else formatted
    )


_PLAINER = "write it plainer"


def _comments(tree: Tree) -> list[str]:
    return sorted(comment.text for comment in tree.comments())
