"""Which device a build takes, decided without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lorapipe.errors import RecipeError, UsageError
from lorapipe.plan.device import choose_device, torch_version


def _yes() -> bool:
    return True


def _no() -> bool:
    return False


@pytest.mark.parametrize(
    ("compute", "cuda", "mps", "expected"),
    [
        ("float64", _yes, _yes, "cuda"),
        ("float64", _no, _yes, "cpu"),
        ("float32", _no, _yes, "mps"),
        ("float32", _no, _no, "cpu"),
    ],
)
def test_auto_takes_cuda_then_mps_where_it_can_compute_then_cpu(
    compute: str, cuda: object, mps: object, expected: str
) -> None:
    device, _ = choose_device("auto", compute, None, cuda=cuda, mps=mps)  # type: ignore[arg-type]

    assert device == expected


def test_auto_keeps_the_device_type_of_the_lock() -> None:
    assert choose_device("auto", "float64", "cpu", cuda=_yes, mps=_no)[0] == "cpu"


def test_the_profile_has_the_device_type_not_its_number() -> None:
    device, numbers = choose_device("cuda:1", "float64", None, cuda=lambda: 2, mps=_no)

    assert (device, numbers.device) == ("cuda:1", "cuda")


def test_mps_with_float64_is_refused_with_the_remedy() -> None:
    with pytest.raises(RecipeError) as caught:
        choose_device("mps", "float64", None, cuda=_no, mps=_yes)

    assert caught.value.code == "no-float64"
    assert "float32" in str(caught.value)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "CPU", "", "cuda:1 "])
def test_a_device_that_does_not_exist_is_refused_with_those_that_do(device: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_device(device, "float64", None, cuda=_yes, mps=_yes)
    assert str(caught.value) == (
        f"error: no device '{device}' - the devices are auto, cpu, cuda, cuda:1 and so on, mps"
    )


@pytest.mark.parametrize(
    ("device", "locked"), [("cuda", None), ("cuda:1", None), ("mps", None), ("auto", "cuda")]
)
def test_a_device_that_is_not_here_is_refused_before_any_work(device: str, locked: str | None) -> None:
    one = _yes if device == "cuda:1" else _no
    with pytest.raises(UsageError) as caught:
        choose_device(device, "float32", locked, cuda=one, mps=_no)
    assert caught.value.code == "no-device"
    assert f"'{locked or device}'" in caught.value.message


def test_torchs_version_is_known_without_torch_and_without_its_build_suffix() -> None:
    import torch

    assert torch_version() == torch.__version__.partition("+")[0]
    code = (
        "import sys; from lorapipe.plan.device import choose_device;"
        "choose_device('auto', 'float64', None); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
