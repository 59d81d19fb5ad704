"""What a family says of reference data, as values for a test to compare; nothing is asserted here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import lorapipe.architectures
from lorapipe.architectures import Family, Target
from lorapipe.architectures.expansion import Expansion
from lorapipe.architectures.index import Index
from lorapipe.architectures.table import Table, parse_table

Shared = Callable[[str], Path]
Shapes = dict[str, tuple[int, ...]]
Rows = tuple[tuple[int, int], ...]

TABLES = Path(lorapipe.architectures.__file__).parent / "tables"
WRAPPINGS = ("", "model.diffusion_model.", "diffusion_model.", "net.")
"""What single files of a DiT have before the keys."""


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def shapes_of(shared: Shared, layout: str) -> Shapes:
    """The tensors of a published checkpoint."""
    found = read(shared(f"layouts/{layout}.json"))
    tensors = found["tensors"] if "tensors" in found else found["components"]["transformer"]
    return {key: tuple(shape) for key, (shape, _dtype) in tensors.items()}


def lora_map(shared: Shared, layout: str, section: str = "modules") -> dict[str, list[Any]]:
    """Names of LoRA modules with the key, and more, of what each is."""
    found: dict[str, list[Any]] = read(shared(f"layouts/{layout}.lora-map.json"))[section]
    return found


def told(modules: Mapping[str, list[Any]]) -> dict[str, tuple[str, str, Rows]]:
    """Key, kind and rows of each module as a trainer's map has them."""
    return {
        stem: (key, kind, tuple((first, last) for first, last in rows))
        for stem, (key, _shape, kind, _flag, *rows) in modules.items()
    }


def bound(known: Family, modules: Mapping[str, list[Any]]) -> dict[str, tuple[str, str, Rows] | None]:
    """The same as the family has them."""
    found = {stem: (known.lookup(stem), entry[1][0]) for stem, entry in modules.items()}
    return {
        stem: None if target is None or target.transpose else (target.key, target.kind, target.rows(height))
        for stem, (target, height) in found.items()
    }


def slices(entries: Mapping[str, list[Any]], shapes: Shapes) -> dict[str, tuple[str, tuple[int, int]]]:
    """Key and rows of each diffusers path, the whole tensor where the map gives no rows."""
    return {
        path: (key, tuple(rows[0]) if rows else (0, shapes[key][0])) for path, (key, *rows) in entries.items()
    }


def slices_found(
    known: Family, prefix: str, expected: Mapping[str, tuple[str, tuple[int, int]]]
) -> dict[str, tuple[str, tuple[int, int]] | None]:
    """The same as the family has them under ``prefix``."""
    found = {}
    for path, (_, (first, last)) in expected.items():
        target = known.lookup(prefix + path)
        height = last - first
        found[path] = None if target is None else (target.key, (target.rows(height) or ((0, height),))[0])
    return found


def respelled(known: Family, naming: str, stems: Iterable[str]) -> dict[str, str | None]:
    """What the family calls, in a naming, the module that each of the names means."""
    targets = {stem: known.lookup(stem) for stem in stems}
    return {stem: None if t is None else known.spell(t, naming) for stem, t in targets.items()}


def keys_placed(known: Family, keys: Iterable[str], before: str) -> dict[str, Target | None]:
    """Where the family places each key of its reference layout with something before it."""
    return {key: known.place(before + key) for key in keys}


def whole(targets: Mapping[str, Target | None]) -> dict[str, str | None]:
    """The reference key of each, ``None`` for what is no whole tensor of the family."""
    return {
        name: None if target is None or target.parts or target.transpose else target.key
        for name, target in targets.items()
    }


def rows_in(known: Family, naming: str, key: str, height: int) -> list[int]:
    """Every row of a tensor as often as a naming's modules have it, in their order."""
    found: list[int] = []
    for target in known.on_key(naming, key):
        share = sum(last - first for first, last, _ in target.parts)
        rows = target.rows(height * share // target.parts[0][2]) if target.parts else ((0, height),)
        found += [row for first, last in rows for row in range(first, last)]
    return found


def tenth(names: Iterable[str], seed: int) -> list[str]:
    """A tenth of the names, which one the seed says."""
    ordered = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    return ordered[: max(1, len(ordered) // 10)]


def widths(modules: Mapping[str, list[Any]], stems: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Rows of ``up`` and columns of ``down`` of the modules, as a map has their weights."""
    return {stem: (modules[stem][1][0], modules[stem][1][1]) for stem in stems}


def called_by(known: Family, key: str, value: str) -> bool:
    """Whether the family takes the value of a metadata key for its own."""
    return any(fnmatchcase(value.lower(), pattern) for pattern in known.metadata.get(key, ()))


@cache
def table(name: str) -> Table:
    shared = {path.stem: path.read_text(encoding="utf-8") for path in TABLES.glob("parts/*.yaml")}
    return parse_table(name, (TABLES / f"{name}.yaml").read_text(encoding="utf-8"), shared)


def every_name(name: str) -> set[str]:
    """All that a table knows: names of modules in every naming, tensors in every layout."""
    found = set(Index(table(name)).names(lambda naming: True))
    for component in table(name).components.values():
        expansion = Expansion(table(name), component)
        for naming in component.stored:
            pairs = zip(expansion.tensors(naming.spells), expansion.on(naming.spells), strict=True)
            found |= {naming.spell(tensor) for tensor, on in pairs if on}
    return found


def unsigned(name: str) -> set[str]:
    """The beginnings of names by which the family would not be found."""
    beginnings = {re.split(r"[._]\d+(?:[._]|$)", known, maxsplit=1)[0] for known in every_name(name)}
    return {beginning for beginning in beginnings if not table(name).head.may_know(beginning)}
