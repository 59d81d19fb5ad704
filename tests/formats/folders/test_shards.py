"""Shards and their index: read with suspicion, written as huggingface_hub does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import InputError, ManyErrors
from lorapipe.formats.folders.listing import LocalFolder
from lorapipe.formats.folders.shards import (
    INDEX_LIMIT,
    Index,
    check_shards,
    index_text,
    read_index,
    shards_of,
)
from lorapipe.weights.specs import TensorSpec

from ..model_folders import hf_tensors, index_of, shards


def specs(*sizes: int) -> dict[str, TensorSpec]:
    return {f"t{i}": TensorSpec("U8", (size,)) for i, size in enumerate(sizes)}


def test_an_index_gives_the_tensors_of_each_file_in_the_order_of_files(tmp_path: Path) -> None:
    weight_map = shards(tmp_path, hf_tensors(5), 2)
    names = list(weight_map)

    found = read_index(LocalFolder(tmp_path), "model.safetensors.index.json")

    assert list(found.files) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert {t: file for file, held in found.files.items() for t in held} == weight_map
    assert set(names) == set(hf_tensors(5))


def test_files_in_folders_below_and_plain_spellings_are_fine(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.safetensors", "sub/b.safetensors"):
        (tmp_path / name).touch()
    index_of(tmp_path, {"x": "./a.safetensors", "y": "sub//b.safetensors"})

    found = read_index(LocalFolder(tmp_path), "model.safetensors.index.json")

    assert dict(found.files) == {"a.safetensors": ("x",), "sub/b.safetensors": ("y",)}


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_index(LocalFolder(path.parent), path.name)
    return caught.value


def test_missing_shards_are_counted_and_named(tmp_path: Path) -> None:
    weight_map = {f"t{i}": f"model-{i:05d}-of-00006.safetensors" for i in range(1, 7)}
    (tmp_path / "model-00002-of-00006.safetensors").touch()
    path = index_of(tmp_path, weight_map)

    assert str(refused(path)) == (
        f"{path}: error: 5 of 6 files that the index names are missing: model-00001-of-00006.safetensors, "
        "model-00003-of-00006.safetensors, model-00004-of-00006.safetensors and 2 more"
        " - download the folder again, whole"
    )


def test_faults_of_several_sorts_come_in_one_pass(tmp_path: Path) -> None:
    path = index_of(tmp_path, {"a": "../a.safetensors", "b": "b.safetensors", "c": "config.json"})
    with pytest.raises(ManyErrors) as caught:
        read_index(LocalFolder(path.parent), path.name)
    codes = [error.code for error in caught.value.errors]
    assert codes == ["index-names-outside", "shards-missing", "index-names-no-weights"]


def test_an_index_of_more_than_any_model_has_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    with path.open("wb") as file:
        file.truncate(INDEX_LIMIT + 1)
    assert refused(path).code == "index-too-large"


def index(**files: str) -> Index:
    return Index(
        Path("model.safetensors.index.json"),
        {f"{name}.safetensors": tuple(held.split()) for name, held in files.items()},
    )


def test_shards_that_hold_what_the_index_says_pass() -> None:
    check_shards(index(a="x y", b="z"), {"a.safetensors": ["y", "x"], "b.safetensors": ["z"]})


def test_a_tensor_that_is_not_where_the_index_says_is_named_with_the_file() -> None:
    with pytest.raises(InputError) as caught:
        check_shards(index(a="x y", b="z"), {"a.safetensors": ["x"], "b.safetensors": ["z"]})
    assert str(caught.value) == (
        "model.safetensors.index.json: error: 1 tensor that the index puts into a file that has no such: "
        "y (a.safetensors) - download the folder again, whole"
    )


def test_a_tensor_that_the_index_does_not_have_is_named_with_the_file() -> None:
    with pytest.raises(InputError) as caught:
        check_shards(index(a="x"), {"a.safetensors": ["x", "y", "z"]})
    assert str(caught.value) == (
        "model.safetensors.index.json: error: 2 tensors in a file without being there by the index: "
        "y (a.safetensors), z (a.safetensors) - the program that wrote the index is at fault"
    )


def test_a_tensor_in_two_shards_is_refused_whatever_the_index_says() -> None:
    with pytest.raises(InputError) as caught:
        check_shards(index(a="x", b="y"), {"a.safetensors": ["x", "y"], "b.safetensors": ["y"]})
    assert caught.value.code == "tensors-not-in-index"


def test_a_tensor_in_the_wrong_shard_is_both() -> None:
    with pytest.raises(ManyErrors) as caught:
        check_shards(index(a="x", b="y"), {"a.safetensors": ["y"], "b.safetensors": ["x"]})
    assert [error.code for error in caught.value.errors] == ["tensors-not-in-shard", "tensors-not-in-index"]


@pytest.mark.parametrize(
    ("sizes", "most", "files"),
    [
        ((1, 2, 3), 10, {"m.safetensors": ("t0", "t1", "t2")}),
        ((1, 2, 3), 6, {"m.safetensors": ("t0", "t1", "t2")}),
        (
            (1, 2, 3),
            5,
            {"m-00001-of-00002.safetensors": ("t0", "t1"), "m-00002-of-00002.safetensors": ("t2",)},
        ),
        (
            (1, 9, 1),
            5,
            {
                "m-00001-of-00003.safetensors": ("t0",),
                "m-00002-of-00003.safetensors": ("t1",),
                "m-00003-of-00003.safetensors": ("t2",),
            },
        ),
    ],
)
def test_a_shard_is_full_when_the_next_tensor_does_not_fit(
    sizes: tuple[int, ...], most: int, files: dict[str, tuple[str, ...]]
) -> None:
    assert shards_of(specs(*sizes), "m", most) == files


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.integers(1, 40))
def test_shards_keep_the_order_and_no_two_neighbours_would_fit_into_one(sizes: list[int], most: int) -> None:
    tensors = specs(*sizes)
    files = shards_of(tensors, "m", most)
    assert [name for held in files.values() for name in held] == list(tensors)
    held = [sum(tensors[name].nbytes for name in names) for names in files.values()]
    assert all(size <= most or len(names) == 1 for size, names in zip(held, files.values(), strict=True))
    firsts = [tensors[names[0]].nbytes for names in files.values()]
    assert all(size + following > most for size, following in zip(held, firsts[1:], strict=False))
    assert list(files) == sorted(files)


def test_the_index_is_as_huggingface_hub_writes_it() -> None:
    text = index_text({"a.safetensors": ["y", "x"], "b.safetensors": ["é"]}, 12)
    written = {
        "metadata": {"total_size": 12},
        "weight_map": {"x": "a.safetensors", "y": "a.safetensors", "é": "b.safetensors"},
    }
    assert json.loads(text) == written
    assert text.decode() == json.dumps(written, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_what_is_written_as_an_index_is_read_as_one(tmp_path: Path) -> None:
    files = shards_of(specs(1, 2, 3, 4), "model", 4)
    for name in files:
        (tmp_path / name).touch()
    (tmp_path / "model.safetensors.index.json").write_bytes(index_text(files, 10))

    assert dict(read_index(LocalFolder(tmp_path), "model.safetensors.index.json").files) == files
