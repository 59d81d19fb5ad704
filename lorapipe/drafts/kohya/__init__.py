"""The scripts of kohya-ss/sd-scripts (48d368f): a command line as a recipe.

By default the recipe says what the words of the command mean. ``as_computed`` writes the
one whose numbers are the script's, as far as exact algebra has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from lorapipe.drafts.kohya.arguments import Arguments, parse_command
from lorapipe.drafts.kohya.extracting import extract, slice_dylora
from lorapipe.drafts.kohya.merging import merge
from lorapipe.drafts.kohya.resizing import resize, svd_merge
from lorapipe.drafts.sheet import Sheet
from lorapipe.recipe.draft import Draft

__all__ = ["kohya_recipe"]

_Importer = Callable[[Arguments, Sheet], None]

_IMPORTERS: Mapping[str, _Importer] = MappingProxyType(
    {
        "merge_lora": merge,
        "sdxl_merge_lora": merge,
        "flux_merge_lora": merge,
        "svd_merge_lora": svd_merge,
        "resize_lora": resize,
        "extract_lora_from_models": extract,
        "flux_extract_lora": extract,
        "extract_lora_from_dylora": slice_dylora,
    }
)


def kohya_recipe(words: Sequence[str], folder: Path, here: Path, *, as_computed: bool = False) -> Draft:
    """The recipe of a command line, given as the shell splits it.

    ``folder`` is the one that the recipe will lie in, ``here`` the one that the command's paths
    start from. Raises :class:`~lorapipe.errors.UsageError` for a command that the script itself
    would refuse, or that names no script; :class:`~lorapipe.errors.InputError` where the recipe
    depends on ranks and their file cannot be read.
    """
    arguments = parse_command(words, as_computed=as_computed)
    sheet = Sheet(folder, here)
    sheet.tell(f"From: {arguments.command}")
    _IMPORTERS[arguments.script](arguments, sheet)
    return sheet.draft()
