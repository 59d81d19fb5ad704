"""A module's weight is the rows of it that a checkpoint keeps, however it keeps them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.checkpoints.checkpoint import Checkpoint, merge
from lorapipe.weights.checkpoints.weights import Weights
from lorapipe.weights.inference.binding import Binding, Bound
from lorapipe.weights.specs import ModuleId
from tests.weights.samples import CONV, Memory, adapter_of, checkpoint_spec, delta, dense, to_numpy

Q, QKV = ModuleId("te", "qkv.weight", (2, 4)), ModuleId("te", "qkv.weight")

HELD = {
    "conv": torch.randn(9, 5, 3, 3, generator=torch.Generator().manual_seed(0)).half(),
    "fused": torch.randn(6, 8, generator=torch.Generator().manual_seed(1)).bfloat16(),
    "turned": torch.randn(8, 6, generator=torch.Generator().manual_seed(2)),
}


def weights(*bound: Bound, compute: str = "float64", held: dict[str, torch.Tensor] = HELD) -> Weights:
    source = Memory(held)
    return Weights.of(Checkpoint(checkpoint_spec(source), source), Binding(bound), "base", compute, "cpu")


def test_a_kernel_is_a_matrix_in_the_compute_type() -> None:
    found = weights(Bound(CONV, "conv")).matrix(CONV)
    assert found.dtype == torch.float64
    np.testing.assert_array_equal(found.numpy(), to_numpy(HELD["conv"]).reshape(9, 45))
    assert weights(Bound(CONV, "conv"), compute="float32").matrix(CONV).dtype == torch.float32


def test_of_a_fused_weight_there_are_the_modules_rows() -> None:
    found = weights(Bound(Q, "fused", (2, 4))).matrix(Q)
    np.testing.assert_array_equal(found.numpy(), to_numpy(HELD["fused"])[2:4])


def test_rows_that_a_file_keeps_apart_are_joined_in_the_modules_order() -> None:
    apart = (Bound(QKV, "turned", (0, 3), (6, 9)), Bound(QKV, "fused", None, (0, 6)))
    held = {"fused": HELD["fused"], "turned": torch.arange(24.0).reshape(3, 8)}
    found = weights(*apart, held=held).matrix(QKV)
    np.testing.assert_array_equal(
        found.numpy(), np.concatenate([to_numpy(held["fused"]), to_numpy(held["turned"])])
    )


def test_a_transposed_tensor_is_turned_back() -> None:
    found = weights(Bound(QKV, "turned", None, None, transposed=True)).matrix(QKV)
    np.testing.assert_array_equal(found.numpy(), to_numpy(HELD["turned"]).T)


def test_a_merge_is_taken_as_it_is_before_any_rounding() -> None:
    source = Memory(HELD)
    held, added = Binding((Bound(CONV, "conv"),)), delta((9, 5, 3, 3), (0.3, 2))
    merged = merge(Checkpoint(checkpoint_spec(source), source), [(-0.7, adapter_of({CONV: added}), held)])
    found = Weights.of(merged, held, "merged", "float64", "cpu").matrix(CONV)
    exact = to_numpy(HELD["conv"]).reshape(9, 45) - 0.7 * dense(added)
    np.testing.assert_allclose(found.numpy(), exact, rtol=0, atol=1e-14)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_named(bad: float) -> None:
    broken = {"conv": HELD["conv"].clone()}
    broken["conv"][3, 2, 1, 1] = bad
    with pytest.raises(BuildError, match="the weight of 'base' holds NaN or Inf") as caught:
        weights(Bound(CONV, "conv"), held=broken).matrix(CONV)
    assert caught.value.code == "not-finite"
