"""The names that a torch file's pickle may use, and what each of them means as data.

For every function that ``torch.save`` makes a pickle call there is one here that makes a
description. A name that is not in the tables is refused; none is ever imported.
(The names: pytorch, ``torch/_weights_only_unpickler.py`` and ``torch/_utils.py``.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

__all__ = [
    "Forbidden",
    "Malformed",
    "Name",
    "Opaque",
    "PickledTensor",
    "Storage",
    "call",
    "fill",
    "look_up",
    "storage",
]


class Malformed(ValueError):  # a verdict for the caller to word, never seen by users
    """The pickle is not one that ``torch.save`` could have written."""


class Forbidden(ValueError):  # as above
    """The pickle names something (the message, ``module.attribute``) that is not data."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage by reference: ``elements`` of ``dtype`` (bytes, where it is ``None``) in entry ``key``."""

    dtype: str | None
    key: str
    elements: int


@dataclass(frozen=True, slots=True)
class PickledTensor:
    """A view on a storage; ``offset`` and ``stride`` count elements. Not yet checked against it."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Name:
    """What GLOBAL leaves on the stack."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Opaque:
    """A value of no interest to weights (a device, some bytes)."""


_DTYPES: Mapping[str, str] = {
    "float64": "F64", "double": "F64", "float32": "F32", "float": "F32", "float16": "F16", "half": "F16",
    "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int64": "I64", "long": "I64", "int32": "I32", "int": "I32", "int16": "I16", "short": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
_STORAGES: Mapping[str, str] = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip

_OTHERS = frozenset({"complex32", "complex64", "complex128", "cfloat", "float8_e4m3fnuz", "float8_e5m2fnuz",
                     "float8_e8m0fnu", "quint8", "qint8", "qint32"})  # fmt: skip
"""Dtypes that are harmless to name; a tensor of one is refused."""


def fill(target: object, pairs: Iterable[tuple[Any, Any]]) -> None:
    """Put items into a dict; a key is hashed, so that it must not be a container of containers."""
    if not isinstance(target, dict):
        raise Malformed("an item for something that is not a dict")
    for key, value in pairs:
        if not isinstance(key, (str, int, float, type(None))):
            raise Malformed("a key that is neither text nor a number")
        if key in target:
            raise Malformed(f"the key {str(key)[:80]!r} twice")
        target[key] = value


def look_up(name: Name) -> Name:
    """The name, if the tables have it; raises :class:`Forbidden` if not."""
    if name in _CALLS or name == _UNTYPED:
        return name
    if name.module == "torch" and (
        name.name in _DTYPES or name.name in _OTHERS or name.name.endswith("Storage")
    ):
        return name
    raise Forbidden(str(name)[:200])


def storage(reference: object) -> Storage:
    """``("storage", class, key, location, elements)``, in old files with a view of it behind."""
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
        raise Malformed("a reference to something that is not a storage")
    _, kind, key, _, elements = reference[:5]
    if reference[5:] not in ((), (None,)):
        raise Malformed("a view of a storage, as torch wrote them before 0.4")
    if not isinstance(kind, Name) or not isinstance(key, str) or type(elements) is not int or elements < 0:
        raise Malformed("a storage without class, key or length")
    dtype = None if kind == _UNTYPED else _dtype_of(kind, _STORAGES)
    return Storage(dtype, key, elements)


def _tensor(held: object, view: tuple[object, ...], dtype: str | None) -> PickledTensor:
    """``view``: offset, shape and stride, as yet of any type."""
    offset, shape, stride = view
    if not isinstance(held, Storage):
        raise Malformed("a tensor without a storage")
    if not (_is_size(offset) and _are_sizes(shape) and _are_sizes(stride)) or len(shape) != len(stride):
        raise Malformed("a tensor without a proper offset, shape and stride")
    dtype = dtype if dtype is not None else held.dtype
    if dtype is None:
        raise Malformed("a tensor without a dtype")
    return PickledTensor(held, dtype, offset, shape, stride)


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 1 << 63


def _are_sizes(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple) and all(map(_is_size, value))


def _rebuild_tensor(held: object, *rest: object) -> PickledTensor:
    """``rest``: offset, shape, stride, requires_grad, backward_hooks, pending operations."""
    if any(rest[5:]):
        raise Malformed("a tensor with a pending negation or conjugation")
    return _tensor(held, rest[:3], None)


def _rebuild_tensor_v3(held: object, *rest: object) -> PickledTensor:
    """``rest``: offset, shape, stride, requires_grad, backward_hooks, dtype, pending operations."""
    dtype = rest[5]
    if any(rest[6:]) or not isinstance(dtype, Name):
        raise Malformed("a tensor without a dtype, or with a pending operation")
    return _tensor(held, rest[:3], _dtype_of(dtype, _DTYPES))


def _dtype_of(name: Name, table: Mapping[str, str]) -> str:
    dtype = table.get(name.name)
    if dtype is None:
        raise Malformed(f"a tensor of {name}, which weights are not made of")
    return dtype


def _ordered_dict(pairs: object = ()) -> dict[Any, Any]:
    # Python 2 gave the items to the constructor as a list of pairs.
    if not isinstance(pairs, (list, tuple)) or not all(isinstance(p, (list, tuple)) for p in pairs):
        raise Malformed("an OrderedDict of something else than pairs")
    made: dict[Any, Any] = {}
    fill(made, ((key, value) for key, value in pairs))
    return made


_UNTYPED = Name("torch.storage", "UntypedStorage")
_CALLS: Mapping[Name, Callable[..., object]] = {
    Name("collections", "OrderedDict"): _ordered_dict,
    Name("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    Name("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    Name("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    Name("torch._utils", "_rebuild_parameter_with_state"): lambda tensor, *_: tensor,
    Name("torch", "Size"): lambda sizes: sizes,
    Name("torch", "device"): lambda *_: Opaque(),
    Name("_codecs", "encode"): lambda *_: Opaque(),
    Name("builtins", "bytearray"): lambda *_: Opaque(),
    Name("__builtin__", "bytearray"): lambda *_: Opaque(),
}
"""Name -> what makes the description."""


def call(name: Name, arguments: tuple[object, ...]) -> object:
    """What a call makes here.

    Raises ``KeyError`` for a name that is no function, ``TypeError`` for arguments that it does not take.
    """
    return _CALLS[name](*arguments)
