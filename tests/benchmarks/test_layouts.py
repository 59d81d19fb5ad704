from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.layouts import modules, shrunk, tensors

COUNTS = {"sd15": (1131, 2132471230, 264, 352), "sdxl": (2515, 6937676352, 986, 1054)}
SIZES = {"F16": 2, "F32": 4, "I64": 8}


@pytest.mark.parametrize("layout", COUNTS)
def test_tables_hold_every_tensor_of_the_published_file(layout: str) -> None:
    known = tensors(layout)
    total = 0
    for tensor in known.values():
        size = SIZES[tensor.dtype]
        for axis in tensor.shape:
            size *= axis
        total += size
    assert (len(known), total) == COUNTS[layout][:2]


@pytest.mark.parametrize("layout", COUNTS)
def test_tables_are_the_reference_layout(layout: str, shared: Callable[[str], Path]) -> None:
    reference = json.loads(shared(f"layouts/{layout}.json").read_text())["tensors"]
    assert {key: [list(t.shape), t.dtype] for key, t in tensors(layout).items()} == reference


@pytest.mark.parametrize("layout", COUNTS)
def test_attention_modules_are_the_ones_that_kohya_trains_by_default(
    layout: str, shared: Callable[[str], Path]
) -> None:
    reference = json.loads(shared(f"layouts/{layout}.lora-map.json").read_text())["modules"]
    wanted = {
        stem: (key, tuple(shape), tuple(rows[0]) if rows else None)
        for stem, (key, shape, _, flag, *rows) in reference.items()
        if not flag
    }
    found = {module.stem: (module.key, module.shape, module.rows) for module in modules(layout, "attention")}
    assert found == wanted


def test_the_llama_has_the_tensors_and_bytes_that_its_table_claims() -> None:
    known = tensors("llama")
    total = sum(2 * math.prod(tensor.shape) for tensor in known.values())
    assert (len(known), total) == (363, 1074956288)
    assert {tensor.dtype for tensor in known.values()} == {"F16"}


def test_the_llamas_first_layers_are_named_as_those_of_a_published_one(shared: Callable[[str], Path]) -> None:
    reference = json.loads(shared("layouts/llama31-8b.json").read_text())["tensors"]
    assert {key for key in tensors("llama") if _layer(key) < 32} == set(reference)


def test_the_llamas_modules_are_the_ones_that_peft_names(shared: Callable[[str], Path]) -> None:
    reference = json.loads(shared("layouts/llama31-8b.lora-map.json").read_text())["modules"]
    wanted = {stem.removeprefix("base_model.model."): key for stem, (key, *_) in reference.items()}
    found = modules("llama", "projections")
    assert len(found) == 280
    assert {module.stem: module.key for module in found if _layer(module.key) < 32} == wanted


def test_the_llamas_modules_are_whole_tensors() -> None:
    known = tensors("llama", divide=16)
    for module in modules("llama", "projections", divide=16):
        assert (module.shape, module.rows) == (known[module.key].shape, None)


def _layer(key: str) -> int:
    return int(key.split(".")[2]) if key.startswith("model.layers.") else 0


@pytest.mark.parametrize("layout", COUNTS)
def test_counts_of_modules_are_those_that_the_titles_give(layout: str) -> None:
    counted = tuple(len(modules(layout, kind)) for kind in ("attention", "convolution"))
    assert counted == COUNTS[layout][2:]


@pytest.mark.parametrize("layout", COUNTS)
@pytest.mark.parametrize("divide", [1, 16])
def test_every_module_fits_into_its_tensor(layout: str, divide: int) -> None:
    known = tensors(layout, divide=divide)
    for module in modules(layout, "convolution", divide=divide):
        shape = known[module.key].shape
        first, end = module.rows or (0, shape[0])
        assert module.shape == (end - first, *shape[1:])
        assert 0 <= first < end <= shape[0]


def test_a_smaller_model_has_the_same_names_and_kernels() -> None:
    small, full = tensors("sd15", divide=16), tensors("sd15")
    assert list(small) == list(full)
    assert all(len(small[key].shape) == len(full[key].shape) for key in full)
    assert shrunk((320, 4, 3, 3), 16) == (20, 4, 3, 3)
    assert shrunk((5,), 16) == (1,)


def test_parts_of_a_model_lie_in_each_other() -> None:
    parts = [tensors("sdxl", every=every) for every in (8, 4, 2, 1)]
    for smaller, larger in itertools.pairwise(parts):
        assert smaller.items() <= larger.items()
        assert abs(2 * len(smaller) - len(larger)) <= 2


def test_modules_of_a_part_are_those_whose_tensor_is_in_it() -> None:
    part = tensors("sdxl", every=4)
    everything = modules("sdxl", "attention")
    assert modules("sdxl", "attention", every=4) == [m for m in everything if m.key in part]
