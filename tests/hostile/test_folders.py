"""Folders that lie: every file, index and config of one that no honest program writes, and its error."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lorapipe.errors import InputError, ManyErrors
from lorapipe.formats.files import open_tensors

from .builders import ENTRY, safetensors

MIB = 1 << 20
INDEX = "model.safetensors.index.json"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
WEIGHTS = safetensors({"a": ENTRY})
SOUND: Mapping[str, str] = {"a": ONE, "b": TWO}

Files = dict[str, bytes]


def holding(*names: str) -> bytes:
    """A file of tensors of one number each."""
    header = {name: {**ENTRY, "data_offsets": [4 * i, 4 * i + 4]} for i, name in enumerate(names)}
    return safetensors(header, bytes(4 * len(names)))


def index(weight_map: object, **more: object) -> bytes:
    return json.dumps({"metadata": {"total_size": 8}, "weight_map": weight_map, **more}).encode()


def sharded(weight_map: object = SOUND, **changed: bytes) -> Files:
    """Two shards with a tensor each, and an index, which may say otherwise."""
    return {ONE: holding("a"), TWO: holding("b"), INDEX: index(weight_map), **changed}


def raw_index(content: bytes) -> Files:
    return {**sharded(), INDEX: content}


def adapter(config: bytes) -> Files:
    return {"adapter_model.safetensors": WEIGHTS, "adapter_config.json": config}


FOLDERS: Mapping[str, tuple[Files, str]] = {
    "an empty folder": ({}, "folder-without-weights"),
    "an empty index": (raw_index(b""), "index-not-json"),
    "an index that is a list": (raw_index(b"[]"), "index-not-json"),
    "an index cut short": (raw_index(index(SOUND)[:-1]), "index-not-json"),
    "an index that is no UTF-8": (raw_index(b"\xff" + index(SOUND)), "index-not-json"),
    "an index with NaN": (raw_index(b'{"weight_map": NaN}'), "index-not-json"),
    "an index nested 100,000 deep": (raw_index(b'{"weight_map":' + b"[" * 100_000), "index-not-json"),
    "an index of two weight_maps": (raw_index(b'{"weight_map": {}, "weight_map": {}}'), "index-not-json"),
    "a tensor twice": (raw_index(b'{"weight_map": {"a": "x.bin", "a": "y.bin"}}'), "index-not-json"),
    "a web page": (raw_index(b"<!DOCTYPE html>"), "index-not-json"),
    "a git-lfs pointer": (raw_index(b"version https://git-lfs.github.com/spec/v1\n"), "index-not-json"),
    "no weight_map": (raw_index(b"{}"), "index-malformed"),
    "an empty weight_map": (sharded({}), "index-malformed"),
    "a weight_map that is a list": (sharded(["a", "b"]), "index-malformed"),
    "a file that is a number": (sharded({"a": 1}), "index-malformed"),
    "a file that is a list of files": (sharded({"a": [ONE, TWO]}), "index-malformed"),
    "a file that is null": (sharded({"a": None}), "index-malformed"),
    "an absolute path": (sharded({"a": "/etc/passwd"}), "index-names-outside"),
    "an absolute path to weights": (sharded({"a": "/m.safetensors"}), "index-names-outside"),
    "a path upwards": (sharded({"a": "../outside.safetensors"}), "index-names-outside"),
    "a path up and down": (sharded({"a": f"x/../{ONE}"}), "index-names-outside"),
    "a path of a strange system": (sharded({"a": "..\\outside.safetensors"}), "index-names-outside"),
    "an empty name": (sharded({"a": ""}), "index-names-outside"),
    "a dot": (sharded({"a": "."}), "index-names-outside"),
    "a name with NUL": (sharded({"a": f"{ONE}\0"}), "index-names-outside"),
    "a config as a shard": ({**sharded({"a": "config.json"}), "config.json": b"{}"},
                            "index-names-no-weights"),
    "the index as a shard": (sharded({"a": INDEX}), "index-names-no-weights"),
    "a name without suffix": (sharded({"a": "model"}), "index-names-no-weights"),
    "a shard that is missing": (sharded({"a": ONE, "b": "model-00003.safetensors"}), "shards-missing"),
    "a shard that is a folder": ({**sharded({"a": "x.safetensors"}), "x.safetensors/y": b""},
                                 "shards-missing"),
    "a very long name": (sharded({"a": "x" * 300 + ".safetensors"}), "shards-missing"),
    "a shard under two names": (sharded({"a": ONE, "b": f"./{ONE}"}), "index-names-twice"),
    "a shard with two slashes": ({**sharded({"a": "s/x.safetensors", "b": "s//x.safetensors"}),
                                  "s/x.safetensors": WEIGHTS}, "index-names-twice"),
    "a tensor that its shard has not": (sharded({**SOUND, "c": ONE}), "tensors-not-in-shard"),
    "a tensor that the index has not": ({**sharded(), ONE: holding("a", "c")}, "tensors-not-in-index"),
    "a tensor in two shards": ({**sharded(), TWO: holding("b", "a")}, "tensors-not-in-index"),
    "no index": ({ONE: holding("a"), TWO: holding("b")}, "index-missing"),
    "a shard that is cut short": ({**sharded(), ONE: WEIGHTS[:-1]}, "safetensors-truncated"),
    "a shard that is a web page": ({**sharded(), ONE: b"<html></html>"}, "input-html"),
    "a shard that is a git-lfs pointer": ({**sharded(), ONE: b"version https://git-lfs.github.com/spec/v1\n"},
                                          "input-lfs-pointer"),
    "a shard of another format": ({**sharded({"a": "x.bin"}), "x.bin": WEIGHTS}, "input-other-format"),
    "a model and its shards": ({**sharded(), "model.safetensors": WEIGHTS}, "several-weights"),
    "a config without an adapter": ({"adapter_config.json": b"{}"}, "folder-without-weights"),
    "a config that is a list": (adapter(b"[]"), "config-not-json"),
    "a config cut short": (adapter(b'{"r": 8'), "config-not-json"),
    "a config with a key twice": (adapter(b'{"r": 8, "r": 4}'), "config-not-json"),
    "a config of 17 MB": (adapter(b'{"r": "' + b"8" * (17 * MIB) + b'"}'), "config-too-large"),
    "a component without weights": ({"model_index.json": b'{"unet": ["diffusers", "UNet"]}',
                                     "unet/config.json": b"{}"}, "component-without-weights"),
    "a pipeline's index that is a list": ({"model_index.json": b"[]", "unet/x.safetensors": WEIGHTS},
                                          "config-not-json"),
    "a component's index upwards": ({"model_index.json": b"{}", "unet/config.json": b"{}",
                                     f"unet/{INDEX}": index({"a": "../m.safetensors"}),
                                     "m.safetensors": WEIGHTS}, "index-names-outside"),
}  # fmt: skip


def placed(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def refused(path: Path) -> InputError:
    """The error for a folder, or the first of several, found within seconds and a bound of memory."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        with pytest.raises((InputError, ManyErrors)) as caught:
            open_tensors(path)
        seconds = time.process_time() - begun
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seconds < 5
    assert peak < 64 * MIB
    error = caught.value.parts[0]
    assert isinstance(error, InputError)
    return error


@pytest.mark.parametrize(("files", "code"), FOLDERS.values(), ids=FOLDERS.keys())
def test_a_hostile_folder_is_refused(tmp_path: Path, files: Files, code: str) -> None:
    folder = placed(tmp_path / "m", files)
    (tmp_path / "outside.safetensors").write_bytes(WEIGHTS)
    error = refused(folder)
    assert (error.code, error.exit_status) == (code, 4)
    assert str(error.where).startswith(str(folder))
    assert error.hint is not None
    assert len(str(error)) < 800


def test_the_builder_makes_a_sound_folder_when_it_does_not_lie(tmp_path: Path) -> None:
    with open_tensors(placed(tmp_path / "m", sharded())) as source:
        assert list(source.tensors) == ["a", "b"]
        assert not any(source.read("b"))


LINKS: Mapping[str, Callable[[Path], None]] = {
    "a shard out of the folder": lambda m: relink(m / ONE, m.parent / "outside.safetensors"),
    "a shard by a relative path": lambda m: relink(m / ONE, Path("../outside.safetensors")),
    "the index": lambda m: relink(m / INDEX, m.parent / "outside.json"),
    "a tokenizer": lambda m: relink(m / "tokenizer.json", m.parent / "outside.json"),
    "a licence": lambda m: relink(m / "LICENSE", Path("/etc/passwd")),
    "a folder": lambda m: relink(m / "extra", m.parent),
    "the folder itself": lambda m: relink(m / "loop", m),
    "nothing": lambda m: relink(m / "x.json", Path("nothing")),
    "itself": lambda m: relink(m / "x.json", Path("x.json")),
}


def relink(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS.keys())
def test_a_link_that_leads_out_of_a_folder_is_not_followed(
    tmp_path: Path, link: Callable[[Path], None]
) -> None:
    folder = placed(tmp_path / "m", sharded())
    (tmp_path / "outside.safetensors").write_bytes(holding("a"))
    (tmp_path / "outside.json").write_bytes(index(SOUND))
    link(folder)
    assert refused(folder).code == "folder-link"


def test_a_shard_linked_to_another_is_one_file_under_two_names(tmp_path: Path) -> None:
    folder = placed(tmp_path / "m", sharded())
    relink(folder / TWO, Path(ONE))
    assert refused(folder).code == "index-names-twice"
    (folder / TWO).unlink()
    os.link(folder / ONE, folder / TWO)
    assert refused(folder).code == "index-names-twice"


def test_a_sparse_index_of_terabytes_costs_nothing(tmp_path: Path) -> None:
    folder = placed(tmp_path / "m", sharded())
    os.truncate(folder / INDEX, 1 << 40)
    assert refused(folder).code == "index-too-large"


def test_an_index_of_a_million_missing_files_is_counted_in_one_line(tmp_path: Path) -> None:
    weight_map = {f"t{i}": f"{i}.safetensors" for i in range(20_000)}
    error = refused(placed(tmp_path / "m", sharded(weight_map)))
    assert error.code == "shards-missing"
    assert error.message.startswith("20000 of 20000 files that the index names are missing: ")
    assert error.message.endswith(" and 19997 more")
