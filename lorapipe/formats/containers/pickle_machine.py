"""Reads the pickle of a torch file as data: nothing that it names is imported or called.

A pickle is a program for a small stack machine, and Python's own interpreter of it
calls whatever the program asks for. This one knows the opcodes with which ``torch.save``
describes tensors; the names that such a program may use are in
:mod:`lorapipe.formats.containers.pickle_names`. (Opcodes: CPython, ``Lib/pickletools.py``.)

Bounds, since a few bytes of pickle can ask for much: the number of steps, the length of
a number, and no container ever hashed or compared, which for a container of containers
can take forever.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from lorapipe.formats.containers.pickle_names import (
    Forbidden,
    Malformed,
    Name,
    Opaque,
    call,
    fill,
    look_up,
    storage,
)

__all__ = ["PICKLE_LIMIT", "STEP_LIMIT", "load"]

PICKLE_LIMIT = 16 << 20
"""Bytes of pickle that are read: a checkpoint of 2,500 tensors has 0.4 MB."""

STEP_LIMIT = 2_000_000
"""Steps of the machine: about 40 for each tensor."""

_NUMBER_LIMIT = 64


def load(data: bytes, start: int = 0) -> tuple[Any, int]:
    """The value of the pickle at ``start``, and where it ends.

    Dicts, lists, tuples, numbers and texts come as themselves, tensors as
    :class:`~lorapipe.formats.containers.pickle_names.PickledTensor`. Raises :class:`Malformed` and
    :class:`Forbidden`.
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
        self.push(Opaque())

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
        fill(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def named(self, module: str, name: str) -> None:
        self.push(look_up(Name(module, name)))

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise Malformed("a name that is not text")
        self.named(module, name)

    def reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise Malformed("a call of something that cannot be called")
        self.push(call(called, arguments))

    def build(self) -> None:
        self.stack.pop()
        # The state of an OrderedDict is `_metadata`, version numbers of modules.
        if not isinstance(self.stack[-1], dict):
            raise Malformed("a state for something that has none")

    def persistent(self) -> None:
        self.push(storage(self.stack.pop()))


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
