"""A file, or a folder of files, that is to be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lorapipe.weights.specs.tensors import TensorSpec

__all__ = ["FileSpec"]


@dataclass(frozen=True, slots=True)
class FileSpec:
    """What ``save`` will write: the tensors in file order.

    ``bounded`` says that sizes are upper bounds, and tensors may be missing: see
    :class:`AdapterSpec`. Of a folder,
    ``files`` maps each file of weights, by relative name, to the tensors in it, one after the
    other in the order of ``tensors``; ``others`` the further files to their bytes, 0 where these
    are not known before. Without ``files`` it is a single file.
    """

    tensors: Mapping[str, TensorSpec]
    bounded: bool = False
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors and further files; at most, where sizes are bounds."""
        return sum(t.nbytes for t in self.tensors.values()) + sum(self.others.values())

    def nbytes_of(self, file: str) -> int:
        """Bytes of the tensors in one of ``files``."""
        return sum(self.tensors[name].nbytes for name in self.files[file])

    def admits(self, found: Mapping[str, TensorSpec]) -> bool:
        """Whether a file of the tensors ``found`` is what this spec foretold."""
        expected = [name for name in self.tensors if name in found] if self.bounded else list(self.tensors)
        if list(found) != expected:
            return False
        return all(
            tensor == self.tensors[name] or (self.bounded and _within(tensor, self.tensors[name]))
            for name, tensor in found.items()
        )


def _within(found: TensorSpec, bound: TensorSpec) -> bool:
    same = found.dtype == bound.dtype and len(found.shape) == len(bound.shape)
    return same and all(n <= most for n, most in zip(found.shape, bound.shape, strict=True))
