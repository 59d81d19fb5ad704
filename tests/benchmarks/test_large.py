"""Large models by their layouts, and what a plan of each costs at full size."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from benchmarks.large import LARGE, Size, make_adapter, make_model
from benchmarks.layouts import tensors
from benchmarks.making import size

ROOT = Path(__file__).parents[2]
SMALL = Size(layers=1, divide=64)
RECIPE = """lorapipe: 1
steps:
  base: {load: %s/}
  lora: {load: %s}
  merged: {merge-into-checkpoint: base, loras: lora}
  out: {save: merged, to: out/}
"""
RELEASED = {"llama-70b": (723, 141_107_412_992, 30), "qwen-image": (1933, 40_860_802_176, 9),
            "wan-14b": (1095, 57_153_966_336, 6)}  # fmt: skip
"""Tensors, bytes of data, and shards of each as it was released."""

TRAINED = {"llama-70b": 560, "qwen-image": 720, "wan-14b": 400}


@pytest.mark.parametrize("name", RELEASED)
def test_a_layout_has_the_tensors_and_bytes_of_the_release(name: str) -> None:
    known = tensors(name)
    assert (len(known), sum(map(size, known.values()))) == RELEASED[name][:2]


@pytest.mark.parametrize(("name", "reference"), [("qwen-image", "qwen-image"), ("wan-14b", "wan21-14b-t2v")])
def test_layouts_and_trained_modules_are_those_of_the_reference(
    name: str, reference: str, shared: Callable[[str], Path], tmp_path: Path
) -> None:
    layout = json.loads(shared(f"layouts/{reference}.json").read_text())["tensors"]
    assert {key: list(t.shape) for key, t in tensors(name).items()} == {k: s for k, (s, _) in layout.items()}
    modules = json.loads(shared(f"layouts/{reference}.lora-map.json").read_text())["modules"]
    wanted = {stem for stem in modules if "_mod_" not in stem}  # which musubi leaves out by default
    with safe_open(make_adapter(tmp_path, name, 4), "numpy") as file:
        assert {key.partition(".")[0] for key in file.keys()} == wanted  # noqa: SIM118  # it is no mapping


def test_the_llamas_layers_are_named_as_those_of_a_published_one(shared: Callable[[str], Path]) -> None:
    reference = json.loads(shared("layouts/llama31-8b.json").read_text())["tensors"]
    first = {key for key in tensors("llama-70b") if int((re.findall(r"layers\.(\d+)", key) or [0])[0]) < 32}
    assert first == set(reference)


@pytest.mark.parametrize("name", LARGE)
def test_a_whole_model_takes_no_room_and_is_planned_in_a_moment(name: str, tmp_path: Path) -> None:
    """The whole command, Python's start and all; it takes half a second, on a busy machine more."""
    model, lora = make_model(tmp_path, name), make_adapter(tmp_path, name, 16)
    files = list(model.rglob("*.safetensors"))
    count, nbytes, shards = RELEASED[name]
    assert len(files) == shards
    assert sum(path.stat().st_size for path in files) > nbytes
    assert sum(path.stat().st_blocks for path in tmp_path.rglob("*")) * 512 < 2 << 20
    (tmp_path / "r.yaml").write_text(RECIPE % (model.name, lora.name))
    argv = (sys.executable, "-m", "lorapipe", "plan", "--json", "r.yaml")
    env = {"LORAPIPE_STORE": str(tmp_path / "store"), "PYTHONPATH": str(ROOT)}

    # By a process apart: the kernel counts a process's peak from that of the one which started it.
    given = f"{argv}, folder=Path({str(tmp_path)!r}), env={env}"
    code = f"from pathlib import Path; from benchmarks.measure import measure; cost = measure({given})"
    code += "; print(cost.peak, cost.cpu)"
    apart = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    told = json.loads((tmp_path / "said.txt").read_text())
    steps = {step["id"]: step for step in told["steps"]}
    assert steps["base"]["result"]["tensors"] == count
    assert steps["lora"]["result"]["modules"] == steps["merged"]["result"]["touched"] == TRAINED[name]
    assert nbytes < steps["out"]["cost"]["written"] < nbytes * 1.001
    assert steps["base"]["cost"]["read"] == steps["base"]["file"]["size"]
    assert 100 << 20 < steps["out"]["cost"]["peak"] < 512 << 20
    short = shutil.disk_usage(tmp_path).free < nbytes
    assert any("bytes free, the outputs take" in text for text in told["warnings"]) == short
    peak, cpu = map(float, apart.stdout.split())
    assert peak < 200 << 20
    assert cpu < 6


@pytest.mark.parametrize("name", LARGE)
def test_a_part_of_a_model_has_numbers_and_as_many_shards(name: str, tmp_path: Path) -> None:
    model, lora = (
        make_model(tmp_path, name, SMALL, empty=False),
        make_adapter(tmp_path, name, 2, SMALL, empty=False),
    )
    (index,) = model.rglob("*.index.json")
    places = json.loads(index.read_text())["weight_map"]
    shards = [_loaded(index.parent / file) for file in set(places.values())]
    held = {key: array for shard in shards for key, array in shard.items()}
    assert set(held) == set(places)
    assert not any(re.search(r"(layers|blocks)\.[1-9]", key) for key in held)
    assert 2 < len(shards) <= RELEASED[name][2]
    assert all(np.count_nonzero(array) for array in held.values())
    factors = _loaded(lora / "adapter_model.safetensors" if lora.is_dir() else lora)
    ups = [array for key, array in factors.items() if re.search(r"lora_(B|up)", key)]
    assert ups
    assert all(array.shape[1] == 2 and np.count_nonzero(array) for array in ups)


def _loaded(path: Path) -> dict[str, Any]:
    """The tensors of a file by the safetensors library; bf16, which numpy has not, by torch."""
    try:
        return load_file(path)
    except TypeError:
        from safetensors.torch import load_file as load

        return {key: tensor.float().numpy() for key, tensor in load(path).items()}


def test_bf16_is_rounded_to_nearest_even_as_torch_does(tmp_path: Path) -> None:
    import torch

    from benchmarks.layouts import Tensor
    from benchmarks.making import written

    numbers = np.array([1.0, 1.00390625, 1.01171875, -2.5e-40, 3.3e38, 0.1], "float32")
    path = written(tmp_path / "a.safetensors", [Tensor("a", "BF16", (6,))], {}, lambda tensor: numbers)
    from safetensors.torch import load_file as load

    assert torch.equal(load(path)["a"], torch.tensor(numbers).to(torch.bfloat16))


def test_files_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    first = make_model(tmp_path, "wan-14b", SMALL)
    before = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    time.sleep(0.02)
    assert make_model(tmp_path, "wan-14b", SMALL) == first
    assert {path.name: path.stat().st_mtime_ns for path in first.iterdir()} == before
