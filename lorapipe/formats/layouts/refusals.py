"""What a layout cannot hold, collected so that one message tells all of it."""

from __future__ import annotations

from lorapipe.errors import RecipeError, gathered

__all__ = ["Refusals"]

_SHOWN = 3
"""Modules in a message; the others are counted."""


class Refusals:
    """Modules that cannot be written, by reason, in the order found, each once."""

    __slots__ = ("_found", "_option")

    def __init__(self, option: str) -> None:
        self._option = option
        self._found: dict[tuple[str, str, str], dict[str, None]] = {}

    def say(self, code: str, message: str, module: str, hint: str) -> None:
        """``{n}`` and ``{s}`` in the message become number and plural."""
        self._found.setdefault((code, message, hint), {})[module] = None

    def check(self) -> None:
        """Raise :class:`RecipeError`, or :class:`ManyErrors` of one for each reason."""
        errors = [self._error(*key, list(modules)) for key, modules in self._found.items()]
        if errors:
            raise gathered(errors)

    def _error(self, code: str, message: str, hint: str, modules: list[str]) -> RecipeError:
        counted = message.format(n=len(modules), s="" if len(modules) == 1 else "s")
        more = f" and {len(modules) - _SHOWN} more" if len(modules) > _SHOWN else ""
        shown = ", ".join(modules[:_SHOWN])
        return RecipeError(code, f"{counted}: {shown}{more}", hint=hint, option=self._option)
