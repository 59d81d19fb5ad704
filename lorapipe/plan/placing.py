"""Where outputs go: under the recipe's folder or ``--output-root``, under names that hold everywhere."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from lorapipe.errors import RecipeError
from lorapipe.formats.files import names_folder
from lorapipe.plan.files import Folders, check_name
from lorapipe.remote.targets import check_writable
from lorapipe.remote.url import Location, Url, is_url, parse_url

__all__ = ["place_output"]

_LONGEST_KEY = 1_024
"""Bytes of the name of an object. *Source*: the guides of Amazon S3 and of Google Cloud Storage."""

_DRIVE = re.compile(r"[A-Za-z]:")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)


def place_output(name: str, folders: Folders) -> Location:
    """The absolute path of an output: folders without links, its own name as it is.

    A link of that name is replaced by the output, never followed. Under an ``--output-root`` elsewhere
    it is a URL, and may be written as one.

    Raises :class:`~lorapipe.errors.RecipeError`: ``output-escapes`` when it lies outside
    the recipe's folder or ``--output-root``, ``output-is-folder`` or ``output-is-file`` when it
    is to be the other, ``output-holds-recipe``, ``output-under-file`` when what should be one of
    its folders is a file, ``output-not-portable``, ``name-too-long``; and for a URL ``remote-read-only``
    and ``bad-url``.
    """
    if isinstance(folders.outputs, Url):
        return _place_elsewhere(name, folders.outputs)
    root = folders.outputs.resolve()
    if is_url(name):
        raise _escapes(name, root, "--output-root with a URL allows what lies under it")
    check_name(name, root / name, "to")
    _check_portable(name)
    path = (root / name).parent.resolve() / Path(name).name
    if not path.is_relative_to(root) or Path(name).name == "..":
        raise _escapes(name, root, "outputs stay under the recipe's folder; --output-root DIR names another")
    _check_sort(path, name, folders)
    lowest = next(folder for folder in path.parents if folder.exists())
    if not lowest.is_dir():
        raise RecipeError(
            "output-under-file",
            f"'{name}' cannot be in '{lowest.name}', which is a file",
            hint="name another folder",
            option="to",
        )
    return path


def _place_elsewhere(name: str, root: Url) -> Url:
    """An output under a URL. Nobody is asked what is there: to a store of objects a name is just a name."""
    check_writable(root)
    root = root.as_folder()
    below = name
    if is_url(name):
        given = _parsed(name)
        if not given.is_relative_to(root):
            raise _escapes(name, root, _STAY)
        below = given.path[len(root.path) :]
    _check_portable(below)
    inner = posixpath.normpath(below)
    if inner.split("/")[0] in ("", ".", ".."):
        raise _escapes(name, root, _STAY)
    placed = _parsed(f"{root}{inner}{'/' if names_folder(name) else ''}")
    if (size := len(placed.path.encode())) > _LONGEST_KEY:
        message = f"a key of {size} bytes is longer than an object's can be"
        raise RecipeError("name-too-long", message, hint=f"{_LONGEST_KEY} bytes at most", option="to")
    return placed


_STAY = "outputs stay under the URL of --output-root"


def _parsed(text: str) -> Url:
    try:
        return parse_url(text)
    except RecipeError as error:
        error.option = "to"
        raise


def _escapes(name: str, root: Location, hint: str) -> RecipeError:
    return RecipeError("output-escapes", f"'{name}' is outside {root}", hint=hint, option="to")


def _check_portable(name: str) -> None:
    """Refuse what Windows would take for another place than a folder under the recipe's, or for no file.

    A recipe means the same wherever it is run. *Source*: Microsoft, "Naming Files, Paths, and Namespaces".
    """
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    odd = next((part for part in parts if part[-1:] in (" ", ".") or _DEVICE.fullmatch(part)), None)
    if "\\" in name or _DRIVE.match(name):
        hint = "folders are parted by /, and begin at the recipe's"
        raise RecipeError("output-not-portable", f"'{name}' is a path of Windows", hint=hint, option="to")
    if odd is not None:
        message, hint = f"'{odd}' is no name of a file on Windows", "choose another name"
        raise RecipeError("output-not-portable", message, hint=hint, option="to")


def _check_sort(path: Path, name: str, folders: Folders) -> None:
    """See that a file is not to become a folder, nor the other way round, nor the recipe be replaced."""
    if not names_folder(name):
        if path.is_dir():
            hint = f"name a file in it, or '{name}/' to write a folder"
            raise RecipeError("output-is-folder", f"'{name}' is a folder", hint=hint, option="to")
        return
    if path.exists() and not path.is_dir():
        hint = "remove it, or name another folder"
        raise RecipeError("output-is-file", f"'{name}' is a file", hint=hint, option="to")
    if folders.recipe.resolve().is_relative_to(path.resolve()):
        raise RecipeError(
            "output-holds-recipe", f"'{name}' holds the recipe", hint="name a folder of its own", option="to"
        )
