"""Two files of weights held against each other: what came, what went, and how far each block moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorapipe.architectures import by_block, family, titles
from lorapipe.build.engines.threads import imported
from lorapipe.build.looking.inspecting import working
from lorapipe.errors import UsageError
from lorapipe.formats.adapters.read import read_adapter
from lorapipe.formats.checkpoints.read import read_checkpoint
from lorapipe.formats.files import open_tensors
from lorapipe.formats.inspection import Inspection, inspect_opened
from lorapipe.plan.differences import UNSET, arrow
from lorapipe.remote.url import Location, Url
from lorapipe.store.digest import sha256_file
from lorapipe.weights.distances import Distance
from lorapipe.weights.inference.checking import names
from lorapipe.weights.inference.reference import whole_shape
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleId

if TYPE_CHECKING:
    from lorapipe.formats.containers.tensor_file import TensorFile
    from lorapipe.formats.folders.tensor_folder import TensorFolder

__all__ = ["Block", "WeightsDiff", "diff_weights"]

Block = tuple[str, str]
"""A component and a block of it."""

_PIECE = 1 << 22


@dataclass(frozen=True, slots=True)
class WeightsDiff:
    """What is otherwise in ``new`` than in ``old``, both of ``kind`` lora or checkpoint.

    ``sha256`` is that of both where they are one and the same; nothing else is then looked at.
    ``distances`` are those of modules, by the name that a file has for them, or of a checkpoint's
    weights by reference key; ``blocks`` says which of them are where, in the order of the models.
    ``added`` and ``removed`` are modules or weights that only one has, ``altered`` says in words what
    of their sort is another (ranks, formats, dtypes, shapes), ``unequal`` names what has no norm and
    other bytes. ``metadata`` are the entries that came, went or are others, in words.
    """

    kind: str
    old: Location
    new: Location
    sha256: str | None = None
    distances: Mapping[str, Distance] = field(default_factory=dict)
    blocks: Mapping[Block, tuple[str, ...]] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    altered: Mapping[str, int] = field(default_factory=dict)
    unequal: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def same_numbers(self) -> bool:
        """Whether both do the same: nothing came or went, and no number is another."""
        moved = any(one.apart for one in self.distances.values())
        return not (moved or self.added or self.removed or self.unequal)

    @property
    def differs(self) -> bool:
        """Whether anything at all is otherwise, a dtype or an entry of the metadata too."""
        return not self.same_numbers or bool(self.altered or self.metadata)


def diff_weights(old: Location, new: Location, family: str | None = None) -> WeightsDiff:
    """Compare two LoRAs, or two checkpoints, whatever their names and layouts; files or folders.

    Raises as the readers do, :class:`~lorapipe.errors.UsageError` ``other-kinds`` for a LoRA and a
    checkpoint, and :class:`~lorapipe.errors.RecipeError` where two LoRAs are of two families.
    """
    with open_tensors(old) as one, open_tensors(new) as two:
        before, after = inspect_opened(one, old, family), inspect_opened(two, new, family)
        kinds = [_kind(found) for found in (before, after)]
        if kinds[0] != kinds[1]:
            raise _other_kinds(old, new, kinds)
        sha256 = _same_file(old, new)
        if sha256 is not None:
            return WeightsDiff(kinds[0], old, new, sha256)
        if kinds[0] == "lora":
            return _adapters(one, two, before, after)
        return _checkpoints(one, two, before, after)


def _kind(found: Inspection) -> str:
    return "lora" if isinstance(found.spec, AdapterSpec) else "checkpoint"


def _other_kinds(old: Location, new: Location, kinds: list[str]) -> UsageError:
    called = {"lora": "a LoRA", "checkpoint": "a checkpoint"}
    return UsageError(
        "other-kinds",
        f"'{old.name}' is {called[kinds[0]]}, '{new.name}' is {called[kinds[1]]}",
        hint="merge the LoRA (lorapipe merge), or extract one from the checkpoint (lorapipe extract), first",
    )


def _same_file(old: Location, new: Location) -> str | None:
    """The sha256 of two files of this machine of the same bytes; reading ends where they part."""
    if isinstance(old, Url) or isinstance(new, Url):
        return None
    if old.is_dir() or new.is_dir() or old.stat().st_size != new.stat().st_size:
        return None
    if not old.samefile(new):
        with old.open("rb", buffering=0) as one, new.open("rb", buffering=0) as two:
            while piece := one.read(_PIECE):
                if piece != two.read(len(piece)):
                    return None
    return sha256_file(old)


def _adapters(
    one: TensorFile | TensorFolder, two: TensorFile | TensorFolder, before: Inspection, after: Inspection
) -> WeightsDiff:
    tool = imported("lorapipe.weights.algebra.distances")  # it needs torch
    assert isinstance(before.spec, AdapterSpec)
    assert isinstance(after.spec, AdapterSpec)
    adapters = read_adapter(one, before.spec), read_adapter(two, after.spec)
    with working() as each:
        sides = [(found.path.name, adapter) for found, adapter in zip((before, after), adapters, strict=True)]
        found: dict[ModuleId, Distance] = tool.distances(*sides, titles(), each=each)
        unequal = tool.other_operators(*adapters, each)
    called = {**{m: str(m) for m in found}, **names(after.spec), **names(before.spec)}
    grouped = by_block(before.spec.family or after.spec.family, found)
    return WeightsDiff(
        "lora",
        before.path,
        after.path,
        distances={called[module]: distance for module, distance in found.items()},
        blocks={block: tuple(called[m] for m in modules) for block, modules in grouped.items()},
        added=tuple(_only(after.spec, before.spec)),
        removed=tuple(_only(before.spec, after.spec)),
        altered=dict(Counter(_altered_modules(before.spec, after.spec))) | _dtypes(before, after),
        unequal=tuple(called[module] for module in unequal),
        metadata=_metadata(before.metadata, after.metadata),
    )


def _dtypes(before: Inspection, after: Inspection) -> dict[str, int]:
    """That factors are of another type, of as many modules as there are."""
    old, new = before.spec, after.spec
    assert isinstance(old, AdapterSpec)
    assert isinstance(new, AdapterSpec)
    return {} if old.dtype == new.dtype else {arrow("dtype", old.dtype, new.dtype): len(new.modules)}


def _only(spec: AdapterSpec, other: AdapterSpec) -> Iterator[str]:
    """The modules of which no row is any module's of the other."""
    rows: dict[tuple[str, str], list[tuple[int, int] | None]] = {}
    for module in other.modules:
        rows.setdefault((module.component, module.key), []).append(module.rows)
    for module, name in names(spec).items():
        theirs = rows.get((module.component, module.key), ())
        if not any(_meet(module.rows, range_) for range_ in theirs):
            yield name


def _meet(one: tuple[int, int] | None, two: tuple[int, int] | None) -> bool:
    return one is None or two is None or (one[0] < two[1] and two[0] < one[1])


def _altered_modules(old: AdapterSpec, new: AdapterSpec) -> Iterator[str]:
    """What of each module that both have is of another sort, in words."""
    for module, known in old.modules.items():
        other = new.modules.get(module)
        if other is None:
            continue
        if known.rank != other.rank:
            yield arrow("rank", known.rank, other.rank)
        forms = ["LoRA" if one.form is None else one.form.name for one in (known, other)]
        if forms[0] != forms[1]:
            yield arrow("format", *forms)


def _checkpoints(
    one: TensorFile | TensorFolder, two: TensorFile | TensorFolder, before: Inspection, after: Inspection
) -> WeightsDiff:
    tool = imported("lorapipe.weights.checkpoints.distances")  # it needs torch
    old, new = before.spec, after.spec
    assert isinstance(old, CheckpointSpec)
    assert isinstance(new, CheckpointSpec)
    sides = read_checkpoint(one, old), read_checkpoint(two, new)
    with working() as each:
        found: dict[str, Distance] = tool.distances(*sides, each=each)
        unequal: tuple[str, ...] = tool.unequal(*sides)
    return WeightsDiff(
        "checkpoint",
        before.path,
        after.path,
        distances=found,
        blocks=_blocks_of(old.family or new.family, found),
        added=tuple(key for key in new.keys if key not in old.keys),
        removed=tuple(key for key in old.keys if key not in new.keys),
        altered=dict(Counter(_altered_weights(old, new))),
        unequal=unequal,
        metadata=_metadata(before.metadata, after.metadata),
    )


def _blocks_of(name: str | None, keys: Mapping[str, object]) -> dict[Block, tuple[str, ...]]:
    """Reference keys by block; those that are none of the family's by the first part of their names."""
    if name is None:
        grouped = by_block(None, (ModuleId("", key) for key in keys))
        return {block: tuple(module.key for module in modules) for block, modules in grouped.items()}
    known = family(name)
    modules: list[ModuleId] = []
    others: dict[Block, list[str]] = {}
    for key in keys:
        target = known.place(key)
        if target is None:
            others.setdefault(("", key.partition(".")[0]), []).append(key)
        else:
            modules.append(ModuleId(target.component, key))
    found = {block: tuple(m.key for m in of) for block, of in by_block(name, modules).items()}
    return found | {block: tuple(of) for block, of in others.items()}


def _altered_weights(old: CheckpointSpec, new: CheckpointSpec) -> Iterator[str]:
    for key, places in old.keys.items():
        others = new.keys.get(key)
        if others is None:
            continue
        dtypes = [spec.tensors[held[0].key].dtype for spec, held in ((old, places), (new, others))]
        if dtypes[0] != dtypes[1]:
            yield arrow("dtype", *dtypes)
        shapes = [whole_shape(spec, key) for spec in (old, new)]
        if shapes[0] != shapes[1]:
            yield arrow("shape", *("x".join(map(str, shape or ())) or "in parts" for shape in shapes))


def _metadata(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    return {
        key: arrow("", old.get(key, UNSET), new.get(key, UNSET)).strip()
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    }
