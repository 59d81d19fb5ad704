"""The port of adapter formats: which tensors make a module, and what they mean.

A format is one module beside this one with a ``FORM``, and a row in
:data:`lorapipe.formats.forms.FORMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lorapipe.weights.specs import TensorSpec

if TYPE_CHECKING:
    from torch import Tensor

    from lorapipe.weights.operators.operator import Operator
    from lorapipe.weights.structures.structure import Loaded

__all__ = ["AdapterForm", "Measured", "Misshapen", "Settings", "Specs", "Tensors"]

Specs = Mapping[str, TensorSpec]
"""A module's tensors by role: what stands behind the module's stem in the format's own spelling."""

Tensors = Mapping[str, "Callable[[], Tensor]"]
"""The same tensors' numbers, each read when it is asked for, in its own dtype and shape."""

Settings = Mapping[str, Any]
"""A module's settings in PEFT's config, by PEFT's names (``coft``), its own rank and alpha among them."""


class Misshapen(ValueError):
    """What is wrong with a module's tensors: a kebab-case ``code`` and a text of shapes.

    The reader makes it one of the file's problems.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


# A tuple: a file has a thousand, and these are made three times as fast.
class Measured(NamedTuple):
    """What the headers say of a module: the shape of its weight, and the rank of its delta.

    ``shape`` is ``[O, I, *k]``, or ``[O]`` of a bias or norm. An axis of which a format
    that is no delta knows nothing is 0: OFT's blocks tell O and not I. ``rank`` as in
    :class:`~lorapipe.weights.specs.ModuleSpec`; ``divisor`` is what alpha is divided by
    (``None``: the format has no alpha, or one that is no factor and may be 0). ``cuts``,
    ``grows`` and ``biased`` as in :class:`~lorapipe.weights.specs.Form`; ``name`` is the
    format's where shapes decide it (OFT's blocks of four axes are BOFT's).
    """

    shape: tuple[int, ...]
    rank: int
    divisor: int | None = None
    cuts: tuple[tuple[int, int], ...] = ()
    grows: bool = False
    biased: bool = False
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterForm:
    """A format of adapters.

    ``roles`` are its tensors in the order in which they are written, each with the other
    spellings that are understood: ``{".lora_up.weight": (".lora_B.weight",)}``. A module is
    of the format if it has all of ``needed`` and nothing but ``roles`` and an alpha.
    ``measure`` raises :class:`Misshapen`. ``value`` gives the structure, whose coefficient
    is ``alpha / divisor`` (1 without alpha), or the operator, which takes alpha itself;
    ``additive`` says which. Neither is called with other tensors than ``measure`` has seen.
    ``plain`` says that the structure is two factors, which stack with others: no format of
    its own. ``transposed`` says that it is the transpose of what the weight gains.
    ``configured`` gives the format as PEFT's settings of a module have it, where they say
    more than alpha and rank do (OFT's approximation); it is asked only where there are any.
    What ``fan_in_fan_out`` means is the reader's, not the format's.
    """

    name: str
    roles: Mapping[str, tuple[str, ...]]
    needed: frozenset[str]
    measure: Callable[[Specs], Measured]
    value: Callable[[Tensors, float | None], Loaded | Operator]
    additive: bool = True
    plain: bool = False
    transposed: bool = False
    configured: Callable[[Settings], AdapterForm] | None = None
