"""The numeric profile of a build, found without importing torch."""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from lorapipe.errors import RecipeError, UsageError
from lorapipe.plan.lineage import Profile

__all__ = ["HERE", "Machine", "choose_device", "cuda_devices", "has_mps", "torch_version"]

_DEVICE = re.compile(r"cpu|mps|cuda(?::([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a plan asks of the machine that will do the work; what is ``None`` is asked of this one.

    ``environment`` are its variables, ``cuda`` counts its CUDA devices, ``mps`` says whether it is a Mac.
    """

    environment: Mapping[str, str] | None = None
    cuda: Callable[[], int] | None = None
    mps: Callable[[], bool] | None = None


HERE = Machine()


def choose_device(
    wanted: str,
    compute: str,
    locked: str | None,
    *,
    cuda: Callable[[], int] | None = None,
    mps: Callable[[], bool] | None = None,
) -> tuple[str, Profile]:
    """The torch device to use, and the profile that goes into keys.

    ``auto`` keeps the device type of the lock, else takes cuda, mps, cpu, the first
    that is there. mps computes in float32 only, so ``auto`` passes it by for float64,
    and naming it then raises :class:`~lorapipe.errors.RecipeError`. ``cuda`` counts CUDA
    devices, ``mps`` says whether there is one.

    Raises :class:`~lorapipe.errors.UsageError` for a device that does not exist, or not here.
    """
    cuda, mps = cuda or cuda_devices, mps or has_mps
    device = wanted
    if wanted == "auto":
        device = locked or _first(compute, cuda, mps)
    kind = device.partition(":")[0]
    _check_there(device, cuda, mps)
    if kind == "mps" and compute == "float64":
        raise RecipeError(
            "no-float64",
            "mps has no float64",
            hint="'defaults: {compute: float32}' or '--device cpu'",
            option="device",
        )
    return device, Profile(torch=torch_version(), device=kind, compute=compute)


def _check_there(device: str, cuda: Callable[[], int], mps: Callable[[], bool]) -> None:
    named = _DEVICE.fullmatch(device)
    if named is None:
        hint = "the devices are auto, cpu, cuda, cuda:1 and so on, mps"
        raise UsageError("unknown-device", f"no device '{device}'", hint=hint)
    there = True
    if device.startswith("cuda"):
        there = int(named[1] or 0) < cuda()
    elif device == "mps":
        there = mps()
    if not there:
        raise UsageError(
            "no-device",
            f"there is no device '{device}' here that the installed torch can use",
            hint="'--device cpu' computes the same, if not in every last bit",
        )


def _first(compute: str, cuda: Callable[[], int], mps: Callable[[], bool]) -> str:
    if cuda():
        return "cuda"
    return "mps" if compute == "float32" and mps() else "cpu"


def torch_version() -> str:
    """The installed torch's release, build suffix dropped: ``2.13.0+cpu`` is 2.13.0."""
    try:
        return version("torch").partition("+")[0]
    except PackageNotFoundError:
        return "none"


def cuda_devices() -> int:
    """How many devices the CUDA driver shows; 0 where torch was not built for CUDA."""
    found = find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return 0
    built = Path(found.submodule_search_locations[0], "version.py")
    if not built.is_file() or re.search(r"^cuda\b.*=\s*None", built.read_text(), re.MULTILINE):
        return 0
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def has_mps() -> bool:
    """Whether this is a Mac with Apple's GPU."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"
