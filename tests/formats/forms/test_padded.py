"""LoRAs for weights that are padded first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lorapipe.errors import InputError
from lorapipe.formats.forms.form import Misshapen
from lorapipe.formats.forms.padded import FORM
from lorapipe.weights.specs import TensorSpec

from .kit import DTYPES, array, numbers
from .operators import close, weight


def lora(columns: tuple[int, ...] = (9,), dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    kernel = tuple(1 for _ in columns[1:])
    tensors = numbers(1, dtype, lora_up__weight=(6, 2, *kernel), lora_down__weight=(2, *columns))
    return {**tensors, ".reshape_weight": torch.tensor([6, *columns])}


def padded(tensors: dict[str, Tensor], alpha: float | None = None):  # type: ignore[no-untyped-def]
    return FORM.value({role: (lambda t=t: t) for role, t in tensors.items()}, alpha)  # type: ignore[misc]


@pytest.mark.parametrize(("shape", "columns"), [((6, 5), (9,)), ((4, 9), (9,)), ((6, 3, 3, 3), (4, 3, 3))])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strength", [1.0, -0.4])
def test_zeros_fill_the_weight_up_and_the_delta_is_added(
    shape: tuple[int, ...], columns: tuple[int, ...], dtype: torch.dtype, strength: float
) -> None:
    tensors, w = lora(columns, dtype), weight(*shape)
    expected = np.zeros((6, *columns))
    expected[tuple(slice(size) for size in shape)] = w
    up, down = (array(tensors[f".lora_{name}.weight"]) for name in ("up", "down"))
    expected += strength * 1.5 * (up.reshape(6, -1) @ down.reshape(2, -1)).reshape(expected.shape)
    found = padded(tensors, 3.0).apply(torch.from_numpy(w), strength).numpy()
    close(found, expected)


def specs_of(tensors: dict[str, Tensor]) -> dict[str, object]:
    return {role: TensorSpec("F32", tuple(tensor.shape)) for role, tensor in tensors.items()}


def test_what_is_measured_is_the_larger_weight_which_grows() -> None:
    known = FORM.measure(specs_of(lora()))  # type: ignore[arg-type]
    assert (known.shape, known.rank, known.divisor, known.grows) == ((6, 9), 0, 2, True)


def test_it_is_written_as_it_was_read() -> None:
    tensors = lora()
    written = padded(tensors, 3.0).written()
    assert all(torch.equal(written[role], tensor) for role, tensor in tensors.items())
    assert float(written[".alpha"]) == 3.0


@pytest.mark.parametrize("target", [[6, 8], [9, 6], [6, -9], [54, 1]])
def test_a_shape_that_is_not_that_of_the_factors_is_refused(target: list[int]) -> None:
    with pytest.raises(InputError) as caught:
        padded({**lora(), ".reshape_weight": torch.tensor(target)})
    assert caught.value.code == "bad-factor-shape"
    assert caught.value.message == f"it is to be of shape {target}, its factors are [6, 9]"


def test_a_shape_of_other_axes_is_refused_by_its_header() -> None:
    with pytest.raises(Misshapen, match=r"reshape_weight \[4\]"):
        FORM.measure(specs_of({**lora(), ".reshape_weight": torch.tensor([6, 9, 1, 1])}))  # type: ignore[arg-type]


def test_where_a_reader_knows_what_is_meant_the_factors_tell_the_shape() -> None:
    tensors = lora()
    del tensors[".reshape_weight"]
    known = FORM.measure(specs_of(tensors))  # type: ignore[arg-type]
    assert (known.shape, known.grows) == ((6, 9), True)
    assert padded(tensors).apply(torch.zeros(6, 5, dtype=torch.float64), 1.0).shape == (6, 9)
