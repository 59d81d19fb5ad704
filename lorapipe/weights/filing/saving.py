"""How an adapter's modules become the tensors of a file.

Deviations from kohya-ss/sd-scripts 48d368f, which gets sums of LoRAs wrong:

1. A coefficient acts once: alone in alpha, or as its square root on both factors
   (kohya puts a ratio on both, so that 0.5 comes out as 0.25).
2. alpha follows the rank of the result (kohya's ``--concat`` keeps the first file's, so
   that two LoRAs at full strength come out at half).
3. alpha is float32 whatever the dtype of the factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.borders import inside
from lorapipe.weights.filing.settled import Settled, settle
from lorapipe.weights.inference.filed import own_names
from lorapipe.weights.inference.output import module_specs, saved_dtype
from lorapipe.weights.specs import TensorSpec
from lorapipe.weights.tensors import TORCH_DTYPES, Rounded, round_to

__all__ = ["SavedTensor", "made", "saved_tensors"]


@dataclass(frozen=True, slots=True, eq=False)
class SavedTensor:
    """A tensor to be written: ``role`` of what ``make`` makes, which reads a module once for several."""

    name: str
    spec: TensorSpec
    role: str
    source: Callable[[Mapping[str, TensorSpec]], dict[str, Rounded]]

    def make(self) -> Rounded:
        """The tensor alone. Raises what :func:`saved_tensors` says."""
        return self.source({self.role: self.spec})[self.role]


def saved_tensors(
    adapter: Adapter, dtype: str | None = None, modules: Sequence[Settled] | None = None
) -> Iterator[SavedTensor]:
    """The tensors of a saved adapter, as :func:`~.output.saved_specs` has them, made lazily.

    A plain module is ``alpha / R * up @ down`` to its loader: ``up: [O, R]`` and ``down: [R, I]``,
    or ``[O, R, 1, 1]`` and ``[R, I, kh, kw]``; what its numbers are is in :mod:`~.settled`. One
    of another format has that format's tensors. ``modules`` are those of the file, by default
    the adapter's own under their own stems.

    ``dtype`` is a safetensors name or ``None`` to keep. Extras are cast, not computed: NaN
    in them is theirs. Making raises :class:`~lorapipe.errors.BuildError` ``overflow``,
    ``not-finite`` or ``alpha-out-of-range``, the module named.
    """
    if modules is None:
        modules = [settle(module, adapter, dtype) for module in own_names(adapter.spec)]
    for settled in modules:
        known = settled.module
        for role, spec in module_specs(known, adapter.spec.dtype, dtype).items():
            yield SavedTensor(known.stem + known.words.suffix(role), spec, role, settled.make)
    for name, extra in adapter.extras.items():
        spec = adapter.spec.extras[name]
        target = TensorSpec(saved_dtype(spec, dtype), spec.shape)
        yield SavedTensor(name, target, name, partial(_cast, extra))


def made(tensors: Sequence[SavedTensor]) -> list[Rounded]:
    """Tensors of one module, from one reading of it."""
    together = tensors[0].source({tensor.role: tensor.spec for tensor in tensors})
    return [together[tensor.role] for tensor in tensors]


def _cast(extra: Tensor, specs: Mapping[str, TensorSpec]) -> dict[str, Rounded]:
    ((name, spec),) = specs.items()
    if extra.dtype == TORCH_DTYPES[spec.dtype]:
        return {name: Rounded(extra, 0)}
    with inside(name):
        return {name: round_to(extra, spec.dtype, pass_non_finite=True)}
