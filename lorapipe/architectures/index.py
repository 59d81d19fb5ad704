"""A family's names, each kind of them indexed when a name of that kind is first asked for.

A LoRA has one naming and a checkpoint one layout, while a family has a dozen of each: to
make them all would take longer than to read the file's header. What was asked before
changes no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from lorapipe.architectures.expansion import Expansion, Features, Leaf
from lorapipe.architectures.table import Naming, Table, bad_table
from lorapipe.architectures.target import Part, Target

__all__ = ["Index", "Module", "Stored"]

_UNBIASED = frozenset({"embedding", "parameter"})


class Module(NamedTuple):
    """A module of the family. A tuple, since a family has thousands and a value's class takes longer."""

    component: str
    key: str
    leaf: Leaf

    @property
    def target(self) -> Target:
        leaf = self.leaf
        return Target(self.component, self.key, leaf.parts, leaf.transpose, leaf.kind)

    @property
    def place(self) -> tuple[str, tuple[Part, ...]]:
        """What makes the module that module: its key, and its parts of the tensor."""
        return self.key, self.leaf.parts

    @property
    def whole(self) -> Target:
        """The tensor that the module is a part of, as the reference checkpoint has it."""
        return Target(self.component, self.key, kind=self.leaf.kind)


class Stored(NamedTuple):
    """A tensor of a checkpoint: the module it is of, how it is spelled, and whether it is the bias."""

    module: Module
    naming: Naming
    bias: bool

    @property
    def target(self) -> Target:
        target = self.module.whole if self.naming.spells == "key" else self.module.target
        beside = target.bias if self.bias else target
        assert beside is not None  # names that end in `bias` are found by their weight's
        return beside

    @property
    def features(self) -> Features:
        """Rows and columns of the tensor in the published model."""
        out, columns = self.module.leaf.features
        if self.naming.spells != "key":
            return out, None if self.bias else columns
        if self.module.leaf.transpose:
            out, columns = columns, out
        parts = self.module.leaf.parts
        if parts and out is not None:
            out = out * parts[0][2] // sum(last - first for first, last, _ in parts)
        return out, None if self.bias else columns


class Index:
    """Modules by name (:meth:`find`), tensors by key (:meth:`place`), names by module (:meth:`spelled`)."""

    __slots__ = (
        "_expansions", "_layouts", "_modules", "_on", "_spelled", "_stems", "_stored", "_table", "_targets",
        "_unread",
    )  # fmt: skip

    def __init__(self, table: Table) -> None:
        self._table = table
        self._expansions = {name: Expansion(table, found) for name, found in table.components.items()}
        self._modules: dict[str, tuple[Module, ...]] = {}
        self._on: dict[str, list[Module]] = {}
        self._stems: dict[str, Module] = {}
        self._targets: dict[str, Target] = {}
        self._unread = _by_prefix(_namings(table))
        self._spelled: dict[str, dict[tuple[str, tuple[Part, ...]], str]] = {}
        self._layouts = _by_prefix((c.name, n) for c in table.components.values() for n in c.stored)
        self._stored: list[Mapping[str, Module] | None] = [None] * len(self._layouts)

    def modules(self, component: str) -> tuple[Module, ...]:
        """The component's modules, in the order of its rows."""
        if component not in self._modules:
            found, prefix = self._expansions[component], self._table.components[component].prefix
            pairs = zip(found.names("key"), found.leaves, strict=True)
            self._modules[component] = tuple(Module(component, prefix + key, leaf) for key, leaf in pairs)
        return self._modules[component]

    def on(self, key: str) -> tuple[Module, ...]:
        """The modules that are the tensor of a reference key or rows of it."""
        if not self._on:
            for component in self._table.components:
                for module in self.modules(component):
                    self._on.setdefault(module.key, []).append(module)
        return tuple(self._on.get(key, ()))

    def paths(self, component: str) -> tuple[str, ...]:
        """Each module's diffusers path."""
        return self._expansions[component].names("path")

    def find(self, stem: str) -> Module | None:
        """The module that some naming calls ``stem``."""
        while stem not in self._stems:
            due = next((pair for pair in self._unread if stem.startswith(pair[1].prefix)), None)
            if due is None:
                return None
            self._read(*due)
        return self._stems[stem]

    def target(self, stem: str) -> Target | None:
        """The same as a target; LoRAs of one model have the same names, so that it is kept."""
        if stem not in self._targets:
            module = self.find(stem)
            if module is None:
                return None
            self._targets[stem] = module.target
        return self._targets[stem]

    def names(self, wanted: Callable[[Naming], bool]) -> tuple[str, ...]:
        """Every name of the namings that are wanted, in the table's order."""
        return tuple(
            name
            for component, naming in _namings(self._table)
            if wanted(naming)
            for name, _ in self._names(component, naming)
        )

    def spelled(self, naming: str) -> Mapping[tuple[str, tuple[Part, ...]], str]:
        """The name of each module that a naming has, by key and parts."""
        if naming not in self._spelled:
            self._spelled[naming] = {
                module.place: name
                for component, found in self._table.components.items()
                if naming in found.namings
                for name, module in self._names(component, found.namings[naming])
            }
        return self._spelled[naming]

    def place(self, key: str) -> Stored | None:
        """The tensor that a checkpoint of some layout calls ``key``."""
        for number, (_, naming) in enumerate(self._layouts):
            if not key.startswith(naming.prefix):
                continue
            tensors, name = self._tensors(number), key[len(naming.prefix) :]
            if name in tensors:
                return Stored(tensors[name], naming, bias=False)
            beside = tensors.get(name[: -len("bias")] + "weight") if name.endswith("bias") else None
            if beside is not None and beside.leaf.kind not in _UNBIASED:
                return Stored(beside, naming, bias=True)
        return None

    def layouts(self) -> Iterator[tuple[str, ...]]:
        """Every key of each component in each layout, biases left out."""
        for number, (_, naming) in enumerate(self._layouts):
            yield tuple(naming.prefix + name for name in self._tensors(number))

    def check(self) -> None:
        """Read every naming and layout.

        Raises :class:`~lorapipe.errors.LorapipeError`, code ``architecture-table``, when one
        name would mean two modules or one module comes twice.
        """
        for component in self._table.components:
            seen: set[tuple[object, ...]] = set()
            for module in self.modules(component):
                one = (*module.place, module.leaf.only)
                if one in seen:
                    raise bad_table(self._table.head.name, f"{module.key} comes twice")
                seen.add(one)
        for pair in self._unread:
            self._read(*pair)
        for number in range(len(self._layouts)):
            self._tensors(number)

    def _read(self, component: str, naming: Naming) -> None:
        for name, module in self._names(component, naming):
            known = self._stems.setdefault(name, module)
            if known is not module and known.place != module.place:
                problem = f"{name} would mean both {known.key} and {module.key}"
                raise bad_table(self._table.head.name, problem)
        self._unread = tuple(pair for pair in self._unread if pair != (component, naming))

    def _names(self, component: str, naming: Naming) -> Iterator[tuple[str, Module]]:
        """Each module that a naming has, with its name there."""
        found = self._expansions[component]
        modules = zip(
            found.stems(naming.spells), found.on(naming.spells), self.modules(component), strict=True
        )
        return ((naming.spell(stem), module) for stem, on, module in modules if on)

    def _tensors(self, number: int) -> Mapping[str, Module]:
        """The tensors of a layout by their name behind the prefix.

        On the side of the reference keys a tensor is whole, whichever of its parts are named.
        """
        found = self._stored[number]
        if found is None:
            component, naming = self._layouts[number]
            expansion, modules = self._expansions[component], self.modules(component)
            every = (True,) * len(modules)
            on = every if naming.spells == "key" else expansion.on(naming.spells)
            triples = zip(expansion.tensors(naming.spells), on, modules, strict=True)
            found = {name.removeprefix(naming.without): module for name, is_on, module in triples if is_on}
            self._stored[number] = found
        return found


def _namings(table: Table) -> Iterator[tuple[str, Naming]]:
    for component in table.components.values():
        for naming in (*component.namings.values(), *component.also):
            yield component.name, naming


def _by_prefix(pairs: Iterable[tuple[str, Naming]]) -> tuple[tuple[str, Naming], ...]:
    """The longest prefix first: a bare name is the last resort."""
    return tuple(sorted(dict.fromkeys(pairs), key=lambda pair: -len(pair[1].prefix)))
