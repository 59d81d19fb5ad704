"""What a check is known to be from headers alone. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Broken", "CheckSpec"]


@dataclass(frozen=True, slots=True)
class Broken:
    """An assertion that does not hold: the option that makes it, what is wrong, where most."""

    option: str
    message: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """What ``check`` asserts of ``count`` modules or tensors, in words, and what headers tell of it.

    ``open`` says that only the data tell whether all of it holds; ``broken`` is what does not,
    whatever the data are.
    """

    asserted: tuple[str, ...]
    count: int
    open: bool = True
    broken: tuple[Broken, ...] = ()
