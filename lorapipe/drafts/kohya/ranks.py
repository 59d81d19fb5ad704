"""What a script's factors come to, module by module: told by the ranks in the files' headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from lorapipe.formats.files import open_tensors

__all__ = ["halved", "most_common", "patterns", "ranks_of"]

_DOWN = ".lora_down.weight"


def ranks_of(path: Path) -> dict[str, int]:
    """The rank of each module that the scripts see in a file.

    Raises :class:`~lorapipe.errors.InputError` where it cannot be read.
    """
    with open_tensors(path) as source:
        return {
            key.removesuffix(_DOWN): spec.shape[0]
            for key, spec in source.tensors.items()
            if key.endswith(_DOWN) and spec.shape
        }


def halved(ranks: Sequence[Mapping[str, int]]) -> list[dict[str, float]]:
    """By what ``--concat`` multiplies each delta: its rank over the sum of all ranks of the module.

    The script joins the factors and leaves alpha as it was, so alpha / rank falls.
    *Source*: kohya-ss/sd-scripts 48d368f ``networks/merge_lora.py``.
    """
    total = Counter[str]()
    for each in ranks:
        total.update(each)
    return [{module: rank / total[module] for module, rank in each.items()} for each in ranks]


def most_common(factors: Mapping[str, float]) -> float:
    """The factor that most modules have; of equally many the first."""
    return Counter(factors.values()).most_common(1)[0][0] if factors else 1.0


def patterns(factors: Mapping[str, float], usual: float) -> dict[str, float]:
    """Globs for the modules whose factor is not the ``usual`` one: few, and none matches another module.

    >>> patterns({"te_a": 0.5, "te_b": 0.5, "unet_a": 1.0}, 1.0)
    {'te_*': 0.5}
    """
    found: dict[str, float] = {}
    for module, factor in factors.items():
        if factor != usual and not any(_matches(pattern, module) for pattern in found):
            found[_widest(module, factor, factors)] = factor
    return found


def _widest(module: str, factor: float, factors: Mapping[str, float]) -> str:
    """The shortest beginning of a module's name which only modules of its factor have."""
    words = module.split("_")
    beginnings = ("_".join(words[:count]) + "_" for count in range(1, len(words)))
    for beginning in beginnings:
        among = [value for name, value in factors.items() if name.startswith(beginning)]
        if len(among) > 1 and set(among) == {factor}:
            return beginning + "*"
    return module


def _matches(pattern: str, module: str) -> bool:
    return module == pattern or (pattern.endswith("*") and module.startswith(pattern[:-1]))
