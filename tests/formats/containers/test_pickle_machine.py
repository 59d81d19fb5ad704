"""The pickle machine: plain data comes out as pickle makes it, and nothing is ever called."""

from __future__ import annotations

import builtins
import os
import pickle
import pickletools
import struct
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.formats.containers import pickle_machine
from lorapipe.formats.containers.pickle_machine import load
from lorapipe.formats.containers.pickle_names import Forbidden, Malformed, PickledTensor, Storage

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 200), 1 << 200)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
)
keys = st.text(max_size=8) | st.integers(0, 300)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4).map(OrderedDict)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(values, st.integers(2, 5))
def test_data_comes_out_as_pickle_itself_makes_it(value: object, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    found, end = load(content)
    assert found == pickle.loads(content)
    assert end == len(content)


@settings(max_examples=50, deadline=None)
@given(st.lists(values, min_size=1, max_size=4))
def test_pickles_one_behind_another_are_read_one_by_one(many: list[object]) -> None:
    content, position = b"".join(pickle.dumps(value, 2) for value in many), 0
    for value in many:
        found, position = load(content, position)
        assert found == pickle.loads(pickle.dumps(value, 2))
    assert position == len(content)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120))
def test_noise_gives_a_verdict_and_nothing_else(content: bytes) -> None:
    with suppress(Malformed, Forbidden):
        load(content)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_programs_give_a_verdict_and_nothing_else(data: st.DataObject) -> None:
    """Sound opcodes in any order: more of the machine is reached than by noise."""
    codes = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
    parts = data.draw(
        st.lists(
            st.one_of(
                st.sampled_from(codes),
                st.sampled_from(
                    [b"K\x01", b"X\x01\0\0\0a", b"q\x00", b"h\x00", b"ccollections\nOrderedDict\n"]
                ),
                st.sampled_from(
                    [b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b")R", b"(t"]
                ),
            ),
            max_size=25,
        )
    )
    with suppress(Malformed, Forbidden):
        load(b"\x80\x02" + b"".join(parts) + b".")


class Called(Exception):
    pass


def alarm(*_: object) -> None:
    raise Called


class Reduces:
    def __init__(self, called: object, *arguments: object) -> None:
        self.parts = (called, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.parts


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("called", [os.system, builtins.eval, print, getattr, Path, bytes.fromhex, alarm])
def test_no_name_outside_the_list_is_even_looked_up(called: object, protocol: int) -> None:
    content = pickle.dumps([Reduces(called, "1")], protocol)
    with pytest.raises(Forbidden) as caught:
        load(content)
    assert "." in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        b"torch\nload", b"torch.hub\nload", b"torch.serialization\nload", b"torch\n__builtins__",
        b"torch._utils\n_rebuild_qtensor", b"torch._utils\n_rebuild_sparse_tensor",
        b"collections\nnamedtuple",
        b"builtins\nset", b"numpy.core.multiarray\nscalar", b"OrderedDict\ncollections", b"\n", b"torch\n",
        b"torch\nos.FloatStorage", b"os\nFloatStorage",
    ],
)  # fmt: skip
def test_near_misses_of_the_list_are_refused(name: bytes) -> None:
    forbidden = pytest.raises((Forbidden, Malformed))
    with forbidden:
        load(b"\x80\x02c" + name + b"\n)R.")


def test_a_name_that_ends_like_a_storage_is_only_a_name() -> None:
    """Harmless to hold; a tensor of it is refused, and so is a call."""
    load(b"\x80\x02ctorch\nQUInt8Storage\n.")
    with pytest.raises(Malformed):
        load(b"\x80\x02ctorch\nQUInt8Storage\n)R.")


def reference(kind: bytes = b"ctorch\nHalfStorage\n", length: bytes = b"K\x06") -> bytes:
    return b"(X\x07\0\0\0storage" + kind + b"X\x01\0\0\0" + b"7" + b"X\x03\0\0\0cpu" + length + b"tQ"


def rebuilt(*arguments: bytes, by: bytes = b"_rebuild_tensor_v2") -> bytes:
    return b"\x80\x02ctorch._utils\n" + by + b"\n(" + b"".join(arguments) + b"tR."


VIEW = (b"K\x00", b"K\x02K\x03\x86", b"K\x03K\x01\x86")
STORAGE = Storage("F16", "7", 6)
TENSOR = PickledTensor(STORAGE, "F16", 0, (2, 3), (3, 1))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (rebuilt(reference(), *VIEW, b"\x89", b"}"), TENSOR),
        (rebuilt(reference(), *VIEW, by=b"_rebuild_tensor"), TENSOR),
        (rebuilt(reference(), *VIEW, b"\x89", b"}", b"}"), TENSOR),
        (
            rebuilt(
                reference(b"ctorch.storage\nUntypedStorage\n", b"K\x0c"), *VIEW, b"\x89", b"}",
                b"ctorch\nbfloat16\n", by=b"_rebuild_tensor_v3",
            ),
            PickledTensor(Storage(None, "7", 12), "BF16", 0, (2, 3), (3, 1)),
        ),
        (
            b"\x80\x02ctorch._utils\n_rebuild_parameter\n(" + rebuilt(reference(), *VIEW)[2:-1] + b"\x88}tR.",
            TENSOR,
        ),
    ],
)  # fmt: skip
def test_tensors_are_described(content: bytes, expected: PickledTensor) -> None:
    assert load(content)[0] == expected


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (rebuilt(b"K\x01", *VIEW), "a tensor without a storage"),
        (rebuilt(reference(), b"\x88", *VIEW[1:]), "proper offset, shape and stride"),
        (rebuilt(reference(), b"K\x00", b"]", b"]"), "proper offset, shape and stride"),
        (rebuilt(reference(), b"K\x00", b"K\x02\x85", b")"), "proper offset, shape and stride"),
        (rebuilt(reference(), *VIEW, b"\x89", b"}", b"}X\x03\0\0\0negK\x01s"), "pending negation"),
        (rebuilt(reference(b"ctorch.storage\nUntypedStorage\n"), *VIEW), "a tensor without a dtype"),
        (rebuilt(reference(), *VIEW, b"\x89", b"}", b"N", by=b"_rebuild_tensor_v3"), "without a dtype"),
        (
            rebuilt(reference(), *VIEW, b"\x89", b"}", b"ctorch\ncomplex64\n", by=b"_rebuild_tensor_v3"),
            "a tensor of torch.complex64, which weights are not made of",
        ),
        (rebuilt(reference(b"ctorch\nQInt8Storage\n"), *VIEW), "a tensor of torch.QInt8Storage"),
        (rebuilt(reference(b"N"), *VIEW), "a storage without class, key or length"),
        (rebuilt(reference(length=b"\x88"), *VIEW), "a storage without class, key or length"),
        (rebuilt(reference(length=b"J\xff\xff\xff\xff"), *VIEW), "a storage without class, key or length"),
        (rebuilt(reference(length=b"K\x06X\x01\0\0\0v"), *VIEW), "a view of a storage"),
        (b"\x80\x02(X\x06\0\0\0moduletQ.", "a reference to something that is not a storage"),
        (b"\x80\x02K\x01Q.", "a reference to something that is not a storage"),
        (b"\x80\x02}]K\x01s.", "a key that is neither text nor a number"),
        (b"\x80\x02}(K\x01K\x02K\x01K\x03u.", "the key '1' twice"),
        (b"\x80\x02]K\x01K\x02s.", "an item for something that is not a dict"),
        (b"\x80\x02}K\x01a.", "an append to something that is not a list"),
        (b"\x80\x02K\x01K\x01\x93.", "a name that is not text"),
        (b"\x80\x02K\x01)R.", "a call of something that cannot be called"),
        (b"\x80\x02]}b.", "a state for something that has none"),
        (b"\x80\x02I1\n.", "opcode b'I' at byte 2 is none that torch.save uses"),
        (b"\x80\x02", "it ends inside an instruction"),
        (b"\x80\x02\x8aA" + bytes(65) + b".", "a number of 65 bytes"),
        (b"\x80\x02ctorch\n" + b"x" * 2000 + b"\n.", "nonsense at byte"),
    ],
)
def test_what_torch_never_writes_is_named(content: bytes, text: str) -> None:
    with pytest.raises(Malformed) as caught:
        load(content)
    assert text in str(caught.value)


def test_the_steps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_machine, "STEP_LIMIT", 10)
    assert load(b"\x80\x02" + b"N0" * 3 + b"N.")[0] is None
    with pytest.raises(Malformed, match="more than 10 steps"):
        load(b"\x80\x02" + b"N0" * 6 + b"N.")


def test_a_declared_length_allocates_nothing() -> None:
    for opcode in (b"X", b"T", b"B"):
        with pytest.raises(Malformed, match="it ends inside an instruction"):
            load(b"\x80\x02" + opcode + struct.pack("<I", 0xFFFFFFFF))


def test_the_state_of_an_ordered_dict_is_left_alone() -> None:
    saved = OrderedDict(a=1)
    saved._metadata = OrderedDict(version=1)  # type: ignore[attr-defined]  # as torch.nn.Module.state_dict does
    assert load(pickle.dumps(saved, 2))[0] == {"a": 1}
