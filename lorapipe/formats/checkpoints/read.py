"""Checkpoint files: every tensor kept, in its place, and where the reference keys are."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from lorapipe.architectures import Family, Recognised, recognise_checkpoint
from lorapipe.architectures import family as family_named
from lorapipe.errors import InputError
from lorapipe.formats.checkpoints.places import places, reference_key
from lorapipe.formats.checkpoints.quantised import quantisation
from lorapipe.formats.families import ambiguous, contradicted
from lorapipe.formats.problems import Problems, file_name
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import CheckpointSpec

if TYPE_CHECKING:
    from lorapipe.weights.checkpoints.checkpoint import Checkpoint

__all__ = ["read_checkpoint", "read_checkpoint_spec"]


def read_checkpoint_spec(source: TensorSource, family: str | None = None) -> CheckpointSpec:
    """The spec of a checkpoint in any layout of its family: a single file, wrapped or not, or a folder.

    Tensors keep the file's order; none is left out: EMA weights, the VAE, position ids
    and whatever else there is are written again as they are. ``keys`` says where each weight
    of the reference layout is; what is none of the family's goes by its own name, as all
    does where the family is unknown.

    Raises :class:`~lorapipe.errors.RecipeError` ``family-ambiguous`` or ``family-contradicted``,
    :class:`InputError` ``empty-checkpoint`` or ``weight-twice``.
    """
    if not source.tensors:
        raise InputError(
            "empty-checkpoint", "it holds no tensors", hint="is it the right file?", where=file_name(source)
        )
    found = recognise_checkpoint({name: tensor.shape for name, tensor in source.tensors.items()})
    quantised = quantisation(source.tensors, file_name(source))
    known = _family(source, found, family)
    problems = Problems(source)
    keys = places(source.tensors, known, problems)
    problems.check()
    return CheckpointSpec(
        scales=MappingProxyType(quantised.scales),
        companions=quantised.companions,
        frozen=MappingProxyType({reference_key(key, known): how for key, how in quantised.frozen.items()}),
        family=None if known is None else known.name,
        tensors=source.tensors,
        keys=MappingProxyType(keys),
        metadata=source.metadata,
        folder=getattr(source, "folder", None),
    )


def read_checkpoint(source: TensorSource, spec: CheckpointSpec | None = None) -> Checkpoint:
    """The checkpoint as a lazy value: it reads from ``source``, which must stay open."""
    from lorapipe.weights.checkpoints.checkpoint import Checkpoint  # it needs torch

    return Checkpoint(read_checkpoint_spec(source) if spec is None else spec, source)


def _family(source: TensorSource, found: Recognised, wanted: str | None) -> Family | None:
    """What the recipe says, unless the keys are more those of another family."""
    if wanted is None:
        if found.family is None and found.candidates:
            raise ambiguous(source, found, "its keys")
        return None if found.family is None else family_named(found.family)
    given = family_named(wanted)
    other = next((family_named(name) for name in found.candidates), None)
    if _known(source, given) < (1 if other is None else _known(source, other)):
        raise contradicted(source, given, other, "its keys")
    return given


def _known(source: TensorSource, known: Family) -> int:
    return sum(known.place(key) is not None for key in source.tensors)
