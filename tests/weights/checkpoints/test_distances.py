"""Distances of checkpoints, a few rows at a time and in any layout, held against numpy's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from lorapipe.build.engines.threads import ordered_map
from lorapipe.weights.checkpoints import distances as module
from lorapipe.weights.checkpoints.checkpoint import Checkpoint
from lorapipe.weights.checkpoints.distances import comparable, distances, unequal
from lorapipe.weights.specs import Place
from tests.weights.samples import LINEAR, Memory, checkpoint_spec, to_numpy

from .test_quantised import model as scaled_model

Weights = dict[str, torch.Tensor]
SHAPES = {"a": (12, 10), "conv": (9, 5, 3, 3), "bias": (7,), "scale": (), "empty": (0, 4)}


def weights(seed: int = 3, dtype: torch.dtype = torch.float32) -> Weights:
    rng = np.random.default_rng(seed)
    held = {key: torch.from_numpy(np.array(rng.standard_normal(s))).to(dtype) for key, s in SHAPES.items()}
    return {**held, "ids": torch.arange(5)}


def model(held: Weights, places: Mapping[str, tuple[Place, ...]] | None = None) -> Checkpoint:
    source = Memory(held)
    spec = checkpoint_spec(source)
    return Checkpoint(spec if places is None else replace(spec, keys=dict(places)), source)


def expected(a: torch.Tensor, b: torch.Tensor) -> list[float]:
    x, y = to_numpy(a).ravel(), to_numpy(b).ravel()
    return [float(np.linalg.norm(v)) for v in (x, y, x - y)]


def found(one: Checkpoint, two: Checkpoint) -> dict[str, list[float]]:
    return {key: [d.old, d.new, d.apart] for key, d in distances(one, two).items()}


@pytest.mark.parametrize("rows", [1, 30, 10**9])
@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("float16", "bfloat16"), ("float64", "float16")])
def test_each_weight_is_as_far_as_its_values(
    rows: int, dtypes: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPERATED_ELEMENTS", rows)
    one, two = (weights(n, getattr(torch, dtype)) for n, dtype in enumerate(dtypes))
    numbers = found(model(one), model(two))
    assert numbers.keys() == SHAPES.keys()
    for key, values in numbers.items():
        assert values == pytest.approx(expected(one[key], two[key]), rel=1e-12), key


def test_what_has_the_same_bytes_is_read_and_not_subtracted() -> None:
    one = weights()
    two = {**one, "a": one["a"] + 1.0}
    numbers = found(model(one), model(two))
    assert numbers["a"] == pytest.approx(expected(one["a"], two["a"]))
    assert {key for key, (_, _, apart) in numbers.items() if apart} == {"a"}
    assert (
        numbers["conv"][0]
        == numbers["conv"][1]
        == pytest.approx(float(np.linalg.norm(to_numpy(one["conv"]))))
    )


def test_nan_is_as_far_as_can_be_unless_it_stands_in_both() -> None:
    one = weights()
    one["a"][3, 3] = torch.nan
    assert found(model(one), model({**one}))["a"][2] == 0.0
    assert found(model(one), model(weights(5)))["a"][2] == float("inf")
    assert found(model(weights(5)), model(one))["a"][2] == float("inf")


def test_weights_that_one_keeps_apart_or_turned_are_the_same_weights() -> None:
    whole = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 5)))
    fused = model({"qk": whole, "t": whole.T.contiguous()})
    fused = replace(fused, spec=replace(fused.spec, keys={"qk": (Place("qk"),), "t": (Place("t"),)}))
    apart = model(
        {"q": whole[:2].contiguous(), "k": whole[2:].contiguous(), "turned": whole},
        {"qk": (Place("q", (0, 2)), Place("k", (2, 6))), "t": (Place("turned", transposed=True),)},
    )
    for one, two in ((fused, apart), (apart, fused), (apart, apart)):
        numbers = found(one, two)
        assert set(numbers) == {"qk", "t"}
        size = pytest.approx(float(torch.linalg.vector_norm(whole)))
        assert all(values == [size, size, 0.0] for values in numbers.values())


def test_weights_of_another_shape_are_not_compared() -> None:
    one, two = weights(), weights()
    two["a"] = torch.zeros(12, 9)
    two["conv"] = torch.zeros(9, 5, 1, 1)
    assert set(comparable(model(one).spec, model(two).spec)) == {"bias", "scale", "empty", "ids"}
    assert "a" not in found(model(one), model(two))


def test_a_kernel_of_one_is_no_other_shape() -> None:
    value = torch.randn(4, 3)
    numbers = found(model({"x": value}), model({"x": value[:, :, None, None].contiguous()}))
    assert numbers["x"] == [*[pytest.approx(float(torch.linalg.vector_norm(value)))] * 2, 0.0]


def test_whole_numbers_have_no_distance_and_are_told_where_they_are_others() -> None:
    one, two = weights(), weights()
    assert unequal(model(one), model(two)) == ()
    two["ids"] = torch.arange(5) + 1
    assert unequal(model(one), model(two)) == ("ids",)
    assert "ids" not in found(model(one), model(two))


def test_scaled_fp8_is_multiplied_out() -> None:
    one, true = scaled_model("grid")
    plain = model({LINEAR.key: torch.from_numpy(true)})
    size = float(np.linalg.norm(true))
    for numbers in (found(one, one), found(one, plain), found(plain, one)):
        assert numbers[LINEAR.key] == pytest.approx([size, size, 0.0], rel=1e-12, abs=1e-9)
        assert numbers.keys() == {LINEAR.key}


def test_workers_change_nothing() -> None:
    one, two = model(weights(1)), model(weights(2))
    assert distances(one, two, each=ordered_map(3)) == distances(one, two)
