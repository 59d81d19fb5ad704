"""The numeric profile of a build, found without importing torch."""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from lorapipe.errors import RecipeError
from lorapipe.plan.lineage import Profile

__all__ = ["has_cuda", "has_mps", "profile", "torch_version"]


def profile(
    wanted: str,
    compute: str,
    locked: str | None,
    *,
    cuda: Callable[[], bool] | None = None,
    mps: Callable[[], bool] | None = None,
) -> tuple[str, Profile]:
    """The torch device to use, and the profile that goes into keys.

    ``auto`` keeps the device type of the lock, else takes cuda, mps, cpu, the first
    that is there. mps computes in float32 only, so ``auto`` passes it by for float64,
    and naming it then raises :class:`~lorapipe.errors.RecipeError`.
    """
    device = wanted
    if wanted == "auto":
        device = locked or _first(compute, cuda or has_cuda, mps or has_mps)
    kind = device.partition(":")[0]
    if kind == "mps" and compute == "float64":
        raise RecipeError(
            "no-float64",
            "mps has no float64",
            hint="'defaults: {compute: float32}' or '--device cpu'",
            option="device",
        )
    return device, Profile(torch=torch_version(), device=kind, compute=compute)


def _first(compute: str, cuda: Callable[[], bool], mps: Callable[[], bool]) -> str:
    if cuda():
        return "cuda"
    return "mps" if compute == "float32" and mps() else "cpu"


def torch_version() -> str:
    """The installed torch's release, build suffix dropped: ``2.13.0+cpu`` is 2.13.0."""
    try:
        return version("torch").partition("+")[0]
    except PackageNotFoundError:
        return "none"


def has_cuda() -> bool:
    """Whether torch was built for CUDA and the driver shows a device."""
    found = find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return False
    built = Path(found.submodule_search_locations[0], "version.py")
    if not built.is_file() or re.search(r"^cuda\b.*=\s*None", built.read_text(), re.MULTILINE):
        return False
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def has_mps() -> bool:
    """Whether this is a Mac with Apple's GPU."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"
