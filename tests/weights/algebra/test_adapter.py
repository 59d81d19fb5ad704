"""A value is held against the spec that was inferred for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lorapipe.errors import LorapipeError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.specs import FileSpec, Form, TensorSpec
from tests.weights.samples import CONV, LINEAR, adapter, delta


def test_a_value_that_keeps_its_spec_passes() -> None:
    value = adapter(extras={"emb": torch.zeros(3)})
    value.check(value.spec)


def broken_rank(value: Adapter) -> Adapter:
    return Adapter(value.spec, {**value.modules, LINEAR: delta((12, 10), (1.0, 5))})


def broken_shape(value: Adapter) -> Adapter:
    return Adapter(value.spec, {**value.modules, LINEAR: delta((12, 11), (1.0, 4))})


def missing_module(value: Adapter) -> Adapter:
    return Adapter(value.spec, {k: v for k, v in value.modules.items() if k != CONV})


def another_spec(value: Adapter) -> Adapter:
    return Adapter(replace(value.spec, dtype="F16"), value.modules)


def another_extra(value: Adapter) -> Adapter:
    return Adapter(value.spec, value.modules, {"emb": torch.zeros(3)})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            broken_rank,
            "attn.to_q.weight: the result has shape [12, 10] and rank 5 where shape [12, 10] and rank 4",
        ),
        (
            broken_shape,
            "attn.to_q.weight: the result has shape [12, 11] and rank 4 where shape [12, 10] and rank 4",
        ),
        (missing_module, "conv.weight: the module is only in one of the result and its spec"),
        (another_spec, "the result's spec is not the one that was inferred"),
        (another_extra, "the result's extra tensors are not those that were inferred"),
    ],
)
def test_a_value_that_breaks_its_spec_is_an_internal_fault(spoil: object, message: str) -> None:
    value = adapter()
    with pytest.raises(LorapipeError) as caught:
        spoil(value).check(value.spec)  # type: ignore[operator]
    assert (caught.value.code, caught.value.exit_status) == ("spec-not-kept", 1)
    assert str(caught.value).startswith(f"error: {message}")


def test_a_bound_admits_lower_ranks_and_nothing_else() -> None:
    value = adapter(rank=3)
    foretold = replace(adapter(rank=4).spec, bounded=True)
    value.check(foretold)
    for wrong in (
        adapter(rank=5),
        adapter(rank=3, family="sdxl"),
        adapter(rank=3, metadata={"k": "v"}),
        Adapter(replace(value.spec, bounded=True), value.modules),
        Adapter(value.spec, adapter(rank=4).modules),
    ):
        with pytest.raises(LorapipeError) as caught:
            wrong.check(foretold)
        assert caught.value.code == "spec-not-kept"
    with pytest.raises(LorapipeError):
        value.check(replace(foretold, bounded=False))


@pytest.mark.parametrize(
    ("found", "exact", "bound"),
    [
        ({"a": ("F16", (3, 4)), "b": ("F32", ())}, True, True),
        ({"a": ("F16", (3, 2)), "b": ("F32", ())}, False, True),
        ({"a": ("F16", (3, 5)), "b": ("F32", ())}, False, False),
        ({"a": ("F16", (3,)), "b": ("F32", ())}, False, False),
        ({"a": ("F32", (3, 2)), "b": ("F32", ())}, False, False),
        ({"b": ("F32", ()), "a": ("F16", (3, 2))}, False, False),
        ({"a": ("F16", (3, 2))}, False, True),
        ({"a": ("F16", (3, 2)), "c": ("F32", ())}, False, False),
    ],
)
def test_a_file_is_within_its_bounds(
    found: dict[str, tuple[str, tuple[int, ...]]], exact: bool, bound: bool
) -> None:
    tensors = {"a": TensorSpec("F16", (3, 4)), "b": TensorSpec("F32", ())}
    there = {name: TensorSpec(*known) for name, known in found.items()}
    assert FileSpec(tensors).admits(there) is exact
    assert FileSpec(tensors, bounded=True).admits(there) is bound


def test_a_module_that_turned_out_to_be_nothing_is_within_its_bound() -> None:
    foretold = replace(adapter(rank=4).spec, bounded=True)
    value = adapter(rank=3)
    empty = {**value.modules, LINEAR: delta((12, 10), (1.0, 0))}
    spec = replace(
        value.spec, modules={**value.spec.modules, LINEAR: replace(value.spec.modules[LINEAR], rank=0)}
    )
    Adapter(spec, empty).check(foretold)
    assert spec.modules[LINEAR].empty
    assert not spec.modules[CONV].empty
    operator = replace(spec.modules[LINEAR], form=Form("DoRA", additive=False))
    assert not operator.empty
