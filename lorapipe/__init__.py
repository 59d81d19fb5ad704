"""lorapipe builds LoRA weights as a build system builds software.

    >>> import lorapipe
    >>> lorapipe.run("recipe.yaml", params={"strength": 0.6})  # doctest: +SKIP

The same algebra as plain calls is here too: see :mod:`lorapipe.api`. Importing this
package loads neither torch nor anything else that is slow.
"""

from __future__ import annotations

from importlib import import_module

from lorapipe.version import __version__

# As typing has it, whose import would double the time until the program hears Ctrl-C.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from lorapipe.api import (
        Weights,
        check,
        combine,
        concat,
        dylora_slice,
        ema,
        extract_lora,
        filter,  # noqa: A004  # the kind's name
        load,
        make_plan,
        merge_into_checkpoint,
        run,
        save,
        scale,
        shuffle,
        svd_resize,
    )
    from lorapipe.build.run import Options
    from lorapipe.errors import LorapipeError, ManyErrors
    from lorapipe.plotting import plot_norms, plot_spectrum

__all__ = [
    "LorapipeError",
    "ManyErrors",
    "Options",
    "Weights",
    "__version__",
    "check",
    "combine",
    "concat",
    "dylora_slice",
    "ema",
    "extract_lora",
    "filter",
    "load",
    "make_plan",
    "merge_into_checkpoint",
    "plot_norms",
    "plot_spectrum",
    "run",
    "save",
    "scale",
    "shuffle",
    "svd_resize",
]

_HOMES = {
    "LorapipeError": "lorapipe.errors",
    "ManyErrors": "lorapipe.errors",
    "Options": "lorapipe.build.run",
    "plot_norms": "lorapipe.plotting",
    "plot_spectrum": "lorapipe.plotting",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "lorapipe.api")), name)
    raise AttributeError(f"module 'lorapipe' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
