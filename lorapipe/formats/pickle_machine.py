"""Reads the pickle of a torch file as data: nothing that it names is imported or called.

A pickle is a program for a small stack machine, and Python's own interpreter of it
calls whatever the program asks for. This one knows the opcodes with which ``torch.save``
describes tensors, and for each name that such a program may use it has a Python function
of its own that makes a description; any other name is refused. (Opcodes: CPython,
``Lib/pickletools.py``; the names: pytorch, ``torch/_weights_only_unpickler.py``.)

Bounds, since a few bytes of pickle can ask for much: the number of steps, the length of
a number, and no container ever hashed or compared, which for a container of containers
can take forever.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

__all__ = ["PICKLE_LIMIT", "STEP_LIMIT", "Forbidden", "Malformed", "PickledTensor", "Storage", "load"]

PICKLE_LIMIT = 16 << 20
"""Bytes of pickle that are read: a checkpoint of 2,500 tensors has 0.4 MB."""

STEP_LIMIT = 2_000_000
"""Steps of the machine: about 40 for each tensor."""

_NUMBER_LIMIT = 64


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
class _Name:
    """What GLOBAL leaves on the stack."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class _Opaque:
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


def load(data: bytes, start: int = 0) -> tuple[Any, int]:
    """The value of the pickle at ``start``, and where it ends.

    Dicts, lists, tuples, numbers and texts come as themselves, tensors as
    :class:`PickledTensor`. Raises :class:`Malformed` and :class:`Forbidden`.
    """
    machine = _Machine(data, start)
    try:
        return machine.run(), machine.position
    except (Malformed, Forbidden):
        raise
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        # A stack too short, an unknown memo, operands of wrong types: all one verdict.
        raise Malformed(f"nonsense at byte {machine.position} ({type(error).__name__})") from None


class _Machine:
    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:  # whatever the pickle holds
        for _ in range(STEP_LIMIT):
            opcode = self.take(1)
            if opcode == b".":
                return self.stack.pop()
            step = _STEPS.get(opcode)
            if step is None:
                raise Malformed(f"opcode {opcode!r} at byte {self.position - 1} is none that torch.save uses")
            step(self)
        raise Malformed(f"more than {STEP_LIMIT} steps")

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.data):
            raise Malformed(f"it ends inside an instruction, or has more than {PICKLE_LIMIT} bytes")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, layout: str) -> int:
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def line(self) -> str:
        end = self.data.index(b"\n", self.position, self.position + 1000)
        text = self.data[self.position : end].decode("utf-8")
        self.position = end + 1
        return text

    def push(self, value: object) -> None:
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def text(self, layout: str) -> None:
        self.push(self.take(self.number(layout)).decode("utf-8"))

    def bytes_(self, layout: str) -> None:
        self.take(self.number(layout))
        self.push(_Opaque())

    def integer(self, layout: str) -> None:
        length = self.number(layout)
        if length > _NUMBER_LIMIT:
            raise Malformed(f"a number of {length} bytes")
        self.push(int.from_bytes(self.take(length), "little", signed=True))

    def tuple_(self, length: int) -> None:
        items = [self.stack.pop() for _ in range(length)]
        self.push(tuple(reversed(items)))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise Malformed("an append to something that is not a list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        _fill(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def named(self, module: str, name: str) -> None:
        self.push(_lookup(_Name(module, name)))

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise Malformed("a name that is not text")
        self.named(module, name)

    def reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise Malformed("a call of something that cannot be called")
        self.push(_CALLS[called](*arguments))

    def build(self) -> None:
        self.stack.pop()
        # The state of an OrderedDict is `_metadata`, version numbers of modules.
        if not isinstance(self.stack[-1], dict):
            raise Malformed("a state for something that has none")

    def persistent(self) -> None:
        self.push(_storage(self.stack.pop()))


_STEPS: Mapping[bytes, Callable[[_Machine], object]] = {
    b"\x80": lambda m: m.take(1),
    b"\x95": lambda m: m.take(8),
    b"(": _Machine.mark,
    b"0": lambda m: m.stack.pop(),
    b"1": lambda m: m.since_mark(),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),  # the opcode is NEWTRUE
    b"\x89": lambda m: m.push(False),  # the opcode is NEWFALSE
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"J": lambda m: m.push(m.number("<i")),
    b"\x8a": lambda m: m.integer("<B"),
    b"\x8b": lambda m: m.integer("<I"),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    b"X": lambda m: m.text("<I"),
    b"\x8c": lambda m: m.text("<B"),
    b"\x8d": lambda m: m.text("<Q"),
    b"T": lambda m: m.text("<I"),
    b"U": lambda m: m.text("<B"),
    b"B": lambda m: m.bytes_("<I"),
    b"C": lambda m: m.bytes_("<B"),
    b"\x8e": lambda m: m.bytes_("<Q"),
    b"}": lambda m: m.push({}),
    b"]": lambda m: m.push([]),
    b")": lambda m: m.push(()),
    b"\x85": lambda m: m.tuple_(1),
    b"\x86": lambda m: m.tuple_(2),
    b"\x87": lambda m: m.tuple_(3),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"a": lambda m: m.append([m.stack.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b"s": lambda m: m.set_items([m.stack.pop(), m.stack.pop()][::-1]),
    b"u": lambda m: m.set_items(m.since_mark()),
    b"q": lambda m: m.put(m.number("<B")),
    b"r": lambda m: m.put(m.number("<I")),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"h": lambda m: m.push(m.memo[m.number("<B")]),
    b"j": lambda m: m.push(m.memo[m.number("<I")]),
    b"c": lambda m: m.named(m.line(), m.line()),
    b"\x93": _Machine.stack_global,
    b"R": _Machine.reduce,
    b"b": _Machine.build,
    b"Q": _Machine.persistent,
}
"""Opcode -> what it does. Not here: INST, OBJ, NEWOBJ, EXT (calls), PERSID and all of protocol 0's text."""


def _fill(target: object, pairs: Any) -> None:  # an iterable of what the pickle holds
    if not isinstance(target, dict):
        raise Malformed("an item for something that is not a dict")
    for key, value in pairs:
        if not isinstance(key, (str, int, float, type(None))):
            raise Malformed("a key that is neither text nor a number")
        if key in target:
            raise Malformed(f"the key {str(key)[:80]!r} twice")
        target[key] = value


def _lookup(name: _Name) -> object:
    if name in _CALLS or name == _UNTYPED:
        return name
    if name.module == "torch" and (
        name.name in _DTYPES or name.name in _OTHERS or name.name.endswith("Storage")
    ):
        return name
    raise Forbidden(str(name)[:200])


def _storage(reference: object) -> Storage:
    """``("storage", class, key, location, elements)``, in old files with a view of it behind."""
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
        raise Malformed("a reference to something that is not a storage")
    _, kind, key, _, elements = reference[:5]
    if reference[5:] not in ((), (None,)):
        raise Malformed("a view of a storage, as torch wrote them before 0.4")
    if not isinstance(kind, _Name) or not isinstance(key, str) or type(elements) is not int or elements < 0:
        raise Malformed("a storage without class, key or length")
    dtype = None if kind == _UNTYPED else _dtype_of(kind, _STORAGES)
    return Storage(dtype, key, elements)


def _tensor(storage: object, view: tuple[object, ...], dtype: str | None) -> PickledTensor:
    """``view``: offset, shape and stride, as yet of any type."""
    offset, shape, stride = view
    if not isinstance(storage, Storage):
        raise Malformed("a tensor without a storage")
    if not (_is_size(offset) and _are_sizes(shape) and _are_sizes(stride)) or len(shape) != len(stride):
        raise Malformed("a tensor without a proper offset, shape and stride")
    dtype = dtype if dtype is not None else storage.dtype
    if dtype is None:
        raise Malformed("a tensor without a dtype")
    return PickledTensor(storage, dtype, offset, shape, stride)


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 1 << 63


def _are_sizes(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple) and all(map(_is_size, value))


def _rebuild_tensor(storage: object, *rest: object) -> PickledTensor:
    """``rest``: offset, shape, stride, requires_grad, backward_hooks, pending operations."""
    if any(rest[5:]):
        raise Malformed("a tensor with a pending negation or conjugation")
    return _tensor(storage, rest[:3], None)


def _rebuild_tensor_v3(storage: object, *rest: object) -> PickledTensor:
    """``rest``: offset, shape, stride, requires_grad, backward_hooks, dtype, pending operations."""
    dtype = rest[5]
    if any(rest[6:]) or not isinstance(dtype, _Name):
        raise Malformed("a tensor without a dtype, or with a pending operation")
    return _tensor(storage, rest[:3], _dtype_of(dtype, _DTYPES))


def _dtype_of(name: _Name, table: Mapping[str, str]) -> str:
    dtype = table.get(name.name)
    if dtype is None:
        raise Malformed(f"a tensor of {name}, which weights are not made of")
    return dtype


def _ordered_dict(pairs: object = ()) -> dict[Any, Any]:
    # Python 2 gave the items to the constructor as a list of pairs.
    if not isinstance(pairs, (list, tuple)) or not all(isinstance(p, (list, tuple)) for p in pairs):
        raise Malformed("an OrderedDict of something else than pairs")
    made: dict[Any, Any] = {}
    _fill(made, ((key, value) for key, value in pairs))
    return made


_UNTYPED = _Name("torch.storage", "UntypedStorage")
_CALLS: Mapping[_Name, Callable[..., object]] = {
    _Name("collections", "OrderedDict"): _ordered_dict,
    _Name("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    _Name("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    _Name("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    _Name("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    _Name("torch._utils", "_rebuild_parameter_with_state"): lambda tensor, *_: tensor,
    _Name("torch", "Size"): lambda sizes: sizes,
    _Name("torch", "device"): lambda *_: _Opaque(),
    _Name("_codecs", "encode"): lambda *_: _Opaque(),
    _Name("builtins", "bytearray"): lambda *_: _Opaque(),
    _Name("__builtin__", "bytearray"): lambda *_: _Opaque(),
}
"""What a call of each name makes here. Arguments that do not fit are a TypeError: malformed."""
