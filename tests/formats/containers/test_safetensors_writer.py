"""The safetensors writer: the library's bytes, streamed."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as library_load
from safetensors.torch import save as library_save

from lorapipe.errors import LorapipeError
from lorapipe.formats.containers.output import Written
from lorapipe.formats.containers.safetensors_writer import header_bytes, library_order, write_safetensors
from lorapipe.weights.specs import DTYPES, TensorSpec

TORCH = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=0, max_size=12).filter(
    lambda text: text != "__metadata__"
)
specs_strategy = st.dictionaries(
    names,
    st.builds(
        TensorSpec,
        st.sampled_from(sorted(DTYPES)),
        st.lists(st.integers(0, 3), max_size=3).map(tuple),
    ),
    max_size=8,
)


def tensor_of(spec: TensorSpec) -> torch.Tensor:
    return torch.arange(spec.nbytes).fmod(2).to(torch.uint8).view(TORCH[spec.dtype]).reshape(spec.shape)


def bytes_of(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""


def write(
    specs: Mapping[str, TensorSpec], metadata: Mapping[str, str] = {}, piece: int = 7
) -> tuple[bytes, Written]:
    def data() -> Iterator[tuple[str, Iterator[bytes]]]:
        for name, spec in specs.items():
            raw = bytes_of(tensor_of(spec))
            yield name, (raw[i : i + piece] for i in range(0, len(raw), piece))

    stream = io.BytesIO()
    written = write_safetensors(stream, specs, data(), metadata)
    return stream.getvalue(), written


@settings(max_examples=60, deadline=None)
@given(specs_strategy, st.dictionaries(names, names, max_size=1))
def test_in_library_order_the_bytes_are_the_librarys(
    specs: dict[str, TensorSpec], metadata: dict[str, str]
) -> None:
    ordered = library_order(specs)
    expected = library_save({name: tensor_of(spec) for name, spec in specs.items()}, metadata or None)
    assert write(ordered, metadata)[0] == expected


@settings(max_examples=60, deadline=None)
@given(specs_strategy, st.dictionaries(names, names, max_size=4), st.integers(1, 50))
def test_size_and_digest_are_those_of_the_file(
    specs: dict[str, TensorSpec], metadata: dict[str, str], piece: int
) -> None:
    content, written = write(specs, metadata, piece)
    assert written == Written(len(content), hashlib.sha256(content).hexdigest())
    assert len(header_bytes(specs, metadata)) % 8 == 0


def test_the_order_given_is_the_order_written() -> None:
    specs = {"b": TensorSpec("F16", (2,)), "a": TensorSpec("F32", (1,))}
    content, _ = write(specs)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert [(name, entry["data_offsets"]) for name, entry in header.items()] == [("b", [0, 4]), ("a", [4, 8])]
    assert library_load(content).keys() == specs.keys()


def test_metadata_is_sorted_and_first() -> None:
    specs = {"a": TensorSpec("F32", ())}
    one, _ = write(specs, {"b": "2", "a": "1"})
    two, _ = write(specs, {"a": "1", "b": "2"})
    assert one == two
    assert one[8:].startswith(b'{"__metadata__":{"a":"1","b":"2"},"a":')


def test_no_metadata_leaves_no_trace() -> None:
    assert b"__metadata__" not in write({"a": TensorSpec("F32", ())})[0]


def test_pieces_are_told_as_they_go_by() -> None:
    told: list[int] = []
    specs = {"a": TensorSpec("F32", (3,)), "b": TensorSpec("U8", (5,))}
    data = [("a", [bytes(8), bytes(4)]), ("b", [memoryview(bytes(5))])]
    write_safetensors(io.BytesIO(), specs, data, {}, told.append)
    assert told == [8, 4, 5]


@pytest.mark.parametrize("size", [3, 5])
def test_a_tensor_of_another_size_than_its_spec_is_a_fault(size: int) -> None:
    with pytest.raises(LorapipeError, match=rf"a: {size} bytes were given to write, its spec says 4"):
        write_safetensors(io.BytesIO(), {"a": TensorSpec("F32", (1,))}, [("a", [bytes(size)])])


@pytest.mark.parametrize(
    ("given_names", "message"),
    [(["b", "a"], "a is to be written next, but b was given"), (["a"], "b .* but nothing was given"),
     (["a", "b", "c"], "c was given after the last tensor")],
)  # fmt: skip
def test_tensors_in_another_order_than_the_header_are_a_fault(given_names: list[str], message: str) -> None:
    specs = {"a": TensorSpec("F32", ()), "b": TensorSpec("F32", ())}
    with pytest.raises(LorapipeError, match=message):
        write_safetensors(io.BytesIO(), specs, [(name, [bytes(4)]) for name in given_names])


class Reluctant(io.RawIOBase):
    """A raw stream that takes three bytes at a time, and sometimes none."""

    def __init__(self) -> None:
        self.content = b""
        self.turn = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int | None:  # type: ignore[override]
        self.turn += 1
        if self.turn % 5 == 0:
            return None
        self.content += bytes(data[:3])
        return min(3, len(data))


def test_short_writes_lose_nothing() -> None:
    stream = Reluctant()
    specs = {"a": TensorSpec("U8", (50,))}
    written = write_safetensors(stream, specs, [("a", [bytes(range(50))])])
    assert stream.content[-50:] == bytes(range(50))
    assert written.sha256 == hashlib.sha256(stream.content).hexdigest()


def test_a_stream_that_cannot_seek_will_do() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *args: int) -> int:
            raise AssertionError("the writer went back")

        def tell(self) -> int:
            raise AssertionError("the writer asked where it is")

    stream = Pipe()
    write_safetensors(stream, {"a": TensorSpec("F32", ())}, [("a", [bytes(4)])])
    assert library_load(stream.getvalue())["a"].item() == 0.0


def test_a_full_disk_is_the_streams_own_error() -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_safetensors(Full(), {"a": TensorSpec("F32", ())}, [("a", [bytes(4)])])
