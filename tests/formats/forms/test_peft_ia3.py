"""PEFT's IA3: factors of rows and biases, or of input channels, by shape or by config."""

from __future__ import annotations

import pytest

from lorapipe.formats.forms.form import AdapterForm
from lorapipe.formats.forms.peft_ia3 import FORM

from .kit import array, measured, numbers, refused
from .operators import close, made, weight


def configured(*, feedforward: bool) -> AdapterForm:
    assert FORM.configured is not None
    return FORM.configured({"feedforward": feedforward})


@pytest.mark.parametrize(
    ("form", "gain", "shape"),
    [
        (FORM, (6, 1), (6, 5)),
        (configured(feedforward=False), (6, 1), (6, 5)),
        (configured(feedforward=False), (1, 6, 1, 1), (6, 5, 3, 3)),
    ],
)
def test_rows_are_multiplied_and_their_bias(
    form: AdapterForm, gain: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    tensors, w = numbers(1, ia3_l=gain), weight(*shape)
    factor = array(tensors[".ia3_l"]).reshape(-1, *(1 for _ in shape[1:]))
    close(made(form, tensors, w), w * factor)
    known = measured(form, tensors)
    assert (known.shape, known.biased, known.cuts) == ((6, 0), True, ((6, 1),))


@pytest.mark.parametrize(
    ("form", "gain", "shape", "open_shape"),
    [
        (FORM, (1, 5), (6, 5), (0, 5)),
        (configured(feedforward=True), (1, 5), (6, 5), (0, 5)),
        (configured(feedforward=True), (1, 5, 1, 1), (6, 5, 3, 3), (0, 5, 0, 0)),
    ],
)
def test_input_channels_of_feed_forward_layers_are_multiplied_and_no_bias(
    form: AdapterForm, gain: tuple[int, ...], shape: tuple[int, ...], open_shape: tuple[int, ...]
) -> None:
    tensors, w = numbers(1, ia3_l=gain), weight(*shape)
    factor = array(tensors[".ia3_l"]).reshape(-1, *(1 for _ in shape[2:]))
    close(made(form, tensors, w), w * factor)
    known = measured(form, tensors)
    assert (known.shape, known.biased) == (open_shape, False)


def test_a_convolutions_side_is_not_guessed() -> None:
    code, text = refused(FORM, numbers(1, ia3_l=(1, 6, 1, 1)))
    assert code == "half-missing"
    assert text == "ia3_l [1, 6, 1, 1], whose side only adapter_config.json says"


@pytest.mark.parametrize("gain", [(6,), (2, 3), (0, 1)])
def test_other_shapes_are_refused(gain: tuple[int, ...]) -> None:
    assert refused(FORM, numbers(1, ia3_l=gain)) == ("bad-factor-shape", f"ia3_l {list(gain)}")
