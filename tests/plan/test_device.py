"""Which device a build takes, decided without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lorapipe.errors import RecipeError
from lorapipe.plan.device import profile, torch_version


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
    device, _ = profile("auto", compute, None, cuda=cuda, mps=mps)  # type: ignore[arg-type]

    assert device == expected


def test_auto_keeps_the_device_type_of_the_lock() -> None:
    assert profile("auto", "float64", "cpu", cuda=_yes, mps=_no)[0] == "cpu"


def test_the_profile_has_the_device_type_not_its_number() -> None:
    device, numbers = profile("cuda:1", "float64", None, cuda=_yes, mps=_no)

    assert (device, numbers.device) == ("cuda:1", "cuda")


def test_mps_with_float64_is_refused_with_the_remedy() -> None:
    with pytest.raises(RecipeError) as caught:
        profile("mps", "float64", None, cuda=_no, mps=_yes)

    assert caught.value.code == "no-float64"
    assert "float32" in str(caught.value)


def test_torchs_version_is_known_without_torch_and_without_its_build_suffix() -> None:
    import torch

    assert torch_version() == torch.__version__.partition("+")[0]
    code = (
        "import sys; from lorapipe.plan.device import profile;"
        "profile('auto', 'float64', None); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
