"""An adapter as a file, or as PEFT's folder: what will be in it, and what is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import TYPE_CHECKING

from lorapipe.architectures import family
from lorapipe.errors import BuildError
from lorapipe.formats.containers.output import TensorData
from lorapipe.formats.containers.safetensors_writer import library_order
from lorapipe.formats.layouts.model_hashes import model_hashes
from lorapipe.formats.layouts.modelspec import modelspec_metadata
from lorapipe.formats.layouts.peft_settings import CONFIG, adapter_config, adapter_metadata
from lorapipe.formats.layouts.relayout import file_modules
from lorapipe.formats.layouts.table import KEEP, PEFT_BIAS
from lorapipe.weights.each import Each
from lorapipe.weights.inference.filed import FileModule
from lorapipe.weights.inference.metadata import kept_metadata, network_metadata
from lorapipe.weights.inference.output import saved_specs
from lorapipe.weights.specs import AdapterSpec, FileSpec, TensorSpec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter
    from lorapipe.weights.filing.saving import SavedTensor
    from lorapipe.weights.filing.settled import Settled

__all__ = ["PEFT", "AdapterFile", "Wanted", "adapter_file", "adapter_file_spec"]

PEFT = "peft"
"""The layout that is a folder."""

_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How an adapter is to be written: its layout, its dtype (``None`` keeps), the odd ones dense."""

    layout: str = KEEP
    dtype: str | None = None
    dense: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class AdapterFile:
    """An adapter ready to be written.

    ``spec`` holds its tensors in file order; ``metadata`` are those that follow from the
    adapter. ``data`` gives the tensors' bytes, anew for each pass, and tells how many values
    became zero. ``texts`` are the further files of a folder.
    """

    spec: FileSpec
    metadata: Mapping[str, str]
    data: Callable[[Callable[[int], None]], TensorData]
    texts: Mapping[str, bytes] = field(default_factory=dict)

    def hashes(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """The hashes that web UIs know the file by, ``metadata`` being all that it will have.

        It reads the adapter a first time: they stand in the header, before the data.
        """
        return model_hashes(self.spec.tensors, self.data(_unheard), metadata)


def _unheard(count: int) -> None:
    pass


def adapter_file_spec(spec: AdapterSpec, wanted: Wanted) -> FileSpec:
    """What will be in the file or folder. Raises what :func:`~.relayout.file_modules` does."""
    modules = file_modules(spec, wanted.layout, dense=wanted.dense)
    tensors = library_order(saved_specs(spec, wanted.dtype, modules))
    bounded = spec.bounded or any(module.bounded for module in modules)
    return _spec(tensors, wanted, {CONFIG: 0}, bounded=bounded)


def _spec(
    tensors: Mapping[str, TensorSpec], wanted: Wanted, sizes: Mapping[str, int], *, bounded: bool = False
) -> FileSpec:
    if wanted.layout != PEFT:
        return FileSpec(tensors, bounded)
    return FileSpec(tensors, bounded, files={_WEIGHTS: tuple(tensors)}, others=sizes)


def adapter_file(adapter: Adapter, wanted: Wanted, each: Each) -> AdapterFile:
    """The adapter with its data looked at as far as the header depends on them.

    Raises :class:`BuildError` ``nothing-left`` where all modules turned out empty, and what
    :func:`~.relayout.file_modules` and :func:`~lorapipe.weights.filing.settled.settle` do.
    """
    from lorapipe.weights.filing.saving import saved_tensors  # it needs torch

    known = adapter.spec
    modules = file_modules(known, wanted.layout, dense=wanted.dense)
    if not modules and not known.extras:
        raise BuildError("nothing-left", "nothing is left of it: no module changes its weight")
    settled = _settled(adapter, modules, wanted.dtype, each)
    found = [(one.module, one.alpha) for one in settled]
    specs = library_order(saved_specs(known, wanted.dtype, [module for module, _ in found]))
    tensors = {tensor.name: tensor for tensor in saved_tensors(adapter, wanted.dtype, settled)}
    texts = {}
    if wanted.layout == PEFT:
        turned = known.family is None and any(module.transposed for module, _ in found)
        texts[CONFIG] = adapter_config(found, fan_in_fan_out=turned)

    def data(underflow: Callable[[int], None]) -> TensorData:
        return _data([tensors[name] for name in specs], each, underflow)

    spec = _spec(specs, wanted, {name: len(text) for name, text in texts.items()})
    return AdapterFile(spec, _metadata(known, wanted.layout, found), data, texts)


def _settled(adapter: Adapter, modules: Sequence[FileModule], dtype: str | None, each: Each) -> list[Settled]:
    """The modules in their order; PEFT's biases after the weights, by whose strength they are scaled."""
    from lorapipe.weights.filing.settled import settle  # it needs torch

    weights = [module for module in modules if not _is_scaled(module)]
    first = list(each(lambda module: settle(module, adapter, dtype), weights))
    if any(one.unfolded for one in first):
        # All or none: parts of a fused weight that folded and others that did not would join inexactly.
        first = list(each(lambda module: settle(module, adapter, dtype, fold=False), weights))
    strengths = {one.module.stem: one.strength for one in first if one.module.form is None}
    settled = iter(first)
    return [
        settle(module, adapter, dtype, strengths[module.stem]) if _is_scaled(module) else next(settled)
        for module in modules
    ]


def _is_scaled(module: FileModule) -> bool:
    return PEFT_BIAS in {module.words.suffix(role) for role in module.tensors("F32")}


def _metadata(
    spec: AdapterSpec, layout: str, modules: Sequence[tuple[FileModule, float | None]]
) -> dict[str, str]:
    kept = kept_metadata(spec)
    known = None if spec.family is None else family(spec.family)
    told = {**kept, "format": "pt", **modelspec_metadata(known, kept, layout), **network_metadata(modules)}
    return told if layout == PEFT else {**told, **adapter_metadata(modules)}


def _data(tensors: Sequence[SavedTensor], each: Each, underflow: Callable[[int], None]) -> TensorData:
    """The tensors' bytes in this order; those of a module that stand together from one reading."""
    from lorapipe.weights.filing.saving import made  # they need torch
    from lorapipe.weights.tensors import to_bytes

    def make(errand: list[SavedTensor]) -> list[tuple[str, tuple[memoryview]]]:
        rounded = made(errand)
        underflow(sum(one.underflowed for one in rounded))
        return [(t.name, (to_bytes(one.tensor),)) for t, one in zip(errand, rounded, strict=True)]

    errands = (list(together) for _, together in groupby(tensors, key=lambda tensor: tensor.source))
    return chain.from_iterable(each(make, errands))
