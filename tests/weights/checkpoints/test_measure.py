"""Norms, energies and differences of checkpoints against dense float64 sums, slab by slab."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lorapipe.build.engines.threads import ordered_map
from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import scale
from lorapipe.weights.checkpoints import edits, making
from lorapipe.weights.checkpoints.checkpoint import Checkpoint, merge
from lorapipe.weights.checkpoints.measure import differs, measure
from lorapipe.weights.inference.binding import bind
from lorapipe.weights.operators.ia3 import IA3
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.specs import AdapterSpec, Form, ModuleSpec, Spelling
from tests.weights.samples import LINEAR, Memory, adapter, checkpoint_spec, dense, to_numpy

from .test_quantised import model as scaled_model

Weights = dict[str, torch.Tensor]


def weights(dtype: torch.dtype = torch.float32, seed: int = 3) -> Weights:
    rng = np.random.default_rng(seed)
    shapes = {LINEAR.key: (12, 10), "conv.weight": (9, 5, 3, 3), "bias": (7,), "scale": ()}
    held = {key: torch.from_numpy(rng.standard_normal(s)).to(dtype) for key, s in shapes.items()}
    return {**held, "ids": torch.arange(5), "empty": torch.zeros(0, 4)}


def model(held: Weights | None = None) -> Checkpoint:
    source = Memory(held or weights())
    return Checkpoint(checkpoint_spec(source), source)


def merged(base: Checkpoint, value: Adapter, weight: float = 1.0) -> Checkpoint:
    return merge(base, [(weight, value, bind(value.spec, base.spec))])


def lora(factor: float = 1.0) -> Adapter:
    return scale(adapter(3, 0.5, shapes={LINEAR: (12, 10)}), factor)


def turned(gain: float) -> Adapter:
    """An operator on the one weight: IA3, which multiplies it."""
    spec = ModuleSpec((12, 0), 0, Spelling("q"), Form("IA3", additive=False, cuts=((0, 1),)))
    held = Operated((12, 0), 1.0, lambda: IA3(torch.full((12,), gain), on_input=False))
    return Adapter(AdapterSpec("sd1", {LINEAR: spec}, "F32"), {LINEAR: held})


@pytest.fixture
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two rows and slabs of two blocks, of which operators have others."""
    for module in (edits, making):
        monkeypatch.setattr(module, "BLOCK_ELEMENTS", 20, raising=False)
    monkeypatch.setattr(edits, "SLAB_ELEMENTS", 40)
    monkeypatch.setattr(edits, "OPERATED_ELEMENTS", 30)


# --- norms and energies -----------------------------------------------------------------


@pytest.mark.usefixtures("small_slabs")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_tensor_of_floats_has_its_norm_and_no_other_has_one(dtype: torch.dtype) -> None:
    held = weights(dtype)
    found = measure(model(held), each=ordered_map(2))
    assert list(found) == [LINEAR.key, "conv.weight", "bias", "scale", "empty"]
    for key, figure in found.items():
        assert figure.norm == pytest.approx(float(np.linalg.norm(to_numpy(held[key]))), rel=1e-14)
        assert figure.finite


@pytest.mark.usefixtures("small_slabs")
def test_of_a_merge_the_difference_is_the_delta_before_any_rounding() -> None:
    base = model(weights(torch.float16))
    (figure, *others) = measure(merged(base, lora(1e-5)), of=base).values()
    delta = 1e-5 * dense(lora().delta(LINEAR))
    whole = to_numpy(weights(torch.float16)[LINEAR.key])
    assert figure.left == pytest.approx(float(np.linalg.norm(delta)), rel=1e-9)
    assert figure.whole == pytest.approx(float(np.linalg.norm(whole)), rel=1e-14)
    assert figure.norm == pytest.approx(float(np.linalg.norm(whole + delta)), rel=1e-14)
    assert [other.left for other in others] == [0.0] * 4
    assert all(other.energy == 1.0 for other in others)
    assert [other.whole for other in others] == [other.norm for other in others]
    assert isinstance(base.source, Memory)
    assert sum(key == "bias" for key, *_ in base.source.reads) == 1


@pytest.mark.usefixtures("small_slabs")
def test_checkpoints_in_other_slabs_are_compared_row_by_row() -> None:
    """An operator has slabs of its own; those of the other side are laid beside them."""
    base = model()
    whole = to_numpy(weights()[LINEAR.key])
    for one, two in ((merged(base, turned(0.25)), base), (base, merged(base, turned(0.25)))):
        figure = measure(one, of=two)[LINEAR.key]
        assert figure.left == pytest.approx(0.25 * float(np.linalg.norm(whole)), rel=1e-14)


@pytest.mark.usefixtures("small_slabs")
@pytest.mark.parametrize("grid", ["tensor", "rows", "blocks", "grid"])
def test_scaled_fp8_is_measured_as_its_true_values_and_its_scales_are_not(grid: str) -> None:
    value, true = scaled_model(grid)
    found = measure(value)
    assert list(found) == ["m.weight", "m.bias"]
    assert found["m.weight"].norm == pytest.approx(float(np.linalg.norm(true)), rel=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", [LINEAR.key, "conv.weight", "scale"])
def test_a_number_that_is_none_is_found_wherever_it_is(key: str, bad: float) -> None:
    held = weights(torch.float16)
    held[key].view(-1)[-1] = bad
    for value in (model(held), merged(model(held), lora())):
        assert [k for k, figure in measure(value).items() if not figure.finite] == [key]


# --- differences ------------------------------------------------------------------------


def test_a_checkpoint_differs_from_what_it_was_merged_into_in_the_first_tensor_that_is_other() -> None:
    base = model()
    assert differs(merged(base, lora()), base) == LINEAR.key
    assert differs(base, merged(base, lora())) == LINEAR.key
    assert differs(base, base) is None
    assert differs(merged(base, lora()), merged(base, lora())) is None


@pytest.mark.parametrize(
    ("dtype", "lost"), [(torch.float32, 1e-9), (torch.float16, 1e-5), (torch.bfloat16, 1e-4)]
)
def test_a_merge_that_is_lost_in_rounding_is_no_difference(dtype: torch.dtype, lost: float) -> None:
    held = weights(dtype)
    held[LINEAR.key].abs_().add_(1.0)  # nowhere near 0, where numbers are dense
    base = model(held)
    assert differs(merged(base, lora(lost)), base) is None
    assert differs(merged(base, lora(lost * 1e4)), base) == LINEAR.key


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_a_zero_whose_sign_a_lost_merge_turned_is_the_same_number(dtype: torch.dtype) -> None:
    held = weights()
    held[LINEAR.key].zero_()
    base = model({key: w.to(dtype) if w.is_floating_point() else w for key, w in held.items()})
    lost = merged(base, lora(1e-60))
    made = b"".join(lost.chunks(LINEAR.key, slab=(0, 12)))
    assert set(made) == {0, 0x80}, "some zeros are negative"
    assert differs(lost, base) is None
    assert differs(base, lost) is None


def test_tensors_that_nothing_changes_are_not_read_where_both_are_of_one_file() -> None:
    base = model()
    assert isinstance(base.source, Memory)
    assert differs(merged(base, lora(1e-12)), base) is None
    assert {key for key, *_ in base.source.reads} == {LINEAR.key}


def test_one_number_of_another_file_is_enough_in_any_tensor() -> None:
    for key in ("conv.weight", "ids", "scale"):
        other = weights()
        other[key].view(-1)[-1] += 1
        assert differs(model(), model(other)) == key
    assert differs(model(), model(weights())) is None


@pytest.mark.usefixtures("small_slabs")
def test_an_operator_differs_where_it_does_something() -> None:
    base = model()
    assert differs(merged(base, turned(0.25)), base) == LINEAR.key
    assert differs(base, merged(base, turned(0.25))) == LINEAR.key
    assert differs(merged(base, turned(0.0)), base) is None
    assert differs(merged(base, turned(0.25)), merged(base, turned(0.25))) is None


def test_what_has_no_place_in_its_type_is_a_difference() -> None:
    base = model(weights(torch.float16))
    assert differs(merged(base, lora(1e6)), base) == LINEAR.key


@pytest.mark.parametrize("grid", ["tensor", "grid"])
def test_scaled_fp8_differs_by_its_values(grid: str) -> None:
    base, _ = scaled_model(grid)
    again, _ = scaled_model(grid)
    assert differs(base, again) is None
    assert differs(merged(base, lora()), base) == "m.weight"


def test_a_fault_of_the_source_is_not_taken_for_a_difference() -> None:
    class Broken(Memory):
        def read(self, name: str, start: int = 0, stop: int | None = None) -> bytearray:
            raise BuildError("gone", "the file is gone")

    odd = replace(model(), source=Broken(weights()))
    with pytest.raises(BuildError, match="gone"):
        differs(model(), odd)
