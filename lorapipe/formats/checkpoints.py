"""Checkpoint files: every tensor kept, in its place, and where the reference keys are."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from lorapipe.architectures import Family, Recognised, recognise_checkpoint
from lorapipe.architectures import family as family_named
from lorapipe.errors import InputError
from lorapipe.formats.families import ambiguous, contradicted
from lorapipe.formats.problems import file_name
from lorapipe.formats.quantised import quantisation
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import CheckpointSpec, Place

if TYPE_CHECKING:
    from lorapipe.weights.checkpoint import Checkpoint

__all__ = ["read_checkpoint", "read_checkpoint_spec"]


def read_checkpoint_spec(source: TensorSource, family: str | None = None) -> CheckpointSpec:
    """The spec of a checkpoint in its family's single-file layout.

    Tensors keep the file's order; none is left out: EMA weights, the VAE, position ids
    and whatever else there is are written again as they are. The reference layout is the
    file's own, so that ``keys`` maps each key to itself.

    Raises :class:`~lorapipe.errors.RecipeError` ``family-ambiguous`` or ``family-contradicted``,
    :class:`InputError` ``empty-checkpoint``.
    """
    if not source.tensors:
        raise InputError(
            "empty-checkpoint", "it holds no tensors", hint="is it the right file?", where=file_name(source)
        )
    found = recognise_checkpoint({name: tensor.shape for name, tensor in source.tensors.items()})
    quantised = quantisation(source.tensors, file_name(source))
    return CheckpointSpec(
        scales=MappingProxyType(quantised.scales),
        companions=quantised.companions,
        frozen=MappingProxyType(quantised.frozen),
        family=_family(source, found, family),
        tensors=source.tensors,
        keys=MappingProxyType({name: (Place(name),) for name in source.tensors}),
        metadata=source.metadata,
        folder=getattr(source, "folder", None),
    )


def read_checkpoint(source: TensorSource, spec: CheckpointSpec | None = None) -> Checkpoint:
    """The checkpoint as a lazy value: it reads from ``source``, which must stay open."""
    from lorapipe.weights.checkpoint import Checkpoint  # it needs torch

    return Checkpoint(read_checkpoint_spec(source) if spec is None else spec, source)


def _family(source: TensorSource, found: Recognised, wanted: str | None) -> str | None:
    """What the recipe says, unless the keys are more those of another family."""
    if wanted is None:
        if found.family is None and found.candidates:
            raise ambiguous(source, found, "its keys")
        return found.family
    given = family_named(wanted)
    other = next((family_named(name) for name in found.candidates), None)
    if _known(source, given) < (1 if other is None else _known(source, other)):
        raise contradicted(source, given, other, "its keys")
    return given.name


def _known(source: TensorSource, known: Family) -> int:
    return sum(known.place(key) is not None for key in source.tensors)
