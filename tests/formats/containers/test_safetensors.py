"""The safetensors reader, held against the safetensors library."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as library_save

from lorapipe.errors import InputError
from lorapipe.formats.containers.safetensors import SafetensorsFile

RNG = np.random.default_rng(7)
ARRAYS = {
    "b.weight": RNG.standard_normal((4, 3)).astype(np.float16),
    "a.weight": RNG.standard_normal((5, 2, 3)).astype(np.float32),
    "alpha": np.array(4.0, dtype=np.float32),
    "empty": np.zeros((0, 3), dtype=np.float32),
    "steps": np.arange(3, dtype=np.int64),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.safetensors"
    path.write_bytes(library_save(ARRAYS, metadata={"ss_v2": "False", "note": "é"}))
    return path


def test_names_shapes_and_bytes_are_those_that_the_library_wrote(path: Path) -> None:
    with SafetensorsFile.open(path) as file:
        assert file.tensors.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            assert file.tensors[name].shape == array.shape
            assert file.read(name) == array.tobytes()
        assert file.metadata == {"ss_v2": "False", "note": "é"}
        assert file.size == path.stat().st_size
        assert file.path == path


def test_tensors_come_in_the_order_of_their_data(path: Path) -> None:
    with SafetensorsFile.open(path) as file:
        expected = [name for name, _ in deserialize(path.read_bytes())]
        assert set(expected) == set(file.tensors)
        data = b"".join(file.read(name) for name in file.tensors)
        assert path.read_bytes()[file.data_start :] == data


def test_rows_are_read_without_the_rest(path: Path) -> None:
    with SafetensorsFile.open(path) as file:
        assert file.read("a.weight", 1, 3) == ARRAYS["a.weight"][1:3].tobytes()
        assert file.read("a.weight", 4) == ARRAYS["a.weight"][4:].tobytes()
        assert file.read("a.weight", 2, 2) == b""


@pytest.mark.parametrize(("name", "start", "stop"), [("b.weight", 0, 5), ("b.weight", 3, 2), ("alpha", 0, 1)])
def test_rows_that_are_not_there_are_a_mistake_of_the_caller(
    path: Path, name: str, start: int, stop: int
) -> None:
    with SafetensorsFile.open(path) as file, pytest.raises(ValueError, match="rows"):
        file.read(name, start, stop)


def test_each_read_gives_a_buffer_of_its_own(path: Path) -> None:
    with SafetensorsFile.open(path) as file:
        first = file.read("b.weight")
        first[:] = bytes(len(first))
        assert file.read("b.weight") == ARRAYS["b.weight"].tobytes()


def test_threads_may_read_at_once(path: Path) -> None:
    with SafetensorsFile.open(path) as file:
        wrong: list[str] = []

        def work() -> None:
            wrong.extend(
                n for _ in range(200) for n in ("a.weight", "b.weight") if file.read(n) != ARRAYS[n].tobytes()
            )

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_a_closed_file_does_not_read_another_ones_descriptor(path: Path) -> None:
    file = SafetensorsFile.open(path)
    file.close()
    file.close()
    with path.open("rb"), pytest.raises(ValueError, match="closed"):
        file.read("alpha")


def open_descriptors() -> int:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("needs /proc to count descriptors")
    return len(list(folder.iterdir()))


def test_a_forgotten_file_closes_its_descriptor(path: Path) -> None:
    before = open_descriptors()
    file = SafetensorsFile.open(path)
    assert open_descriptors() == before + 1
    del file
    assert open_descriptors() == before


def test_a_refused_file_closes_its_descriptor(tmp_path: Path) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"short")
    before = open_descriptors()
    with pytest.raises(InputError) as caught:
        SafetensorsFile.open(bad)
    assert caught.value.code == "safetensors-too-short"
    assert open_descriptors() == before


def test_a_file_cut_while_open_is_an_error_that_says_so(path: Path) -> None:
    with SafetensorsFile.open(path) as file:
        last = list(file.tensors)[-1]
        os.truncate(path, path.stat().st_size - 1)
        with pytest.raises(InputError) as caught:
            file.read(last)
    assert caught.value.code == "input-changed"
    assert str(caught.value) == (
        f"{path}: error: changed while it was read - run again when nothing writes to it"
    )


def test_a_file_rewritten_in_place_while_open_is_an_error(path: Path) -> None:
    with SafetensorsFile.open(path) as file:
        content = path.read_bytes()
        with path.open("r+b") as stream:
            stream.write(content)
        os.utime(path, ns=(1, 1))
        with pytest.raises(InputError, match="changed"):
            file.read("b.weight")


def test_a_file_replaced_by_rename_while_open_is_still_the_old_one(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"something else")
    with SafetensorsFile.open(path) as file:
        other.replace(path)
        assert file.read("b.weight") == ARRAYS["b.weight"].tobytes()


@pytest.mark.parametrize(
    ("make", "code", "text"),
    [
        (lambda p: None, "input-missing", "error: no such file - check the path"),
        (lambda p: p.mkdir(), "input-is-folder", "error: is a folder - name a file inside it"),
        (os.mkfifo, "input-not-a-file", "error: is a pipe or a device - copy it to a file first"),
        (lambda p: p.symlink_to(p), "input-unreadable", "error: cannot be read: Too many levels of symbolic"),
    ],
)
def test_what_is_no_readable_file_is_named_with_its_path(tmp_path: Path, make, code: str, text: str) -> None:
    path = tmp_path / "x.safetensors"
    make(path)
    with pytest.raises(InputError) as caught:
        SafetensorsFile.open(path)
    assert caught.value.code == code
    assert str(caught.value).startswith(f"{path}: {text}")


def test_a_missing_folder_is_said_to_be_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*/loras"):
        SafetensorsFile.open(tmp_path / "loras" / "x.safetensors")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_says_to_check_its_permissions(path: Path) -> None:
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read: Permission denied - check its permissions"):
        SafetensorsFile.open(path)


# ---- against the library -----------------------------------------------------------------------------

ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def blob(header: object, data: bytes = b"\0\0\0\0") -> bytes:
    text = header if isinstance(header, str) else json.dumps(header)
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw).to_bytes(8, "little") + raw + data


def ours(tmp_path: Path, content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]] | None:
    """What our reader finds, or ``None`` when it refuses; any other exception fails the test."""
    path = tmp_path / "case.safetensors"
    path.write_bytes(content)
    try:
        with SafetensorsFile.open(path) as file:
            return {n: (s.dtype, s.shape, bytes(file.read(n))) for n, s in file.tensors.items()}
    except InputError:
        return None


def theirs(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]] | None:
    try:
        found = deserialize(content)
    except SafetensorError:
        return None
    return {name: (info["dtype"], tuple(info["shape"]), bytes(info["data"])) for name, info in found}


def text_entry(**changed: str) -> str:
    fields = {"dtype": '"F32"', "shape": "[1]", "data_offsets": "[0,4]", **changed}
    return '{"a":{' + ",".join(f'"{k}":{v}' for k, v in fields.items()) + "}}"


@pytest.mark.parametrize(
    "content",
    [
        blob({"a": ENTRY}),
        blob({}, b""),
        blob({"": ENTRY}),
        blob(" \n" + json.dumps({"a": ENTRY}) + "\t "),
        blob({"__metadata__": None, "a": ENTRY}),
        blob({"__metadata__": {"é\x7f": ""}, "a": ENTRY}),
        blob({"z": {**ENTRY, "shape": [0], "data_offsets": [0, 0]}, "a": ENTRY}),
        blob({"a": {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}}, b""),
        blob(text_entry(shape="[]")),
    ],
)
def test_what_the_library_reads_we_read_alike(tmp_path: Path, content: bytes) -> None:
    assert theirs(content) is not None
    assert ours(tmp_path, content) == theirs(content)


@pytest.mark.parametrize(
    "content",
    [
        blob(json.dumps({"a": ENTRY}) + "\0"),
        blob("\ufeff" + json.dumps({"a": ENTRY})),
        blob(text_entry(data_offsets="[-0,4]")),
        blob(text_entry(data_offsets="[ \n-0,4]")),
        blob(text_entry(shape="[2,-0]", data_offsets="[0,0]"), b""),
        blob(text_entry(shape="{}")),
        blob(text_entry(shape="[[2]]")),
        blob(text_entry(shape="[{}]")),
        blob(text_entry(shape="[1.0]")),
        blob(text_entry(shape="[true]")),
        blob(text_entry(shape="[1e0]")),
        blob(text_entry(shape="[-1,-1]")),
        blob(text_entry(shape="[18446744073709551616]")),
        blob(text_entry(data_offsets="[0," + "9" * 5000 + "]")),
        blob(text_entry(dtype='"F31"')),
        blob(text_entry(dtype="1")),
        blob(text_entry(x="NaN")),
        blob(text_entry(x="1e999")),
        blob(text_entry(x="[" * 200 + "]" * 200)),
        blob('{"a":null}', b""),
        blob('{"\\ud800":' + json.dumps(ENTRY) + "}"),
        blob('{"a\x01":' + json.dumps(ENTRY) + "}"),
        blob({"__metadata__": {"a": 1}, "a": ENTRY}),
        blob({"__metadata__": {"a": None}, "a": ENTRY}),
        blob({"a": {"dtype": "F32", "shape": [2**63, 2**63, 0], "data_offsets": [0, 0]}}, b""),
        blob("[" * 100_000),
    ],
)
def test_what_the_library_refuses_we_refuse(tmp_path: Path, content: bytes) -> None:
    assert theirs(content) is None
    assert ours(tmp_path, content) is None


@pytest.mark.parametrize(
    "content",
    [
        blob(f'{{"a":{json.dumps(ENTRY)},"a":{json.dumps(ENTRY)}}}'),
        blob(f'{{"__metadata__":{{"x":"1","x":"2"}},"a":{json.dumps(ENTRY)}}}'),
        blob({"a": {**ENTRY, "x": "y"}}),
    ],
)
def test_what_the_library_guesses_we_refuse(tmp_path: Path, content: bytes) -> None:
    assert theirs(content) is not None
    assert ours(tmp_path, content) is None


BASE = library_save({k: ARRAYS[k] for k in ("b.weight", "alpha", "empty")}, metadata={"k": "v"})
HEADER = int.from_bytes(BASE[:8], "little")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A sound file with a few bytes of it changed, cut, doubled, or a number in the header replaced."""
    content = bytearray(BASE)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, 8 + HEADER))
        kind = draw(st.sampled_from(["set", "cut", "double", "digit", "end"]))
        if kind == "set":
            content[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "cut":
            del content[at : at + draw(st.integers(1, 8))]
        elif kind == "double":
            content[at:at] = content[at : at + draw(st.integers(1, 40))]
        elif kind == "digit":
            digits = [i for i in range(8, min(8 + HEADER, len(content))) if content[i : i + 1].isdigit()]
            if digits:
                i = draw(st.sampled_from(digits))
                numbers = [b"-1", b"99999999999999999999", b"1.5", b"0", b'"1"']
                content[i : i + 1] = draw(st.sampled_from(numbers))
        else:
            del content[draw(st.integers(0, len(content))) :]
    return bytes(content)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutated())
def test_a_damaged_file_is_refused_or_read_as_the_library_does(tmp_path: Path, content: bytes) -> None:
    found, expected = ours(tmp_path, content), theirs(content)
    assert found is None or found == expected


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_noise_is_refused(tmp_path: Path, content: bytes) -> None:
    found = ours(tmp_path, content)
    assert found is None or found == theirs(content)
