"""What is fed, and what must hold of it: only named errors, in bounded time, as themselves in text."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from lorapipe.errors import LorapipeError
from lorapipe.formats.inspection import inspect_file
from lorapipe.recipe.parsing import decode, parse
from lorapipe.views.diagnostics import diagnostic

__all__ = ["TARGETS", "read_recipe", "read_safetensors"]


def read_recipe(data: bytes, scratch: Path) -> str:
    """Parse a recipe's bytes as ``validate`` does; the first code of what it raised, or ``read``."""
    try:
        parse(decode(data, "r.yaml"), "r.yaml")
    except LorapipeError as error:
        return _shown(error)
    return "read"


def read_safetensors(data: bytes, scratch: Path) -> str:
    """Open a file's bytes and tell what they are, as ``inspect`` does."""
    path = scratch / "x.safetensors"
    path.write_bytes(data)
    try:
        inspect_file(path)
    except LorapipeError as error:
        return _shown(error)
    return "read"


def _shown(error: LorapipeError) -> str:
    """The error's code; its text is drawn, too, for that a user would see."""
    shown = io.StringIO()
    with redirect_stdout(shown), redirect_stderr(shown):
        text = diagnostic(error)
    assert shown.getvalue() == "", "library code prints nothing"
    assert text, "an error says something"
    assert all(char.isprintable() or char == "\n" for char in text), f"steers a terminal: {text!r}"
    first = getattr(error, "errors", (error,))[0]
    assert isinstance(first, LorapipeError)
    assert type(first) is not LorapipeError, f"no class of its own: {first}"
    return first.code


TARGETS: Mapping[str, Callable[[bytes, Path], str]] = {
    "recipe": read_recipe,
    "safetensors": read_safetensors,
}
