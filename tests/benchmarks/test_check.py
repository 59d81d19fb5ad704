"""The checks must see what they are for: a right result, a rounded one, a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks import asked
from benchmarks.check import check_concat, check_merge, check_resize, check_sweep
from benchmarks.layouts import Module
from lorapipe.recipe.parsing import parse

MODULES = [Module("lora_a", (12, 10), "a.weight", None), Module("lora_b", (6, 4, 3, 3), "b.weight", (6, 12))]
SHAPES = {"a.weight": (12, 10), "b.weight": (18, 4, 3, 3)}


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """A base, two LoRAs and the deltas behind them, all from numpy."""
    generator = np.random.default_rng(5)
    base = {key: generator.standard_normal(shape).astype(np.float16) for key, shape in SHAPES.items()}
    save_file(base, tmp_path / "base.safetensors")
    terms, deltas = [], {module.stem: np.zeros(module.shape) for module in MODULES}
    for name, rank, weight in (("x", 3, 0.5), ("y", 4, -2.0)):
        tensors = {}
        for module in MODULES:
            out, *into = module.shape
            up = generator.standard_normal((out, rank, *[1] * len(into[1:]))).astype(np.float16)
            down = generator.standard_normal((rank, *into)).astype(np.float16)
            tensors |= {f"{module.stem}.lora_up.weight": up, f"{module.stem}.lora_down.weight": down}
            tensors[f"{module.stem}.alpha"] = np.array(2.0, np.float16)
            product = np.einsum("or,r...->o...", up.reshape(out, rank).astype(float), down.astype(float))
            deltas[module.stem] += weight * 2 / rank * product
        save_file(tensors, tmp_path / f"{name}.safetensors")
        terms.append((tmp_path / f"{name}.safetensors", weight))
    return tmp_path, base, terms, deltas


def _merged(base: dict[str, Any], deltas: dict[str, Any]) -> dict[str, Any]:
    exact = {key: array.astype(np.float64) for key, array in base.items()}
    exact["a.weight"] = exact["a.weight"] + deltas["lora_a"]
    exact["b.weight"][6:12] += deltas["lora_b"]
    return exact


def test_a_merge_rounded_once_is_right_in_every_value(files: Any) -> None:
    folder, base, terms, deltas = files
    made = {key: array.astype(np.float16) for key, array in _merged(base, deltas).items()}
    save_file(made, folder / "out.safetensors")
    found = check_merge(folder / "out.safetensors", folder / "base.safetensors", terms, MODULES)
    assert found["exact"] == 1
    assert 5e-5 < found["error"] < 5e-4


def test_a_merge_with_one_weight_wrong_is_seen(files: Any) -> None:
    folder, base, terms, deltas = files
    made = {key: array.astype(np.float16) for key, array in _merged(base, deltas).items()}
    made["b.weight"][7, 0, 0, 0] += np.float16(1)
    save_file(made, folder / "out.safetensors")
    found = check_merge(folder / "out.safetensors", folder / "base.safetensors", terms, MODULES)
    assert found["exact"] == 1 - 1 / (120 + 216)
    assert found["error"] > 1e-2


def test_a_merge_that_left_the_base_alone_is_seen(files: Any) -> None:
    folder, _, terms, _ = files
    found = check_merge(folder / "base.safetensors", folder / "base.safetensors", terms, MODULES)
    assert found["error"] > 0.1


@pytest.fixture
def folders(tmp_path: Path) -> Any:
    """A model in two shards, PEFT's adapter of one of its tensors, and the exact sums."""
    generator = np.random.default_rng(7)
    base = {
        key: generator.standard_normal((12, 10)).astype(np.float16) for key in ("m.a.weight", "m.b.weight")
    }
    _sharded(tmp_path / "base", base)
    up, down = (generator.standard_normal(shape).astype(np.float32) for shape in ((12, 4), (4, 10)))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 6}))
    names = ("base_model.model.m.b.lora_B.weight", "base_model.model.m.b.lora_A.weight")
    save_file(dict(zip(names, (up, down), strict=True)), adapter / "adapter_model.safetensors")
    exact = base["m.b.weight"].astype(float) - 0.5 * 6 / 4 * (up.astype(float) @ down.astype(float))
    return tmp_path, base, exact


def _sharded(folder: Path, tensors: dict[str, Any]) -> None:
    folder.mkdir()
    places = {}
    for number, (key, array) in enumerate(tensors.items()):
        places[key] = f"part-{number}.safetensors"
        save_file({key: array}, folder / places[key])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


ADAPTED = [Module("m.b", (12, 10), "m.b.weight", None)]


def _found(folder: Path, out: str) -> dict[str, float]:
    return check_merge(folder / out, folder / "base", [(folder / "adapter", -0.5)], ADAPTED)


def test_a_merge_of_folders_rounded_once_is_right_in_every_value(folders: Any) -> None:
    folder, base, exact = folders
    _sharded(folder / "out", base | {"m.b.weight": exact.astype(np.float16)})
    found = _found(folder, "out")
    assert found["exact"] == 1
    assert 5e-5 < found["error"] < 5e-4


def test_a_value_that_is_wrong_in_a_folder_is_seen(folders: Any) -> None:
    folder, base, exact = folders
    made = exact.astype(np.float16)
    made[3, 4] += np.float16(1)
    _sharded(folder / "out", base | {"m.b.weight": made})
    found = _found(folder, "out")
    assert found["exact"] == 1 - 1 / 120
    assert found["error"] > 1e-2


def test_a_folder_that_lacks_a_tensor_or_that_nobody_added_to_is_seen(folders: Any) -> None:
    folder, base, _ = folders
    _sharded(folder / "out", {"m.a.weight": base["m.a.weight"]})
    assert np.isnan(_found(folder, "out")["error"])
    assert _found(folder, "base")["error"] > 0.1


def _factored(deltas: dict[str, Any], rank: int, factor: float = 1.0) -> dict[str, Any]:
    tensors = {}
    for module in MODULES:
        out, *into = module.shape
        U, S, Vh = np.linalg.svd(deltas[module.stem].reshape(out, -1), full_matrices=False)
        up, down = U[:, :rank] * S[:rank] * factor, Vh[:rank]
        tensors[f"{module.stem}.lora_up.weight"] = up.reshape(out, -1, *[1] * len(into[1:]))
        tensors[f"{module.stem}.lora_down.weight"] = np.ascontiguousarray(down).reshape(-1, *into)
        tensors[f"{module.stem}.alpha"] = np.array(float(len(down)))
    return tensors


def test_the_best_of_a_rank_is_the_optimum(files: Any) -> None:
    folder, _, terms, deltas = files
    save_file(_factored(deltas, 3), folder / "out.safetensors")
    found = check_resize(folder / "out.safetensors", terms, MODULES, 3)
    assert found["optimum"] == pytest.approx(1, abs=1e-9)
    assert found["error"] > 0.01


def test_less_than_the_best_is_above_the_optimum(files: Any) -> None:
    folder, _, terms, deltas = files
    save_file(_factored(deltas, 2), folder / "out.safetensors")
    assert check_resize(folder / "out.safetensors", terms, MODULES, 3)["optimum"] > 1.05


@pytest.mark.parametrize(("factor", "error"), [(1.0, 0.0), (0.5, 0.5), (-1.0, 2.0)])
def test_the_error_of_a_concat_is_relative_to_the_sum(files: Any, factor: float, error: float) -> None:
    folder, _, terms, deltas = files
    save_file(_factored(deltas, 7, factor), folder / "out.safetensors")
    found = check_concat(folder / "out.safetensors", terms, MODULES)
    assert found["error"] == pytest.approx(error, abs=1e-12)


def test_of_a_sweep_the_worst_variant_counts(files: Any) -> None:
    folder, _, terms, deltas = files
    (first, weight), second = terms
    alone = _first_deltas(files)
    (folder / "out").mkdir()
    for strength in (weight, 1.0):
        summed = {stem: deltas[stem] + (strength - weight) * alone[stem] for stem in deltas}
        for rank in (2, 3):
            made = _factored(summed, rank, factor=1.01 if (strength, rank) == (1.0, 3) else 1.0)
            save_file(made, folder / "out" / f"s{strength}-r{rank}.safetensors")
    variants = [(strength, rank) for strength in (weight, 1.0) for rank in (2, 3)]
    found = check_sweep(folder / "out", terms, MODULES, variants[:3])
    assert found["optimum"] == pytest.approx(1, abs=1e-9)
    assert found["error"] == max(
        check_resize(folder / "out" / f"s{s}-r{r}.safetensors", [(first, s), second], MODULES, r)["error"]
        for s, r in variants[:3]
    )
    assert check_sweep(folder / "out", terms, MODULES, variants)["optimum"] > 1.00001


def _first_deltas(files: Any) -> dict[str, Any]:
    """The deltas of the first LoRA, at strength 1."""
    tensors = load_file(files[2][0][0])
    found = {}
    for module in MODULES:
        up, down = (tensors[f"{module.stem}.lora_{part}.weight"].astype(float) for part in ("up", "down"))
        product = up.reshape(len(up), -1) @ down.reshape(len(down), -1)
        found[module.stem] = (2 / len(down) * product).reshape(module.shape)
    return found


def test_the_recipe_of_a_sweep_has_every_strength_with_every_rank(files: Any) -> None:
    recipe = parse(asked.sweep(files[2], (0.4, 1.0), (4, 8, 16)))
    assert [step.params["to"] for step in recipe.steps.values() if step.kind == "save"] == [
        f"out/s{strength}-r{rank}.safetensors" for strength in (0.4, 1.0) for rank in (4, 8, 16)
    ]
    weights = [[t.weight for t in step.terms()] for step in recipe.steps.values() if step.kind == "concat"]
    assert weights == [[0.4, -2.0], [1.0, -2.0]]
