"""What a reader finds in an adapter's file, before it knows where in a model that belongs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lorapipe.architectures import Target
from lorapipe.formats.forms.form import AdapterForm, Measured
from lorapipe.weights.specs import TensorSpec

__all__ = ["Contents", "Extra", "Found", "Scale"]


# Tuples: a file has a thousand of each, and these are made three times as fast as other values.
class Scale(NamedTuple):
    """What a module's numbers are multiplied by.

    ``alpha`` is the tensor to divide by ``divisor`` (``None`` of a format whose strength is
    not its quotient); ``factor`` one to take as it is, which goes before it; ``config`` the
    whole scale as the adapter's settings have it. With none of them it is 1.
    """

    divisor: int | None = None
    alpha: str | None = None
    factor: str | None = None
    config: float | None = None


class Found(NamedTuple):
    """One module as a file has it.

    ``stem`` is what the file calls it, and ``path`` the name to look up, unless a
    ``target`` says where it belongs (a file that numbers its modules). ``tensors`` are the
    names of its tensors by role. ``up`` is the suffix of that factor, where there is one.
    ``bias`` says that it is what the bias beside the weight gains, ``parameter`` that
    ``path`` is a parameter's whole name, ``transposed`` that the weight is kept ``[in, out]``.
    ``base`` is the tensor that the weight is set to first, where the file has one.
    """

    stem: str
    path: str
    tensors: Mapping[str, str]
    form: AdapterForm
    measured: Measured
    scale: Scale = Scale()
    up: str | None = None
    bias: bool = False
    parameter: bool = False
    transposed: bool = False
    target: Target | None = None
    base: str | None = None


@dataclass(frozen=True, slots=True)
class Extra:
    """A tensor that is no weight: its name in the file, and the spec it is kept with."""

    tensor: str
    spec: TensorSpec


@dataclass(frozen=True, slots=True)
class Contents:
    """What a reader finds in a file.

    ``extras`` go by the name under which they are saved; ``parameters`` are tensors that
    may be whole parameters of the model, by name. ``metadata`` is the file's own less what
    speaks of the dialect. ``family`` is set by a dialect that is of one family.
    """

    modules: tuple[Found, ...]
    extras: Mapping[str, Extra] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    family: str | None = None
