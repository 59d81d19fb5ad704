"""A model family: its modules, and every name that files give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from operator import eq
from types import MappingProxyType

from lorapipe.architectures.blocks import Blocks
from lorapipe.architectures.expansion import Features
from lorapipe.architectures.index import Index, Module, Stored
from lorapipe.architectures.table import Naming, Table
from lorapipe.architectures.target import Part, Target
from lorapipe.errors import RecipeError

__all__ = ["Family", "build_family"]

_COUNTED = frozenset({"linear", "conv1x1", "conv3x3", "conv"})


# Compared by identity: there is one value per table.
@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Family:
    """One architecture. Names are looked up in dictionaries, each made when it is first needed."""

    name: str
    title: str
    components: tuple[str, ...]
    metadata: Mapping[str, tuple[str, ...]]
    blocks: Blocks
    _table: Table
    _index: Index

    def __repr__(self) -> str:
        return f"<Family {self.name}: {', '.join(self.components)}>"

    @property
    def variant_of(self) -> str | None:
        """The family that this one is a variant of, with the names of which its own may be confused."""
        return self._table.head.variant_of

    @property
    def namings(self) -> tuple[str, ...]:
        """The namings that :meth:`spell` knows, the usual one first."""
        found = (naming for component in self._table.components.values() for naming in component.namings)
        return tuple(dict.fromkeys(found))

    def group(self, component: str) -> str:
        """What a recipe calls the component: ``te1`` and ``te2`` are both ``te``."""
        return self._table.components[component].group

    @property
    def modelspec(self) -> Mapping[str, str]:
        """What a LoRA's metadata say of the model by the ModelSpec standard: ``architecture``, ..."""
        return self._table.modelspec

    @property
    def tensors(self) -> Mapping[str, Features]:
        """Keys of the reference layout, biases left out, with rows and columns of the published tensors."""
        return {
            module.key: Stored(module, self._table.components[name].stored[0], bias=False).features
            for name in self.components
            for module in self._index.modules(name)
        }

    def targets(self) -> tuple[Target, ...]:
        """All modules, component by component, each in the order of the model."""
        return tuple(module.target for name in self.components for module in self._index.modules(name))

    def lookup(self, stem: str) -> Target | None:
        """The module that a file calls ``stem`` (``.lora_up.weight`` and the like taken off).

        Knows each naming of the family at once; ``None`` for any other name. An
        underscore too many at the end is overlooked, as some files have it.
        """
        return self._index.target(stem) or (self._index.target(stem[:-1]) if stem.endswith("_") else None)

    def spell(self, target: Target, naming: str) -> str | None:
        """The one name of ``target`` in a naming: ``kohya``, ``diffusers``, ``comfy``, ...

        ``kohya`` is what kohya's trainer writes, ``kohya-diffusers`` the same with
        diffusers' path where the two differ, ``diffusers`` the path behind the model's
        name, ``comfy`` the checkpoint's key as ComfyUI reads it. A bias has the name of
        its module. ``None`` where the family has no such naming, or the naming no such module.
        """
        return self._index.spelled(naming).get((target.weight_key, target.parts))

    def on_key(self, naming: str, key: str) -> tuple[Target, ...]:
        """All modules that a naming has on a reference key, in the order of their rows.

        Of a fused tensor those are q, k and v in one naming and the whole in another;
        of a bias's key, the biases of the modules. Empty where the naming has none.
        """
        stored = self._index.place(key)
        if stored is None:
            return ()
        found = self._index.spelled(naming)
        targets = [m.target for m in self._index.on(stored.module.key) if m.place in found]
        beside = (target.bias if stored.bias else target for target in targets)
        return tuple(sorted((t for t in beside if t is not None), key=lambda t: t.parts))

    def place(self, key: str) -> Target | None:
        """Where a checkpoint's tensor belongs, whatever layout the checkpoint has.

        ``key`` is a single file's (``model.diffusion_model.`` and the like before the
        reference key, or nothing) or a folder's, ``<component's folder>/<tensor's name>``.
        The target's ``parts`` are the rows that the tensor has of the reference's, and
        ``transpose`` says that it is the reference's transpose; a bias gives a target of
        kind ``bias``. ``None`` for a tensor that is none of the family's modules (a VAE).
        """
        stored = self._index.place(key)
        return None if stored is None else stored.target

    def features(self, target: Target) -> Features:
        """Output and input features of the module in the published models.

        For telling families apart and for checking what carries no names; a file's
        own shapes are the truth about it. ``None`` where the table claims nothing.
        """
        place = target.weight_key, target.parts
        found = next(m for m in self._index.on(target.weight_key) if m.place == place)
        out, columns = found.leaf.features
        return out, None if target.kind == "bias" else columns

    def names(self, like: str) -> tuple[str, ...]:
        """The spellings among which ``like`` may be meant.

        Those of the namings that begin as ``like`` does, and of no other where there is
        one; else of all that files are written in.
        """
        if any(naming.prefix and like.startswith(naming.prefix) for _, naming in self._namings()):
            return self._index.names(lambda naming: bool(naming.prefix) and like.startswith(naming.prefix))
        written = {n for component in self._table.components.values() for n in component.namings.values()}
        return self._index.names(lambda naming: naming in written)

    def claimed(self, stem: str) -> str | None:
        """The component to which the beginning of a module's name points, if any."""
        pairs = ((c, naming) for c, naming in self._namings() if naming.prefix)
        return next((c for c, naming in pairs if stem.startswith(naming.prefix)), None)

    def behind(self, component: str, name: str) -> str:
        """A name or key without the path to its model: ``model.diffusion_model.``, ``transformer.``."""
        found = self._table.components[component]
        namings = (*found.stored, *found.namings.values(), *found.also)
        paths = {naming.prefix for naming in namings if naming.separator == "." and "." in naming.prefix}
        return name[max((len(path) for path in paths if name.startswith(path)), default=0) :]

    def stored(self, key: str) -> Stored | None:
        """The tensor that a checkpoint calls ``key``, with its published size; see :meth:`place`."""
        return self._index.place(key)

    def places(self) -> set[tuple[str, tuple[Part, ...]]]:
        """Key and parts of every module."""
        return {module.place for name in self.components for module in self._index.modules(name)}

    def module(self, stem: str) -> Module | None:
        """What :meth:`lookup` finds, before it is made a target."""
        return self._index.find(stem) or (self._index.find(stem[:-1]) if stem.endswith("_") else None)

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
            (walk.place(path), module.target)
            for path, module in zip(self._index.paths(component), self._index.modules(component), strict=True)
            if module.leaf.kind in _COUNTED and any(place in f".{path}." for place in inside)
        ]
        return tuple(target for _, target in sorted(found, key=lambda pair: pair[0]))

    def check(self) -> None:
        """Read the whole table, for tests of it: see :meth:`Index.check <.index.Index.check>`."""
        self._index.check()

    def spellings(self) -> Iterator[tuple[str, ...]]:
        """All names of each naming, those that are only understood included; for tests of a table."""
        return (self._index.names(partial(eq, naming)) for _, naming in self._namings())

    def layouts(self) -> Iterator[tuple[str, ...]]:
        """All keys of each layout, biases left out; for tests of a table."""
        return self._index.layouts()

    def _namings(self) -> Iterator[tuple[str, Naming]]:
        for component in self._table.components.values():
            for naming in (*component.namings.values(), *component.also):
                yield component.name, naming


def build_family(table: Table) -> Family:
    """The family of a table; nothing of the table is written out yet."""
    index = Index(table)
    return Family(
        name=table.head.name,
        title=table.head.title,
        components=tuple(table.components),
        metadata=MappingProxyType(dict(table.metadata)),
        blocks=Blocks(table, index),
        _table=table,
        _index=index,
    )
