"""A model family: its modules, and every name that files give them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from lorapipe.architectures.table import Features, Module, Table, bad_table, parse_table
from lorapipe.architectures.target import Target
from lorapipe.errors import RecipeError

__all__ = ["Family", "build_family", "families", "family", "titles"]

_TABLES = Path(__file__).parent / "tables"


# Compared by identity: there is one value per table.
@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Family:
    """One architecture. All lookups are by dictionary; nothing is computed per name."""

    name: str
    title: str
    components: tuple[str, ...]
    metadata: Mapping[str, tuple[str, ...]]
    prefixes: Mapping[str, str]
    """Prefix of a module name or key -> component."""
    tensors: Mapping[str, Features]
    """Checkpoint key -> rows and columns of the published model's tensor."""
    _table: Table
    _modules: Mapping[Target, Module]
    _stems: Mapping[str, Target]
    _spellings: Mapping[str, Mapping[Target, str]]

    def __repr__(self) -> str:
        return f"<Family {self.name}: {len(self._modules)} modules>"

    @property
    def names(self) -> Iterable[str]:
        """Every spelling that :meth:`lookup` knows."""
        return self._stems.keys()

    @property
    def namings(self) -> tuple[str, ...]:
        """The namings that :meth:`spell` knows, the usual one first."""
        return tuple(self._spellings)

    def group(self, component: str) -> str:
        """What a recipe calls the component: ``te1`` and ``te2`` are both ``te``."""
        return self._table.components[component].group

    def targets(self) -> tuple[Target, ...]:
        """All modules, in the order of the model: down, middle, up, text encoders."""
        return tuple(self._modules)

    def lookup(self, stem: str) -> Target | None:
        """The module that a file calls ``stem`` (``.lora_up.weight`` and the like taken off).

        Knows each naming of the family at once; ``None`` for any other name.
        """
        return self._stems.get(stem)

    def spell(self, target: Target, naming: str) -> str | None:
        """The one name of ``target`` in a naming: ``kohya``, ``diffusers`` or ``kohya-diffusers``.

        ``kohya`` is what kohya's trainer writes (for SDXL the checkpoint's own path),
        ``kohya-diffusers`` the same with diffusers' path where the two differ. ``None``
        where the family has no such naming, or no such module.
        """
        return self._spellings.get(naming, {}).get(target)

    def features(self, target: Target) -> Features:
        """Output and input features of the module in the published models.

        For telling families apart and for checking what carries no names; a file's
        own shapes are the truth about it. ``None`` where the table claims nothing.
        """
        return self._modules[target].features

    def positions(self, model: str, classes: tuple[str, ...]) -> tuple[Target, ...]:
        """The modules that a positional file numbers, in its order.

        ``model`` is ``unet`` or ``text_encoder``; ``classes`` are the class names whose
        Linear (and convolution) layers the file counts, as its metadata lists them, in
        any order. Raises :class:`~lorapipe.errors.RecipeError` for a model or class that
        the family's table does not place.

        Source: cloneofsimo/lora, ``lora_diffusion/lora.py``, ``_find_modules_v2``.
        """
        known = ", ".join(self._table.positions)
        if model not in self._table.positions:
            raise RecipeError(
                "no-positions",
                f"{self.title} has no positional LoRA files of '{model}'",
                hint=f"such files were made for {known}" if known else "such files are older than the family",
            )
        component, walk = self._table.positions[model]
        for name in classes:
            if name not in walk.classes:
                raise RecipeError(
                    "unknown-module-class",
                    f"no place is known for modules of class '{name}' in {self.title}",
                    hint="known are " + ", ".join(sorted(walk.classes)),
                )
        inside = tuple(f".{place}." for name in classes for place in walk.classes[name])
        found = [
            module
            for module in self._modules.values()
            if module.target.component == component and any(p in f".{module.path}." for p in inside)
        ]
        return tuple(module.target for module in sorted(found, key=walk.place))


@cache
def families() -> tuple[str, ...]:
    """Names of all families: one for each table."""
    return tuple(sorted(path.stem for path in _TABLES.glob("*.yaml")))


def titles() -> dict[str, str]:
    """What people call each family: ``sd1`` is ``SD1.x``."""
    return {name: _load(name).title for name in families()}


def family(name: str) -> Family:
    """The family of that name or alias, whatever its case (``sdxl``, ``SD1.5``).

    Raises :class:`~lorapipe.errors.RecipeError`, code ``unknown-family``.
    """
    if name in families():
        return _load(name)
    known = _aliases()
    wanted = name.strip().lower()
    if wanted in known:
        return _load(known[wanted])
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    hint = f"did you mean '{known[near[0]]}'?" if near else "known are " + ", ".join(families())
    raise RecipeError("unknown-family", f"no model family '{name}'", hint=hint, option="family")


@cache
def _aliases() -> dict[str, str]:
    known = {name: name for name in families()}
    for name in families():
        value = _load(name)
        for alias in (value.title, *value._table.aliases):
            if known.setdefault(alias.lower(), name) != name:
                raise bad_table(name, f"the alias {alias!r} is also that of {known[alias.lower()]}")
    return known


@cache
def _load(name: str) -> Family:
    shared = {part.stem: part.read_text(encoding="utf-8") for part in _TABLES.glob("parts/*.yaml")}
    return build_family(parse_table(name, (_TABLES / f"{name}.yaml").read_text(encoding="utf-8"), shared))


def build_family(table: Table) -> Family:
    """Index a table by every name.

    Raises :class:`~lorapipe.errors.LorapipeError`, code ``architecture-table``, when one
    name would mean two modules or one module comes twice.
    """
    modules: dict[Target, Module] = {}
    stems: dict[str, Target] = {}
    spellings: dict[str, dict[Target, str]] = {}
    tensors: dict[str, Features] = {}
    for module in table.modules:
        target = module.target
        if target in modules:
            raise bad_table(table.name, f"{target.key} comes twice")
        modules[target] = module
        tensors[target.key] = _tensor(module)
        component = table.components[target.component]
        for naming, style in component.namings.items():
            spelled = style.spell(module)
            spellings.setdefault(naming, {})[target] = spelled
            _claim(table.name, stems, spelled, target)
        for style in component.also:
            _claim(table.name, stems, style.spell(module), target)
    return Family(
        name=table.name,
        title=table.title,
        components=tuple(table.components),
        metadata=MappingProxyType(dict(table.metadata)),
        prefixes=MappingProxyType(_prefixes(table)),
        tensors=MappingProxyType(tensors),
        _table=table,
        _modules=modules,
        _stems=stems,
        _spellings=spellings,
    )


def _claim(table: str, stems: dict[str, Target], stem: str, target: Target) -> None:
    if stems.setdefault(stem, target) != target:
        raise bad_table(table, f"{stem} would mean both {stems[stem].key} and {target.key}")


def _tensor(module: Module) -> Features:
    out, columns = module.features
    if module.target.transpose:
        out, columns = columns, out
    if module.target.part is not None and out is not None:
        first, last, parts = module.target.part
        out = out * parts // (last - first)
    return out, columns


def _prefixes(table: Table) -> dict[str, str]:
    return {
        prefix: component.name
        for component in table.components.values()
        for prefix in (
            component.prefix,
            *(n.prefix for n in component.namings.values()),
            *(n.prefix for n in component.also),
        )
    }
