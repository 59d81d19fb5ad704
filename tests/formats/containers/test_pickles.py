"""Torch files: read without torch, and the values are those that torch.load gives."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lorapipe.errors import InputError
from lorapipe.formats.containers.pickles import TorchFile

BOTH = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def save(path: Path, value: object, legacy: bool = False) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


def raw(tensor: Tensor) -> bytes:
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype)  # one element with a stride is no view of bytes
    flat.copy_(tensor.detach().reshape(-1))
    return bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b""


def assert_reads_as_torch(path: Path, unwrap: bool = False) -> None:
    expected = torch.load(path, weights_only=True, map_location="cpu")
    expected = expected["state_dict"] if unwrap else expected
    with TorchFile.open(path) as file:
        tensors = {k: v for k, v in expected.items() if isinstance(v, Tensor)}
        assert list(file.tensors) == list(tensors)
        for name, tensor in tensors.items():
            assert file.tensors[name].shape == tuple(tensor.shape)
            assert bytes(file.read(name)) == raw(tensor), name
            for start in range(len(tensor) if tensor.dim() else 0):
                assert bytes(file.read(name, start, start + 1)) == raw(tensor[start : start + 1])


CLASSED = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
UNTYPED = {
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "U64": torch.uint64, "U32": torch.uint32,
    "U16": torch.uint16,
}  # fmt: skip


# Torch itself cannot read back the younger dtypes from its own old format.
@pytest.mark.parametrize(("dtypes", "legacy"), [(CLASSED | UNTYPED, False), (CLASSED, True)])
def test_every_dtype_reads_as_torch_reads_it(
    tmp_path: Path, dtypes: dict[str, torch.dtype], legacy: bool
) -> None:
    tensors = {name: torch.arange(6).fmod(5).to(dtype).reshape(2, 3) for name, dtype in dtypes.items()}
    path = save(tmp_path / "x.pt", tensors, legacy)
    assert_reads_as_torch(path)
    with TorchFile.open(path) as file:
        assert all(spec.dtype == name for name, spec in file.tensors.items())


@BOTH
def test_views_and_shared_storages_read_as_what_they_show(tmp_path: Path, legacy: bool) -> None:
    base = torch.arange(60.0).reshape(3, 4, 5)
    tensors = {
        "whole": base,
        "transposed": base.transpose(0, 2),
        "tail": base[1:, 2:],
        "strided": base[:, ::2, 1::3],
        "diagonal": base[0].diagonal(),
        "expanded": base[0, 0, :2].expand(3, 2),
        "number": base[2, 3, 4],
        "column": base[:, 0, 0].reshape(3, 1),
        "empty": base[:0],
        "hollow": torch.zeros(2, 0, 3),
    }
    assert_reads_as_torch(save(tmp_path / "x.ckpt", tensors, legacy))


@BOTH
def test_a_state_dict_is_unwrapped_and_the_rest_left_alone(tmp_path: Path, legacy: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3)).half()
    saved = {
        "global_step": 470000,
        "state_dict": module.state_dict(),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
        "lr": 1e-4,
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "blob": b"123",
        "nothing": None,
        "big": 1 << 80,
        "flags": (True, [False, {}]),
    }
    path = save(tmp_path / "x.ckpt", saved, legacy)
    assert_reads_as_torch(path, unwrap=True)
    with TorchFile.open(path) as file:
        assert list(file.tensors) == list(module.state_dict())
        assert file.metadata == {}


@BOTH
def test_parameters_and_leaves_that_are_no_tensors(tmp_path: Path, legacy: bool) -> None:
    saved = OrderedDict(a=torch.nn.Parameter(torch.randn(2, 3)), epoch=3, name="x", b=torch.ones(1))
    with TorchFile.open(save(tmp_path / "x.bin", saved, legacy)) as file:
        assert list(file.tensors) == ["a", "b"]
        assert bytes(file.read("a")) == raw(saved["a"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_newer_pickle_protocols_are_read(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "x.pt"
    torch.save({"state_dict": {"a": torch.ones(2), "é": torch.zeros(1)}}, path, pickle_protocol=protocol)
    with TorchFile.open(path) as file:
        assert list(file.tensors) == ["a", "é"]


def test_the_name_of_the_archive_does_not_matter(tmp_path: Path) -> None:
    named = save(tmp_path / "some model.v2.pt", {"a": torch.ones(2)})
    with zipfile.ZipFile(named) as archive:
        assert archive.namelist()[0] != "archive/data.pkl"
    assert_reads_as_torch(named)


def test_a_file_that_a_stranger_zipped_again_is_read(tmp_path: Path) -> None:
    first = io.BytesIO()
    torch.save({"a": torch.arange(5.0)}, first)
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(first) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            with new.open(name, "w", force_zip64=True) as entry:
                entry.write(old.read(name))
    assert_reads_as_torch(path)


NESTED = [
    ({"model": {"a": torch.ones(1)}}, "pickle-nested-tensors", "'model'"),
    ({"a": torch.ones(1), "more": [torch.ones(1)]}, "pickle-nested-tensors", "'more'"),
    ({3: torch.ones(1)}, "pickle-nested-tensors", "'3'"),
    ({"epoch": 3}, "pickle-no-tensors", "no tensors"),
    ({"state_dict": {}}, "pickle-no-tensors", "no tensors"),
    ([torch.ones(1)], "pickle-no-tensors", "no dict"),
    (torch.ones(1), "pickle-no-tensors", "no dict"),
]


@BOTH
@pytest.mark.parametrize(("value", "code", "text"), NESTED)
def test_what_is_no_flat_dict_of_tensors_is_refused(
    tmp_path: Path, value: object, code: str, text: str, legacy: bool
) -> None:
    with pytest.raises(InputError, match=text) as caught:
        TorchFile.open(save(tmp_path / "x.pt", value, legacy))
    assert caught.value.code == code


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch owned",)


@BOTH
def test_a_pickle_that_wants_to_run_code_is_refused_by_name(
    tmp_path: Path, legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "x.ckpt", {"state_dict": {"a": torch.ones(1)}, "callback": Evil()}, legacy)
    with pytest.raises(InputError) as caught:
        TorchFile.open(path)
    assert str(caught.value) == (
        f"{path}: error: wants to run code: it asks for {os.system.__module__}.system - "
        "convert it to safetensors with a tool that you trust, on a machine that you can lose"
    )
    assert caught.value.code == "pickle-runs-code"
    assert not (tmp_path / "owned").exists()


def test_complex_tensors_are_refused_as_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a tensor of torch\.ComplexFloatStorage"):
        TorchFile.open(save(tmp_path / "x.pt", {"a": torch.zeros(2, dtype=torch.complex64)}))


def test_a_cut_legacy_file_is_said_to_end_early(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pt", {"a": torch.ones(100)}, legacy=True)
    os.truncate(path, path.stat().st_size - 10)
    with pytest.raises(InputError, match=r"is cut short: it has \d+ of its \d+ bytes") as caught:
        TorchFile.open(path)
    assert caught.value.code == "torch-truncated"


def test_reading_imports_neither_torch_nor_numpy(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"state_dict": {"a": torch.ones(2, 2)}})
    code = (
        "import sys, pathlib\n"
        "from lorapipe.formats.files import open_tensors\n"
        f"print(bytes(open_tensors(pathlib.Path({str(path)!r})).read('a')).hex())\n"
        "print(sorted({'torch', 'numpy', 'networkx'} & set(sys.modules)))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["0000803f" * 4, "[]"]


# ---- damaged files -----------------------------------------------------------------------------------


def sound(legacy: bool) -> bytes:
    stream = io.BytesIO()
    value = {"state_dict": OrderedDict(a=torch.ones(2, 3), b=torch.ones(2).half()), "step": 3}
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


SOUND = {False: sound(legacy=False), True: sound(legacy=True)}


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    content = bytearray(SOUND[draw(st.booleans())])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["set", "set", "cut", "double", "huge", "end"]))
        if kind == "set":
            content[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "cut":
            del content[at : at + draw(st.integers(1, 8))]
        elif kind == "double":
            content[at:at] = content[at : at + draw(st.integers(1, 40))]
        elif kind == "huge":
            content[at : at + 4] = b"\xff\xff\xff\x7f"
        else:
            del content[at:]
    return bytes(content)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutated())
def test_a_damaged_file_is_refused_or_read_and_nothing_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "case.pt"
    path.write_bytes(content)
    # Any other exception than InputError fails the test.
    with suppress(InputError), TorchFile.open(path) as file:
        for name, spec in file.tensors.items():
            assert len(file.read(name)) == spec.nbytes
