"""Files that lie about what is in them: each is refused by name, at once, without memory.

A row is a file's name, its bytes, and the code of the error that its reader must raise.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lorapipe.errors import InputError
from lorapipe.formats.files import open_tensors

from .builders import ENTRY, entry, legacy, safetensors, tensor_pickle, torch_zip

MIB = 1 << 20


class Runs:
    """Pickles as a call."""

    def __init__(self, called: Callable[..., object], *arguments: object) -> None:
        self.reduced = (called, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.reduced


def calls(called: Callable[..., object], *arguments: object, protocol: int = 2) -> bytes:
    return pickle.dumps({"state_dict": {}, "x": Runs(called, *arguments)}, protocol)


def renamed(content: bytes, old: bytes, new: bytes, count: int = -1) -> bytes:
    assert old in content
    assert len(old) == len(new)
    return content.replace(old, new, count)


def twice(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", tensor_pickle())
        archive.writestr("archive/data/0", bytes(16))
        archive.writestr("archive/data/X", b"\1" * 16)
    return stream.getvalue().replace(b"data/X", name.encode())


BAD, BAD_ENTRY = "torch-malformed", "safetensors-bad-entry"
DEEP = 100_000
ORDERED = b"\x80\x02ccollections\nOrderedDict\n"
SOUND = torch_zip(tensor_pickle())
DIRECTORY = SOUND.rindex(b"PK\x05\x06")
SHARED = b"]q\x000" + b"".join(b"](h%ch%ceq%c0" % (i, i, i + 1) for i in range(60)) + b"h\x3c"
"""Lists that hold the one before twice: 2**60 leaves in 600 bytes."""

SAFETENSORS = {
    "empty": (b"", "safetensors-too-short"),
    "seven bytes": (b"\0" * 7, "safetensors-too-short"),
    "header of 2**60 bytes": (struct.pack("<Q", 1 << 60) + b"{}", "safetensors-header-too-large"),
    "header of 2**64-1 bytes": (b"\xff" * 8 + b"{}", "safetensors-header-too-large"),
    "header of 100 MB and one": (struct.pack("<Q", 100_000_001) + b"{}", "safetensors-header-too-large"),
    "header beyond the file": (safetensors({}, b"", length=99_999_999), "safetensors-header-beyond-file"),
    "header one byte beyond the file": (safetensors({}, b"", length=3), "safetensors-header-beyond-file"),
    "no header": (bytes(8), "safetensors-not-json"),
    "not UTF-8": (safetensors(b'{"\xff":{}}'), "safetensors-not-utf8"),
    "half a surrogate": (safetensors('{"\\ud800":{}}'), "safetensors-not-utf8"),
    "half a surrogate in metadata": (safetensors('{"__metadata__":{"a":"\\ud800"}}'), "safetensors-not-utf8"),
    "not JSON": (safetensors("{'a': 1}"), "safetensors-not-json"),
    "NaN": (safetensors('{"a":NaN}'), "safetensors-not-json"),
    "deep lists": (safetensors("[" * DEEP), "safetensors-not-json"),
    "deep lists, closed": (safetensors("[" * DEEP + "]" * DEEP), "safetensors-not-json"),
    "deep objects": (safetensors('{"a":' * DEEP + "1" + "}" * DEEP), "safetensors-not-json"),
    "a number of 5,000 digits": (safetensors('{"a":%s}' % ("9" * 5000)), "safetensors-not-json"),
    "a number of 50,000 digits": (safetensors('{"a":%s}' % ("9" * 50_000)), "safetensors-not-json"),
    "three million objects": (safetensors("[" + "{}," * 3_000_000 + "1]"), "safetensors-header-too-large"),
    "three million lists": (safetensors("[" * 3_000_000), "safetensors-header-too-large"),
    "three million keys": (safetensors('{"a":"",' * 3_000_000), "safetensors-header-too-large"),
    "a list": (safetensors([]), "safetensors-not-object"),
    "a text": (safetensors('"a"'), "safetensors-not-object"),
    "a name twice": (safetensors('{"a":1,"a":2}'), "safetensors-duplicate-key"),
    "metadata twice": (safetensors('{"__metadata__":{},"__metadata__":{}}'), "safetensors-duplicate-key"),
    "a metadata key twice": (safetensors('{"__metadata__":{"a":"1","a":"2"}}'), "safetensors-duplicate-key"),
    "a field twice": (
        safetensors('{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,4]}}'),
        "safetensors-duplicate-key",
    ),
    "a field twice, and two missing": (safetensors('{"a":{"dtype":"F32","dtype":"F16"}}'), BAD_ENTRY),
    "metadata not an object": (safetensors({"__metadata__": []}), "safetensors-bad-metadata"),
    "metadata with numbers": (safetensors({"__metadata__": {"a": 1}}), "safetensors-bad-metadata"),
    "metadata with objects": (safetensors({"__metadata__": {"a": {}}}), "safetensors-bad-metadata"),
    "an entry that is a list": (safetensors({"a": ["F32", [1], [0, 4]]}), BAD_ENTRY),
    "an entry without shape": (safetensors({"a": {"dtype": "F32", "data_offsets": [0, 4]}}), BAD_ENTRY),
    "an entry with another field": (safetensors(entry(scale=1)), BAD_ENTRY),
    "unknown dtype": (safetensors(entry(dtype="F31")), "safetensors-unknown-dtype"),
    "a dtype of lower case": (safetensors(entry(dtype="f32")), "safetensors-unknown-dtype"),
    "a dtype that is a list": (safetensors(entry(dtype=["F32"])), "safetensors-unknown-dtype"),
    "a negative size": (safetensors(entry(shape=[-1])), "safetensors-bad-shape"),
    "a size that is true": (safetensors(entry(shape=[True])), "safetensors-bad-shape"),
    "a size that is a fraction": (safetensors(entry(shape=[1.0])), "safetensors-bad-shape"),
    "a size that is a text": (safetensors(entry(shape=["1"])), "safetensors-bad-shape"),
    "a shape that is a number": (safetensors(entry(shape=1)), "safetensors-bad-shape"),
    "a size of 2**63": (safetensors(entry(shape=[1 << 63])), "safetensors-bad-shape"),
    "2**60 elements": (safetensors(entry(shape=[1 << 30, 1 << 30])), "safetensors-bad-shape"),
    "2**128 elements times 0": (safetensors(entry(shape=[1 << 62, 1 << 62, 0], data_offsets=[0, 0]), b""),
                                "safetensors-bad-shape"),
    "2**59 elements with their bytes": (safetensors(entry(shape=[1 << 59], data_offsets=[0, 1 << 61])),
                                        "safetensors-truncated"),
    "one offset": (safetensors(entry(data_offsets=[0])), "safetensors-bad-offsets"),
    "three offsets": (safetensors(entry(data_offsets=[0, 4, 8])), "safetensors-bad-offsets"),
    "offsets of text": (safetensors(entry(data_offsets=["0", "4"])), "safetensors-bad-offsets"),
    "offsets reversed": (safetensors(entry(data_offsets=[4, 0])), "safetensors-bad-offsets"),
    "offsets too far apart": (safetensors(entry(data_offsets=[0, 8]), bytes(8)), "safetensors-size-mismatch"),
    "offsets too near": (safetensors(entry(data_offsets=[0, 2]), bytes(2)), "safetensors-size-mismatch"),
    "data out of range": (safetensors(entry(), bytes(3)), "safetensors-truncated"),
    "no data": (safetensors(entry(), b""), "safetensors-truncated"),
    "spare data": (safetensors(entry(), bytes(5)), "safetensors-trailing-data"),
    "data without tensors": (safetensors({}, bytes(1)), "safetensors-trailing-data"),
    "data not from the start": (safetensors(entry(data_offsets=[4, 8]), bytes(8)), "safetensors-hole"),
    "a hole": (safetensors({"a": ENTRY, "b": {**ENTRY, "data_offsets": [8, 12]}}, bytes(12)),
               "safetensors-hole"),
    "the same data twice": (safetensors({"a": ENTRY, "b": ENTRY}), "safetensors-overlap"),
    "data that overlap": (safetensors({"a": {**ENTRY, "shape": [2], "data_offsets": [0, 8]},
                                       "b": {**ENTRY, "data_offsets": [4, 8]}}, bytes(8)),
                          "safetensors-overlap"),
    "a web page": (b"<!DOCTYPE html><html><body>404</body></html>", "input-html"),
    "a web page after blanks": (b"\n\n  <HTML><head></head>" + bytes(600), "input-html"),
    "a git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
                          "input-lfs-pointer"),
    "a zip": (SOUND, "input-other-format"),
    "a bare pickle": (pickle.dumps({"a": 1}, 4), "input-other-format"),
    "a GGUF": (b"GGUF" + bytes(100), "input-other-format"),
    "a gzip": (b"\x1f\x8b\x08" + bytes(100), "input-other-format"),
}  # fmt: skip

TORCH = {
    "empty": (b"", "torch-unknown-format"),
    "zeros": (bytes(100), "torch-unknown-format"),
    "a web page": (b"<html></html>", "input-html"),
    "a git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\n", "input-lfs-pointer"),
    "a safetensors file": (safetensors({"a": ENTRY}), "input-other-format"),
    "a bare pickle": (pickle.dumps({"a": 1}, 2), "input-other-format"),
    "a zip cut short": (SOUND[:-30], "zip-malformed"),
    "a zip without directory": (SOUND[:60], "zip-malformed"),
    "a zip with a word behind it": (SOUND + b"PK\x05\x06", "zip-malformed"),
    "a directory beyond the file": (SOUND[: DIRECTORY + 16] + b"\xf0\xff\xff\xff" + SOUND[DIRECTORY + 20 :],
                                    "zip-malformed"),
    "a directory of 4 GB": (SOUND[: DIRECTORY + 12] + b"\xf0\xff\xff\xff" + SOUND[DIRECTORY + 16 :],
                            "zip-malformed"),
    "entries that are not there": (SOUND[: DIRECTORY + 10] + b"\x09\x00" + SOUND[DIRECTORY + 12 :],
                                   "zip-malformed"),
    "an entry of two names": (renamed(SOUND, b"data/0", b"data/9", 1), "zip-malformed"),
    "two entries of one name": (twice("data/0"), "zip-duplicate-entry"),
    "a compressed archive": (torch_zip(tensor_pickle(), method=zipfile.ZIP_DEFLATED), "zip-compressed"),
    "a zip bomb": (torch_zip(tensor_pickle(), {"0": bytes(50 * MIB)}, method=zipfile.ZIP_DEFLATED),
                   "zip-compressed"),
    "no data.pkl": (torch_zip(None), "torch-unknown-format"),
    "two data.pkl": (torch_zip(tensor_pickle(), extra={"more/data.pkl": b"."}), "torch-unknown-format"),
    "a TorchScript program": (torch_zip(tensor_pickle(), extra={"constants.pkl": b")."}), "torch-script"),
    "big-endian": (torch_zip(tensor_pickle(), extra={"byteorder": b"big"}), "torch-big-endian"),
    "os.system": (torch_zip(calls(os.system, "true")), "pickle-runs-code"),
    "os.system, protocol 4": (torch_zip(calls(os.system, "true", protocol=4)), "pickle-runs-code"),
    "eval": (torch_zip(calls(eval, "1")), "pickle-runs-code"),
    "a name alone": (torch_zip(b"\x80\x02cbuiltins\nexec\n."), "pickle-runs-code"),
    "a dotted name": (torch_zip(b"\x80\x02ctorch\nserialization.os.system\n."), "pickle-runs-code"),
    "an attribute of a name": (torch_zip(b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93."),
                               "pickle-runs-code"),
    "torch.load itself": (torch_zip(b"\x80\x02ctorch\nload\n(X\x01\0\0\0xtR."), "pickle-runs-code"),
    "INST": (torch_zip(b"\x80\x02(X\x04\0\0\0trueios\nsystem\n."), BAD),
    "OBJ": (torch_zip(b"\x80\x02(ccollections\nOrderedDict\no."), BAD),
    "EXT": (torch_zip(b"\x80\x02\x82\x01."), BAD),
    "BUILD on a list": (torch_zip(b"\x80\x02]}b."), BAD),
    "BUILD on a name": (torch_zip(ORDERED + b"}X\x01\0\0\0xK\x01sb."), BAD),
    "a call of a list": (torch_zip(b"\x80\x02])R."), BAD),
    "a call of a dtype": (torch_zip(b"\x80\x02ctorch\nfloat16\n)R."), BAD),
    "a call with a dict": (torch_zip(ORDERED + b"}R."), BAD),
    "too many arguments": (torch_zip(ORDERED + b"(K\x01K\x02tR."), BAD),
    "OrderedDict of numbers": (torch_zip(ORDERED + b"]K\x01a\x85R."), BAD),
    "an empty pickle": (torch_zip(b""), BAD),
    "no end": (torch_zip(b"\x80\x02}"), BAD),
    "an empty stack": (torch_zip(b"\x80\x02."), BAD),
    "an unknown memo": (torch_zip(b"\x80\x02h\x07."), BAD),
    "memo 2**31": (torch_zip(b"\x80\x02}r\xff\xff\xff\x7f."), "pickle-no-tensors"),
    "a text of 4 GB": (torch_zip(b"\x80\x02X\xff\xff\xff\xff."), BAD),
    "a text of 2**62 bytes": (torch_zip(b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62)), BAD),
    "a byte string of 2**62 bytes": (torch_zip(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62)), BAD),
    "a number of 2**31 bytes": (torch_zip(b"\x80\x02\x8b\xff\xff\xff\x7f."), BAD),
    "a number of 1 MB": (torch_zip(b"\x80\x02\x8b" + struct.pack("<I", MIB) + b"\1" * MIB + b"."),
                         BAD),
    "a text that is no UTF-8": (torch_zip(b"\x80\x02X\x01\0\0\0\xff."), BAD),
    "a key that is a tuple of tuples": (torch_zip(b"\x80\x02})\x85\x85K\x01s."), BAD),
    "a key that is a list": (torch_zip(b"\x80\x02}]K\x01s."), BAD),
    "a tensor twice": (torch_zip(b"\x80\x02}(X\x01\0\0\0aK\x01X\x01\0\0\0aK\x02u."), BAD),
    "a key without value": (torch_zip(b"\x80\x02}(X\x01\0\0\0au."), BAD),
    "lists in lists": (torch_zip(b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b"."), "pickle-no-tensors"),
    "tuples in tuples": (torch_zip(b"\x80\x02)" + b"\x85" * DEEP + b"."), "pickle-no-tensors"),
    "marks without end": (torch_zip(b"\x80\x02" + b"(" * DEEP + b"."), BAD),
    "2**60 shared lists": (torch_zip(b"\x80\x02}(X\x01\0\0\0a" + SHARED + b"u."), "pickle-no-tensors"),
    "17 MB of pickle": (torch_zip(b"\x80\x02" + b"N0" * (17 * MIB // 2) + b"}."), BAD),
    "a storage that is missing": (torch_zip(tensor_pickle(key="7")), BAD),
    "a storage with a path for a name": (torch_zip(tensor_pickle(key="../data.pkl")), BAD),
    "a storage of 2**60 elements": (torch_zip(tensor_pickle(elements=1 << 60)), BAD),
    "a storage of -1 elements": (torch_zip(tensor_pickle(elements=-1)), BAD),
    "a storage of another size": (torch_zip(tensor_pickle(), {"0": bytes(8)}), BAD),
    "a storage that is no class": (torch_zip(tensor_pickle(storage="collections\nOrderedDict")), BAD),
    "complex numbers": (torch_zip(tensor_pickle(storage="torch\nComplexFloatStorage")), BAD),
    "a shape beyond the storage": (torch_zip(tensor_pickle(shape=(5,))), BAD),
    "an offset beyond the storage": (torch_zip(tensor_pickle(offset=1)), BAD),
    "a negative offset": (torch_zip(tensor_pickle(offset=-1)), BAD),
    "a negative stride": (torch_zip(tensor_pickle(stride=(-1,))), BAD),
    "a stride of 2**62": (torch_zip(tensor_pickle(stride=(1 << 62,))), BAD),
    "more axes than strides": (torch_zip(tensor_pickle(shape=(2, 2))), BAD),
    "2**60 elements by stride 0": (torch_zip(tensor_pickle(shape=(1 << 60,), stride=(0,))), BAD),
    "tensors in a list": (torch_zip(tensor_pickle(tail=b"X\x01\0\0\0b]" + tensor_pickle()[2:-1] + b"a")),
                          "pickle-nested-tensors"),
    "legacy: os.system": (legacy(calls(os.system, "true")), "pickle-runs-code"),
    "legacy: big-endian": (legacy(tensor_pickle(legacy=True), little=False), "torch-big-endian"),
    "legacy: cut in the head": (legacy(tensor_pickle(legacy=True))[:30], BAD),
    "legacy: cut in the data": (legacy(tensor_pickle(legacy=True))[:-1], "torch-truncated"),
    "legacy: no storages": (legacy(tensor_pickle(legacy=True), storages=b""), "input-cut-short"),
    "legacy: keys that are numbers": (legacy(tensor_pickle(legacy=True), keys=(1,)), BAD),
    "legacy: a storage of no tensor": (legacy(tensor_pickle(legacy=True), keys=("0", "1")), BAD),
    "legacy: a storage not listed": (legacy(tensor_pickle(legacy=True), keys=()), BAD),
    "legacy: 2**62 elements": (legacy(tensor_pickle(legacy=True), storages=struct.pack("<q", 1 << 62)),
                               "torch-truncated"),
}  # fmt: skip


def refused(path: Path) -> InputError:
    """The error for a file, found within a second and a bound of memory."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        with pytest.raises(InputError) as caught:
            open_tensors(path)
        seconds = time.process_time() - begun
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # tracemalloc itself makes Python some five times slower.
    assert seconds < 5
    assert peak < 64 * MIB
    return caught.value


@pytest.mark.parametrize(("content", "code"), SAFETENSORS.values(), ids=SAFETENSORS.keys())
def test_a_hostile_safetensors_file_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    error = refused(path)
    assert (error.code, error.exit_status, error.where) == (code, 4, str(path))
    assert error.hint is not None
    assert len(str(error)) < 600


@pytest.mark.parametrize(("content", "code"), TORCH.values(), ids=TORCH.keys())
def test_a_hostile_torch_file_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    error = refused(path)
    assert (error.code, error.exit_status, error.where) == (code, 4, str(path))
    assert error.hint is not None
    assert len(str(error)) < 600


def test_the_builders_make_sound_files_when_they_do_not_lie(tmp_path: Path) -> None:
    sound = {
        "a.safetensors": safetensors({"a": ENTRY}),
        "b.ckpt": torch_zip(tensor_pickle()),
        "c.ckpt": legacy(tensor_pickle(legacy=True)),
    }
    for name, content in sound.items():
        (tmp_path / name).write_bytes(content)
        with open_tensors(tmp_path / name) as file:
            assert list(file.tensors) == ["a"]
            assert not any(file.read("a"))


def test_a_sparse_file_with_a_huge_header_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 100_000_001))
    os.truncate(path, 1 << 34)
    assert refused(path).code == "safetensors-header-too-large"
